"""Exact resuming: where the data goes on, and which runs a checkpoint may be resumed by.

A run that is killed and resumed ends with the same weights, to the bit, as one that never was (on a CPU). For that the
order of videos and their augmentation come from (seed, epoch, video) alone; the loader remembers how many batches of
the epoch it has given; no loader draws from torch's global generator; and the checkpoint holds that generator.
"""

import hashlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from tubelet.evaluation.checkpoint import Checkpoint, load_checkpoint
from tubelet.training.last import FREE_OF_DATA, NEWEST, PREVIOUS
from tubelet.video.annotations import Video
from tubelet.weights.catalogue import STARTING_KEYS

log = logging.getLogger(__name__)
AVERAGING = "tubelet.training.averaging.AverageWeights"
# What must be the same in both runs. How long it trains, on what device, and what it logs may change.
KEPT = ("model", "clip", "data", "augment", "optim", "order", "frozen_at", "seed", "trainer")
KEPT_OF_TRAINER = ("precision", "limit_train_batches", "gradient_clip_algorithm")
FREE = {  # of these nodes, what may change
    "model": set(STARTING_KEYS),  # what the first run started from is in the checkpoint's weights
    "data": FREE_OF_DATA,
}


class ResumableLoader(DataLoader):
    """A training loader that knows how many batches of its epoch it has given; Lightning stores that number.

    Its sampler has a method `skip(samples)`, which leaves out the beginning of the next epoch that is read.

    waited: seconds in which whoever reads it had to wait for a batch, since it was made
    """

    _given, _resume_at = 0, 0
    waited = 0.0

    def __iter__(self) -> Iterator[Any]:
        self._given, self._resume_at = self._resume_at, 0
        self.sampler.skip(self._given * self.batch_size)
        start = time.monotonic()
        for batch in super().__iter__():
            self._given += 1
            self.waited += time.monotonic() - start
            yield batch
            start = time.monotonic()

    def state_dict(self) -> dict[str, int]:
        given = self._given % len(self)  # a finished epoch is the beginning of the next
        return {"given": given, "batch_size": self.batch_size, "world_size": self.sampler.world_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._resume_at = state["given"]


def recount(fit_loop: dict[str, Any], batch_size: int, world_size: int) -> None:
    """Let the state of Lightning's loop count the batches of this run, where those of the one it is from were larger
    or smaller: on R ranks, with batches of b videos, a batch is R * b videos of the one global order.

    Raises ValueError where what that run has seen is not a whole number of them.
    """
    loaders = fit_loop["state_dict"]["combined_loader"]
    then, now = loaders[0]["batch_size"] * loaders[0]["world_size"], batch_size * world_size
    counts = fit_loop["epoch_loop.batch_progress"]
    seen = counts["current"]["ready"] * then
    if seen % now:
        raise ValueError(
            f"ckpt was written after {seen} videos of an epoch, and that is not a whole number of batches of "
            f"data.batch_size={batch_size} videos on {world_size} ranks"
        )
    more = seen // now - counts["current"]["ready"]
    for part in ("current", "total"):
        counts[part] = {name: count + more for name, count in counts[part].items()}
    given = loaders[0]["given"] * then // now
    fit_loop["state_dict"]["combined_loader"] = [{"given": given, "batch_size": batch_size, "world_size": world_size}]


def uncount_cut_epoch(fit_loop: dict[str, Any], num_batches: int, accumulated: int) -> None:
    """Lightning counts an epoch that is ended within, by trainer.max_steps, as a whole one, and a resume would go on
    in the next one: let the state be that after its last batch.

    num_batches: of an epoch; accumulated: batches of an optimiser step
    """
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    seen = batches["current"]["ready"]
    if seen >= num_batches or epochs["current"]["processed"] < epochs["current"]["started"]:
        return
    for part in ("current", "total"):
        before = epochs[part]["started"] - 1
        epochs[part] |= {"processed": before, "completed": before}
        batches[part]["completed"] -= 1
    if seen % accumulated == 0:  # a resume counts this step for the loggers
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def tell_changed_rate(schedule: LambdaLR) -> None:
    """Where a run is resumed with more steps, or fewer, its learning rate jumps to what the new schedule has there."""
    then, step = max(schedule.get_last_lr()), schedule.last_epoch
    now = max(lr * factor(step) for lr, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True))
    if not math.isclose(then, now, rel_tol=1e-6):
        told = (
            "resumed with another length (trainer.max_epochs, trainer.max_steps): after step %d the learning rate goes "
        )
        log.warning(told + "from %.3g to %.3g, where the new schedule is then", step, then, now)


