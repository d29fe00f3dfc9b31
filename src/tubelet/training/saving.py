"""When checkpoints are written, and how: whole or not at all, also when a signal ends the run."""

import logging
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, Timer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from tubelet.evaluation.whole import wait_for_disk
from tubelet.training.last import NEWEST, PREVIOUS
from tubelet.training.resume import in_folder, recount, tell_changed_rate, uncount_cut_epoch
from tubelet.video.dataset import sample_seed

log = logging.getLogger(__name__)
# What ends a run cleanly. SLURM and submitit send SIGUSR1 or SIGUSR2 some time before they end a job.
ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
OUT_OF_TIME = 1  # among the numbers of those signals
STOPPED = "stopped"  # the status in metrics.json of a run whose time was over
OF_RANK = -1000  # in the place of a view: what a rank draws for itself


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: a kill never leaves half a file under its name.

    The last.ckpt that was there stays as previous.ckpt, for where a disk loses or damages the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        partial = path.with_name(f"{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(checkpoint, partial)
            wait_for_disk(partial)
            if path.name == NEWEST and path.exists():
                os.replace(path, path.with_name(PREVIOUS))
            os.replace(partial, path)  # at once, so that there is hardly a moment without a last.ckpt
        except (OSError, RuntimeError) as error:  # torch tells a full disk in words of its own
            raise OSError(
                f"{os.path.relpath(path)} was not written, {shutil.disk_usage(path.parent).free / 2**20:.0f} MiB are "
                f"free there: {error}; what was saved before is whole, and ckpt=last goes on from it"
            ) from error
        finally:
            partial.unlink(missing_ok=True)


def validates_after(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch, by `trainer.val_check_interval` in batches or shares of an epoch."""
    if not isinstance(trainer.val_check_batch, int):  # an interval of time
        return False
    of_epochs = trainer.check_val_every_n_epoch is not None
    batches = batch_idx if of_epochs else trainer.fit_loop.total_batch_idx
    return (batches + 1) % trainer.val_check_batch == 0


class OutOfTime(Exception):
    """`trainer.max_time` is over, and all that a resume needs is saved."""


class SaveLast(Checkpoint):
    """Keeps `last.ckpt` current, and ends a run cleanly on a signal of ASKING: after the step under way, and saved.
    The same, with OutOfTime, where TimeLimit asks for it.

    Within a validation, and between the step before it and the validation, one process ends without saving: a
    checkpoint from there would be resumed without that validation. Several end after it, since they must agree.

    Lightning calls the callbacks that save after all others; of those it must be the last, since the others' states
    are in its checkpoint.

    dirpath: the folder of the checkpoint
    every_n_steps: optimiser steps between two saves within an epoch; the end of an epoch is always saved
    """

    def __init__(self, dirpath: str, every_n_steps: int):
        self.path, self.every_n_steps = os.path.join(dirpath, NEWEST), every_n_steps
        self.received: int | None = None  # the signal that asked for the end, or OUT_OF_TIME
        self._generators: list[dict] = []
        self._handlers: dict[int, Any] = {}
        self._ranks: dist.ProcessGroup | None = None  # asked on the CPU: an answer from a GPU would wait for its steps

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        # Else Lightning restarts, where max_steps is given, an epoch that was over, and so leaves out the next one.
        trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        own = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        states = [own] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(states, own)
        checkpoint["generators"] = states
        batches = trainer.num_training_batches, trainer.accumulate_grad_batches
        uncount_cut_epoch(checkpoint["loops"]["fit_loop"], *batches)

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        self._generators = checkpoint["generators"]
        if trainer.state.fn == TrainerFn.FITTING:  # the loops are restored after this
            recount(checkpoint["loops"]["fit_loop"], trainer.datamodule.batch_size, trainer.world_size)
        states = checkpoint["callbacks"]
        for keeping in trainer.checkpoint_callbacks:
            if isinstance(keeping, ModelCheckpoint) and keeping.state_key in states:
                states[keeping.state_key] = in_folder(states[keeping.state_key], str(keeping.dirpath))

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        rank = trainer.global_rank
        if self._generators:  # resumed
            for config in trainer.lr_scheduler_configs:
                tell_changed_rate(config.scheduler)
        if rank < len(self._generators):  # a resume on more ranks has no state for the new ones
            self._restore(**self._generators[rank])
        elif rank > 0:  # all ranks began with the same seed, and would drop the same
            torch.manual_seed(sample_seed(torch.initial_seed(), trainer.global_step, rank, OF_RANK))
        if trainer.world_size > 1:
            self._ranks = dist.new_group(backend="gloo")
        self._handlers = {s: signal.signal(s, self._note) for s in ASKING}

    def _restore(self, cpu: Tensor, cuda: list[Tensor]) -> None:
        torch.set_rng_state(cpu)
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if len(cuda) == here:
            torch.cuda.set_rng_state_all(cuda)
        else:
            log.warning("resumed with %d GPUs, saved with %d: their generators begin anew", here, len(cuda))

    def _note(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(number, self._handlers[number])  # a second one ends the run at once

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches  # gradients are not in a checkpoint
        if between_steps or batch_idx + 1 >= trainer.num_training_batches or validates_after(trainer, batch_idx):
            return
        asked = self._asked(trainer)
        if asked or trainer.global_step % self.every_n_steps == 0:
            trainer.save_checkpoint(self.path)
        self._end(asked)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.received in ASKING and trainer.world_size == 1:
            raise KeyboardInterrupt(self.received)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.path)
        self._end(self._asked(trainer))

    def _asked(self, trainer: L.Trainer) -> int:
        """What asked any rank to end, the same on all: a signal, OUT_OF_TIME, or 0; every rank must call it."""
        asked = torch.tensor(self.received or 0, dtype=torch.int32)
        if trainer.world_size > 1:
            dist.all_reduce(asked, dist.ReduceOp.MAX, group=self._ranks)
        return int(asked)

    def _end(self, asked: int) -> None:
        if asked == OUT_OF_TIME:
            self._give_back_signals()  # Lightning tears nothing down after an exception, and this one ends no process
            raise OutOfTime
        if asked:
            raise KeyboardInterrupt(asked)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self._give_back_signals()

    def _give_back_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


class TimeLimit(L.Callback):
    """Asks SaveLast to end a run that has trained for `trainer.max_time`, anew after each resume.

    Lightning's own would end it between accumulated batches, after a validation that no other run has there, and would
    count the time before a resume.
    """

    def __init__(self, max_time: str | dict[str, int] | timedelta, last: SaveLast):
        self.timer, self.last = Timer(max_time), last

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.timer.on_train_start(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        left = self.timer.time_remaining()
        if left is not None and left <= 0:
            self.last.received = self.last.received or OUT_OF_TIME
