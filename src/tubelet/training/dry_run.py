"""dry_run=true: some steps of a run with its own loader, model and devices, and what the whole run would take.

Nothing is kept: no checkpoint, no W&B run, no test, and the folder of the run is removed.
"""

import logging
import math
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from hydra.utils import get_class
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig

from tubelet.training import build
from tubelet.training.alone import LOCK
from tubelet.training.classifier import Classifier, limited
from tubelet.training.data import VideoData
from tubelet.training.memory import peak_memory_mib
from tubelet.training.ranks import children_run, is_first_rank
from tubelet.training.record import recorded
from tubelet.training.train import assemble, begin, one
from tubelet.training.waiting import ROUNDS, Waiting, warm_up

log = logging.getLogger(__name__)
STEPS = 20  # that are measured at least, after the batches of the warm-up
VAL_BATCHES = 6
FILES = ("train.log", "config.yaml", "metrics.json", "quarantine.jsonl", LOCK)  # of a folder that holds nothing else


class Validated(L.Callback):
    """Measures batches of the validation before training."""

    def __init__(self) -> None:
        self.batches: list[float] = []  # seconds of each

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._last = time.monotonic()

    def on_validation_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        if module.device.type == "cuda":  # which works on after the batch has been handed to it
            torch.cuda.synchronize(module.device)
        now = time.monotonic()
        self.batches.append(now - self._last)
        self._last = now


class StopAfter(L.Callback):
    """Ends training when the warm-up and the measured steps are over, also where the run would end before them.

    num_steps: optimiser steps of the whole run; measured: those of the trial
    """

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.num_steps = module.num_steps()
        trainer.fit_loop.max_epochs = trainer.fit_loop.epoch_loop.max_steps = -1
        accumulated, num_workers = trainer.accumulate_grad_batches, trainer.datamodule.num_workers
        self.measured = num_measured(num_workers, accumulated)
        self._last = math.ceil(warm_up(num_workers) / accumulated) + self.measured

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        trainer.should_stop = trainer.global_step >= self._last


def num_measured(num_workers: int, accumulated: int) -> int:
    """Steps: as many as have whole rounds of batches, one of each loading process."""
    rounds = max(ROUNDS, math.ceil(STEPS * accumulated / max(num_workers, 1)))
    return max(STEPS, math.ceil(rounds * num_workers / accumulated))


@dataclass(frozen=True)
class Estimate:
    """data_time, step_time: seconds of a training batch: waiting for it, and all else
    batches: training batches of one rank in the whole run; clips: of one of them, on all devices
    val_time: seconds of a validation batch of one view; val_batches, test_batches: of one view, in the whole run
    """

    data_time: float
    step_time: float
    batches: int
    clips: int
    val_time: float
    val_batches: int
    test_batches: int
    devices: int
    peak_memory: float | None  # MiB, of this rank

    @property
    def clips_per_second(self) -> float:
        return self.clips / (self.data_time + self.step_time)

    @property
    def waiting(self) -> float:
        """Share of the training time."""
        return self.data_time / (self.data_time + self.step_time)

    @property
    def parts(self) -> dict[str, float]:
        """Seconds."""
        return {
            "training": self.batches * (self.data_time + self.step_time),
            "validation": self.val_batches * self.val_time,
            "test": self.test_batches * self.val_time,
        }

    @property
    def hours(self) -> float:
        return sum(self.parts.values()) / 3600

    def rows(self) -> dict[str, str]:
        parts = ", ".join(f"{name} {told_time(seconds)}" for name, seconds in self.parts.items())
        return {
            "whole run": f"{told_time(3600 * self.hours)}: {parts}",
            "device-hours": f"{self.devices * self.hours:.3g} ({self.devices} devices)",
            "speed": f"{self.clips_per_second:.4g} training clips/s",
            "waiting for data": f"{100 * self.waiting:.0f} % of the training time",
        }