def in_folder(state: Mapping[str, Any], dirpath: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose run now saves in `dirpath`: Lightning would forget what was best.

    Files are those of this folder, where they were moved or copied too, else where they were; empty where what was best
    is in neither.
    """

    def place(path: str) -> str:
        here = os.path.join(dirpath, os.path.relpath(path, state["dirpath"])) if path else path
        return here if os.path.exists(here) else path

    best = place(state["best_model_path"])
    if best and not os.path.exists(best):
        log.warning("%s is lost: the best checkpoint is from now on the best of what follows", best)
        return {}
    paths = {name: place(state[name]) for name in ("kth_best_model_path", "last_model_path")}
    kept = {place(path): score for path, score in state["best_k_models"].items()}
    return {**state, **paths, "dirpath": dirpath, "best_model_path": best, "best_k_models": kept}


def load_resumed(path: str) -> Checkpoint:
    """The checkpoint to go on from: where last.ckpt is lost or damaged, the one before it, which is told.

    Raises FileNotFoundError or ValueError where that cannot be read either.
    """
    try:
        return _load_whole(path)
    except (FileNotFoundError, ValueError) as error:
        before = Path(path).with_name(PREVIOUS)
        if Path(path).name != NEWEST or not before.exists():
            raise
        checkpoint = _load_whole(str(before))
        log.warning("%s; goes on from the one before it, %s", error, before)
        return checkpoint


def _load_whole(path: str) -> Checkpoint:
    """Compares the sums that torch stores with each tensor, which it does not do itself when it reads them."""
    checkpoint = load_checkpoint(path)
    with ZipFile(path) as file, suppress(BadZipFile):
        if file.testzip() is None:
            return checkpoint
    raise ValueError(f"ckpt={path} is damaged: its content is not what was written")


def check_resumable(checkpoint: Checkpoint, config: dict, classes: Sequence[str], finished: bool) -> None:
    """Raises ValueError where the checkpoint's run differs from this one in what decides its result.

    finished: whether that run was tested too; if not, one that has trained all its epochs is resumed for its test
    """
    checkpoint.check_classes(classes)
    for node in KEPT:
        then, now = (_kept(node, run[node]) for run in (checkpoint.config, config))
        difference = _difference(node, then, now)
        if difference:
            raise ValueError(f"ckpt={checkpoint.path} cannot be resumed: {difference}")
    then, now = (_averaging(run.get("callbacks")) for run in (checkpoint.config, config))
    if then != now:  # going on without it would go on from the average, as if that had been trained
        raise ValueError(f"ckpt={checkpoint.path} cannot be resumed: {_difference('averaging', then, now)}")
    epochs = config["trainer"]["max_epochs"]
    if finished and epochs is not None and checkpoint.epochs >= epochs > 0:
        raise ValueError(
            f"ckpt={checkpoint.path} cannot be resumed: its run has trained {checkpoint.epochs} of {epochs} epochs, so "
            "nothing is left; trainer.max_epochs=... goes further"
        )


def told_videos(videos: Sequence[Video], root: str | None) -> dict[str, int | str]:
    """Their number, and a digest of their paths below `root` and labels in the order of the list, from which the order
    of each epoch is drawn."""
    digest, below = hashlib.sha256(), os.path.normpath(root) + os.sep if root else ""
    for path, label in videos:
        digest.update(f"{label} {os.path.normpath(path).removeprefix(below)}\n".encode())
    return {"number": len(videos), "digest": digest.hexdigest()}


def check_videos(checkpoint: Checkpoint, found: Mapping[str, int | str]) -> None:
    """Raises ValueError where the training videos are not those of the checkpoint's run, in its order.

    found: as `told_videos` tells them
    """
    if checkpoint.videos is None:
        told = "ckpt=%s: older checkpoints do not say what they were trained on; these training videos must be the same"
        log.warning(told, checkpoint.path)
    elif checkpoint.videos != found:
        then, now = checkpoint.videos["number"], found["number"]
        differ = f"{then} training videos, this one has {now}"
        if then == now:
            differ = f"other training videos, or another order or other labels ({now} in both)"
        raise ValueError(
            f"ckpt={checkpoint.path} cannot be resumed: its run had {differ}, so its epochs would have another order; "
            "the lists of videos and the files under data.root must be as they were"
        )


def _kept(node: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if node == "trainer":
        return {key: value.get(key) for key in KEPT_OF_TRAINER}
    return {key: child for key, child in value.items() if key not in FREE.get(node, ())}


def _averaging(callbacks: Mapping[str, Any] | None) -> dict[str, Any] | None:
    nodes = filter(None, (callbacks or {}).values())
    return next((node for node in nodes if node["_target_"] == AVERAGING), None)


def _difference(path: str, then: Any, now: Any) -> str | None:
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = ((f"{path}.{key}", then.get(key), now.get(key)) for key in sorted({*then, *now}))
        return next(filter(None, (_difference(*pair) for pair in pairs)), None)
    return None if then == now else f"its run had {path}={then}, this one has {path}={now}"
