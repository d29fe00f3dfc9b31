"""A callback for runs of the tests, which train.py imports by its name."""

import json
import os
import signal
from pathlib import Path

import lightning as L


class EndAt(L.Callback):
    """Kills one rank as it begins its next batch after so many optimiser steps."""

    def __init__(self, step: int, rank: int):
        self.step, self.rank = step, rank

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int) -> None:
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), signal.SIGKILL)


class Trouble(L.Callback):
    """After the first epoch of a job whose number is in the file `jobs`: crashes it, or kills it, as the file says.

    jobs: JSON, such as {"1": "crash", "4": "kill"}
    """

    def __init__(self, jobs: str):
        self.jobs = jobs

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trouble = json.loads(Path(self.jobs).read_text()).get(Path(trainer.default_root_dir).name)
        if trainer.current_epoch == 1 and trouble == "crash":
            raise RuntimeError("made to crash")
        if trainer.current_epoch == 1 and trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
