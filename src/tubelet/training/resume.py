"""Exact resuming: what a checkpoint must hold, when it is written, and how it is read again.

A run that is killed and resumed ends with the same weights, to the bit, as one that never was (on a CPU). For that the
order of videos and their augmentation come from (seed, epoch, video) alone; the loader remembers how many batches of
the epoch it has given; no loader draws from torch's global generator; and the checkpoint holds that generator.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from tubelet.evaluation.checkpoint import Checkpoint
from tubelet.evaluation.published import STARTING_KEYS


class ResumableLoader(DataLoader):
    """A training loader that knows how many batches of its epoch it has given; Lightning stores that number.

    Its sampler has a method `skip(samples)`, which leaves out the beginning of the next epoch that is read.
    """

    _given, _resume_at = 0, 0

    def __iter__(self) -> Iterator[Any]:
        self._given, self._resume_at = self._resume_at, 0
        self.sampler.skip(self._given * self.batch_size)
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self._given % len(self)}  # a finished epoch is the beginning of the next

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._resume_at = state["given"]


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: a kill never leaves half a file under its name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        partial = f"{path}.partial"
        with open(partial, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)


class SaveLast(L.Callback):
    """Keeps `last.ckpt` current, and ends a run cleanly on Ctrl-C or SIGTERM: after the step under way, and saved.

    dirpath: the folder of the checkpoint
    every_n_steps: optimiser steps between two saves within an epoch; the end of an epoch is always saved
    """

    def __init__(self, dirpath: str, every_n_steps: int):
        self.path, self.every_n_steps = os.path.join(dirpath, "last.ckpt"), every_n_steps
        self.received: int | None = None  # the signal that asked for the end
        self._generators: list[dict] = []
        self._handlers: dict[int, Any] = {}

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        own = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        states = [own] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(states, own)
        checkpoint["generators"] = states

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        self._generators = checkpoint["generators"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_rank < len(self._generators):  # a resume on more ranks has no state for the new ones
            own = self._generators[trainer.global_rank]
            torch.set_rng_state(own["cpu"])
            if torch.cuda.is_available() and len(own["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(own["cuda"])
        self._handlers = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(number, self._handlers[number])  # a second one ends the run at once

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # between two steps: gradients are not in a checkpoint
        asked = trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)
        due = trainer.global_step % self.every_n_steps == 0 and batch_idx + 1 < trainer.num_training_batches
        if asked or due:
            trainer.save_checkpoint(self.path)
        if asked:
            raise KeyboardInterrupt(self.received or signal.SIGINT)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.received is not None and trainer.world_size == 1:  # the newest save is at most every_n_steps old
            raise KeyboardInterrupt(self.received)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.path)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def check_resumable(checkpoint: Checkpoint, config: dict, classes: list[str]) -> None:
    """Raises ValueError where the checkpoint's run had another model, clip, data order or classes than this one."""
    if list(checkpoint.classes) != list(classes):
        raise ValueError(f"ckpt={checkpoint.path}: {other_classes(checkpoint.classes, classes)}")
    for node in ("model", "clip", "seed"):
        then, now = checkpoint.config[node], config[node]
        if node == "model":  # what the first run started from is in the checkpoint's weights
            then, now = ({k: v for k, v in n.items() if k not in STARTING_KEYS} for n in (then, now))
        difference = _difference(node, then, now)
        if difference:
            raise ValueError(f"ckpt={checkpoint.path} cannot be resumed: {difference}")


def _difference(path: str, then: Any, now: Any) -> str | None:
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = ((f"{path}.{key}", then.get(key), now.get(key)) for key in sorted({*then, *now}))
        return next(filter(None, (_difference(*pair) for pair in pairs)), None)
    return None if then == now else f"its run had {path}={then}, this one has {path}={now}"


def other_classes(trained: list[str], found: list[str]) -> str:
    """How two lists of classes differ, in words."""
    both = zip(trained, found, strict=False)
    first = next((i for i, (a, b) in enumerate(both) if a != b), min(len(trained), len(found)))
    names = [classes[first] if first < len(classes) else "nothing" for classes in (trained, found)]
    return (
        f"the checkpoint was trained on {len(trained)} classes, the data has {len(found)}; "
        f"the first that differs is class {first}: {names[0]} in the checkpoint, {names[1]} in the data"
    )