def told_time(seconds: float) -> str:
    """In the unit that leaves two or three digits."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def dry_run(cfg: DictConfig, overrides: list[str]) -> Estimate:
    """Try the run out, print a table, remove the folder.

    Raises ValueError where the folder holds a run, and, before any step is taken, where nothing ends the run.
    """
    if is_first_rank() and Path(cfg.run_dir, "config.yaml").exists():
        raise ValueError(f"run_dir={cfg.run_dir} holds a run, and dry_run=true removes its folder; give another one")
    try:
        found = _tried(cfg, overrides)
        if is_first_rank():
            remove(Path(cfg.run_dir))
        return found
    finally:  # a failure leaves its log; without a config that is no run, and the next try may have the folder
        if is_first_rank():
            Path(cfg.run_dir, "config.yaml").unlink(missing_ok=True)


def _tried(cfg: DictConfig, overrides: list[str]) -> Estimate:
    catalogue = begin(cfg)
    with recorded(cfg.run_dir, name=cfg.name, overrides=overrides, dry_run=True) as record:
        classifier, data, trainer = assemble(cfg, catalogue, record, short_trainer)
        with children_run("dry_run", cfg.run_dir):
            trainer.fit(classifier, data)
    found = estimate(cfg, classifier, data, trainer)
    rows = found.rows() | {"peak memory": f"{found.peak_memory} MiB on {trainer.strategy.root_device}, of this rank"}
    rows["learning rate"] = classifier.optim.told()
    log.info("")
    log.info("dry run of %d steps of %d clips:", one(trainer, StopAfter).measured, cfg.optim.total_batch)
    for name, told in rows.items():
        log.info("  %-17s %s", name, told)
    return found


def short_trainer(cfg: DictConfig) -> L.Trainer:
    """One that validates a little before training and never again, logs nothing and saves nothing.

    Of the callbacks of the run it has the average of the weights, which takes time in each step, and memory.
    """
    short = cfg.copy()
    short.trainer.update(
        min_epochs=None,
        min_steps=None,
        max_time=None,
        num_sanity_val_steps=VAL_BATCHES,
        limit_val_batches=VAL_BATCHES,
        val_check_interval=None,
        check_val_every_n_epoch=sys.maxsize,
    )
    nodes = [node for node in (cfg.callbacks or {}).values() if node]
    averages = [build.build(node) for node in nodes if issubclass(get_class(node._target_), WeightAveraging)]
    return build.make_trainer(short, [*averages, Waiting(), Validated(), StopAfter()], [], progress_bar=False)


def estimate(cfg: DictConfig, classifier: Classifier, data: VideoData, trainer: L.Trainer) -> Estimate:
    """A view of the test takes what one of validation does."""
    steps, num_steps, of_run = classifier.steps_per_epoch(), one(trainer, StopAfter).num_steps, cfg.trainer
    accumulated = trainer.accumulate_grad_batches
    validations = num_validations(num_steps * accumulated, steps * accumulated, of_run)
    at_once = trainer.world_size * data.eval_batch_size
    val = limited(math.ceil(len(data.catalogue.val) / at_once), of_run.limit_val_batches)
    test = limited(math.ceil(len(data.catalogue.test) / at_once), of_run.limit_test_batches)
    return Estimate(
        **one(trainer, Waiting).times,
        batches=num_steps * accumulated,
        clips=data.batch_size * cfg.data.repeats * trainer.world_size,
        val_time=statistics.median(one(trainer, Validated).batches),
        val_batches=validations * val,
        test_batches=test * cfg.views.clips * cfg.views.crops,
        devices=trainer.world_size,
        peak_memory=peak_memory_mib(trainer.strategy.root_device),
    )


def num_validations(batches: int, of_epoch: int, trainer: DictConfig) -> int:
    """In so many training batches, of which an epoch has `of_epoch`. An interval of time counts as an epoch."""
    every, epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if isinstance(every, float):
        every = max(int(of_epoch * every), 1)
    elif not isinstance(every, int):
        every = of_epoch
    return batches // every if epochs is None else batches // of_epoch // epochs * (of_epoch // every)


def remove(run_dir: Path) -> None:
    for name in FILES:
        Path(run_dir, name).unlink(missing_ok=True)
    with suppress(OSError):  # where the user keeps something else there
        run_dir.rmdir()
