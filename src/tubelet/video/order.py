"""In which order the videos of a split are read, and by which rank."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One sample to load: the epoch it is drawn in, and the place of its video in the list."""

    epoch: int
    video: int


class TrainingOrder(Sampler[Draw]):
    """One permutation of all videos an epoch, from (seed, epoch); rank r of R takes every R-th, beginning with r.

    So step k of R ranks with batch b sees the very videos that step k of one rank with batch R * b sees. What is left
    over after whole optimiser steps waits for another epoch, where the permutation is another.

    step: videos of one optimiser step, over all ranks and accumulated batches
    """

    def __init__(self, num_videos: int, seed: int, step: int, rank: int, world_size: int):
        self.num_videos, self.seed, self.rank, self.world_size = num_videos, seed, rank, world_size
        self.used = num_videos // step * step
        self.epoch, self.skipped = 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def skip(self, samples: int) -> None:
        """Leave out the first samples of this rank the next time an epoch is read: they were seen before a resume."""
        self.skipped = samples

    def __len__(self) -> int:
        return self.used // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        first, self.skipped = self.skipped, 0
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_videos, generator=generator)[: self.used]
        yield from (Draw(self.epoch, index) for index in order[self.rank :: self.world_size].tolist()[first:])


class EvaluationOrder(Sampler[Draw]):
    """Every video exactly once over all ranks, none repeated to even them out; always the draws of epoch 0."""

    def __init__(self, num_videos: int, rank: int, world_size: int):
        self.indices = range(rank, num_videos, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Draw]:
        yield from (Draw(0, index) for index in self.indices)
