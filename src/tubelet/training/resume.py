"""Exact resuming: where the data goes on, and which runs a checkpoint may be resumed by.

A run that is killed and resumed ends with the same weights, to the bit, as one that never was (on a CPU). For that the
order of videos and their augmentation come from (seed, epoch, video) alone; the loader remembers how many batches of
the epoch it has given; no loader draws from torch's global generator; and the checkpoint holds that generator.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader

from tubelet.evaluation.checkpoint import Checkpoint
from tubelet.weights.catalogue import STARTING_KEYS

# What must be the same in both runs. How long it trains, on what device, and what it logs may change.
KEPT = ("model", "clip", "data", "augment", "optim", "order", "frozen_at", "seed")
FREE = {  # of these nodes, what may change
    "model": set(STARTING_KEYS),  # what the first run started from is in the checkpoint's weights
    "data": {
        *("root", "eval_batch_size", "num_workers", "reader", "on_error", "max_failed", "batch_size", "index"),
        *("time_limit",),
    },
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
        """Raises ValueError where batches are counted otherwise than in the run that is resumed."""
        now = {"batch_size": self.batch_size, "world_size": self.sampler.world_size}
        then = {key: state[key] for key in now}
        if state["given"] and then != now:
            raise ValueError(
                f"ckpt was written within an epoch, with data.batch_size={then['batch_size']} on {then['world_size']} "
                f"devices, and cannot be resumed with data.batch_size={now['batch_size']} on {now['world_size']}; "
                "from the end of an epoch it could"
            )
        self._resume_at = state["given"]


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
    epochs = config["trainer"]["max_epochs"]
    if finished and epochs is not None and checkpoint.epochs >= epochs > 0:
        raise ValueError(
            f"ckpt={checkpoint.path} cannot be resumed: its run has trained {checkpoint.epochs} of {epochs} epochs, so "
            "nothing is left; trainer.max_epochs=... goes further"
        )


def _kept(node: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: child for key, child in value.items() if key not in FREE.get(node, ())}


def _difference(path: str, then: Any, now: Any) -> str | None:
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = ((f"{path}.{key}", then.get(key), now.get(key)) for key in sorted({*then, *now}))
        return next(filter(None, (_difference(*pair) for pair in pairs)), None)
    return None if then == now else f"its run had {path}={then}, this one has {path}={now}"
