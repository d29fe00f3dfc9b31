"""How the learning rate falls after the warm-up. Steps are optimiser steps, counted from 0."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol


class Schedule(Protocol):
    def rate(self, lr: float, step: int, warmup: int, num_steps: int, steps_per_epoch: int) -> float:
        """The rate of a step for a highest rate `lr`; within the warm-up, the rate that it leads to."""
        ...

    def told(self, scale: float) -> str:
        """In words, with all rates times `scale`."""
        ...


class Cosine:
    """Half a cosine from the highest rate to `end_lr` at the last step.

    after_warmup: whether it begins where the warm-up ends, as in SlowFast (COSINE_AFTER_WARMUP) and VideoMAE, or with
        the first step, as in scenic, where the warm-up is a factor on it
    """

    def __init__(self, end_lr: float, after_warmup: bool):
        if end_lr < 0:
            raise ValueError(f"optim.schedule.end_lr={end_lr} is not at least 0")
        self.end_lr, self.after_warmup = end_lr, after_warmup

    def rate(self, lr: float, step: int, warmup: int, num_steps: int, steps_per_epoch: int) -> float:
        first = warmup if self.after_warmup else 0
        done = min(max(step - first, 0) / max(num_steps - 1 - first, 1), 1.0)
        return self.end_lr + (lr - self.end_lr) * 0.5 * (1 + math.cos(math.pi * done))

    def told(self, scale: float) -> str:
        return f"cosine {'after it' if self.after_warmup else 'from the first step'} to {self.end_lr * scale:g}"


class Steps:
    """The highest rate times a factor, which changes at the beginning of some epochs.

    epochs: counted from 0, in order; factors: one for each
    """

    def __init__(self, epochs: Sequence[int], factors: Sequence[float]):
        if len(epochs) != len(factors) or any(a >= b for a, b in pairwise([0, *epochs])) or min(factors, default=1) < 0:
            raise ValueError(
                f"optim.schedule: epochs={list(epochs)} factors={list(factors)} are not epochs in order, above 0, "
                "and as many factors of at least 0"
            )
        self.epochs, self.factors = epochs, factors

    def rate(self, lr: float, step: int, warmup: int, num_steps: int, steps_per_epoch: int) -> float:
        passed = sum(step >= epoch * steps_per_epoch for epoch in self.epochs)
        return lr * (self.factors[passed - 1] if passed else 1.0)

    def told(self, scale: float) -> str:
        pairs = zip(self.epochs, self.factors, strict=True)
        return ", ".join(f"x {factor:g} from epoch {epoch}" for epoch, factor in pairs)
