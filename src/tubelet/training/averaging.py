"""Weights averaged over the training (EMA): those that are validated, tested, and stored as the model's."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn


class AverageWeights(EMAWeightAveraging):
    """After each optimiser step, average = decay * average + (1 - decay) * weights; the first one is the weights.

    A checkpoint's `state_dict` holds the average, and `current_model_state` the weights that training goes on with.

    decay: 0.999 is about an average over the last thousand steps
    """

    def __init__(self, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"callbacks: decay={decay} of the average is not from 0 to below 1")
        super().__init__(decay=decay)

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Lightning copies the model before it moves it; each step would then fetch all weights from the GPU.
        self._average_model.to(module.device)

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # in the test after it, Lightning would put back the weights
            super().on_load_checkpoint(trainer, module, checkpoint)
