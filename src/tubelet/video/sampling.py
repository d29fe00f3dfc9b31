"""Which frames of a video make a clip: integer arithmetic, apart from decoding.

A clip is T frames, `stride` apart, so it spans (T - 1) * stride + 1 frames of the video. One rule for a video shorter
than that: the clip starts at frame 0 and its last frame is repeated, as in SlowFast and TimeSformer.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor


def last_start(num_frames: int, clip_frames: int, stride: int) -> int:
    """The latest start at which a whole clip fits, 0 for a video that is too short."""
    return max(num_frames - ((clip_frames - 1) * stride + 1), 0)


def clip_at(start: int, num_frames: int, clip_frames: int, stride: int) -> Tensor:
    """Frame numbers (T,) of the clip that begins at `start`; past the end of the video, its last frame."""
    return (start + stride * torch.arange(clip_frames)).clamp(max=num_frames - 1)


def random_clip(num_frames: int, clip_frames: int, stride: int, generator: Generator) -> Tensor:
    """Dense sampling for training: frame numbers (T,), every start at which the clip fits equally likely."""
    start = torch.randint(last_start(num_frames, clip_frames, stride) + 1, (), generator=generator)
    return clip_at(int(start), num_frames, clip_frames, stride)


def even_clips(num_frames: int, clip_frames: int, stride: int, num_clips: int) -> Tensor:
    """Dense sampling for testing: (num_clips, T), starts spread evenly from the first possible to the last possible.

    Start k of K is floor(k * last / (K - 1)), and the centre for K = 1. mmaction2 rounds that to the nearest;
    SlowFast and TimeSformer start at k * last / K by default.
    """
    last = last_start(num_frames, clip_frames, stride)
    starts = [last // 2] if num_clips == 1 else [k * last // (num_clips - 1) for k in range(num_clips)]
    return torch.stack([clip_at(start, num_frames, clip_frames, stride) for start in starts])


# What a model is shown instead of the clip as it is, to find out whether it uses the order of the frames.
Order = Callable[[Tensor, Generator], Tensor]


def forward(indices: Tensor, generator: Generator) -> Tensor:
    """(T,) -> (T,): the clip as it is."""
    return indices


def reversed_(indices: Tensor, generator: Generator) -> Tensor:
    """(T,) -> (T,): last frame first."""
    return indices.flip(0)


def shuffled(indices: Tensor, generator: Generator) -> Tensor:
    """(T,) -> (T,): a fresh random permutation for every clip."""
    return indices[torch.randperm(len(indices), generator=generator)]


def strided(indices: Tensor, generator: Generator) -> Tensor:
    """(T,) -> (T,): every second frame, shown twice: the order kept, half of the frames gone."""
    return indices[torch.arange(len(indices)) // 2 * 2]


def frozen(at: int) -> Order:
    """One frame of the clip, the one in place `at` (negative counts from the end), shown T times."""
    return partial(_freeze, at=at)  # a partial, since worker processes that are spawned are sent it


def _freeze(indices: Tensor, generator: Generator, at: int) -> Tensor:
    if not -len(indices) <= at < len(indices):
        raise ValueError(f"frozen_at={at} is not a place in a clip of {len(indices)} frames")
    return indices[at].expand(len(indices))


def order_named(name: str, frozen_at: int) -> Order:
    """forward, reversed, shuffled, strided or frozen (at `frozen_at`). Raises ValueError for another name."""
    orders: dict[str, Order] = {"forward": forward, "reversed": reversed_, "shuffled": shuffled, "strided": strided}
    orders["frozen"] = frozen(frozen_at)
    if name not in orders:
        raise ValueError(f"order={name} is unknown; the orders are {', '.join(orders)}")
    if frozen_at != 0 and name != "frozen":
        raise ValueError(f"frozen_at={frozen_at} has no effect with order={name}; it goes with order=frozen")
    return orders[name]
