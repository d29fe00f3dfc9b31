"""Callbacks for runs of the tests, which train.py imports by its name."""

import json
import math
import os
import signal
from pathlib import Path

import lightning as L
from torch import nn


class EndAt(L.Callback):
    """Kills one rank as it begins its next batch after so many optimiser steps."""

    def __init__(self, step: int, rank: int):
        self.step, self.rank = step, rank

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int) -> None:
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), signal.SIGKILL)


class Trouble(L.Callback):
    """After the first epoch of a job whose number is in the file `jobs`: crash, kill or diverge, as the file says.

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
        if trainer.current_epoch == 1 and trouble == "diverge":
            for parameter in module.parameters():
                nn.init.constant_(parameter, math.nan)


class Answers(L.Callback):
    """Answers all videos of a validation rightly, and in the jobs whose numbers are in `wrong` wrongly."""

    def __init__(self, wrong: list[int]):
        self.wrong = wrong

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        index, label, failed, probabilities = module.answers.compute()
        right = nn.functional.one_hot(label, probabilities.shape[1]) * probabilities.sum(1, keepdim=True)  # 1, or NaN
        wrong = int(Path(trainer.default_root_dir).name) in self.wrong
        module.answers.reset()
        module.answers.update(index, label, failed, right.roll(1, dims=1) if wrong else right)


class NoteRate(L.Callback):
    """Writes the learning rate of each rank into lr.<rank>."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        Path(trainer.default_root_dir, f"lr.{trainer.global_rank}").write_text(repr(module.optim.lr))
