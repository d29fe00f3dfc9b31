"""Which frames of a video make a clip: exact arithmetic, apart from decoding.

Letters: N frames of the video, T of a clip, K clips.

One rule where a video is too short for its clip: a place without a frame of its own shows the last frame before it. So
a dense clip that is longer than its video starts at frame 0 and repeats the last frame, as in SlowFast and TimeSformer;
and where a video has fewer frames than segments, some segments show the frame of the one before. Nothing is looped.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Protocol

import torch
from torch import Generator, Tensor

LARGEST_DENOMINATOR = 10**6  # of a frame rate; 30000/1001 and its like are found again in a float exactly


class NoFrameRate(ValueError):
    """A clip at a rate of its own was asked of a file that does not say its own."""


class Starts(Protocol):
    """The starts of K clips, from 0 to `last`, the latest at which a whole clip fits."""

    def __call__(self, last: int, num_clips: int) -> list[int]: ...


class FirstToLast:
    """Start k of K is floor(k * last / (K - 1)), and the middle for K = 1.

    mmaction2 rounds to the nearest; SlowFast, with USE_OFFSET_SAMPLING, multiplies k by floor(last / (K - 1)).
    """

    def __call__(self, last: int, num_clips: int) -> list[int]:
        return [last // 2] if num_clips == 1 else [k * last // (num_clips - 1) for k in range(num_clips)]

    def __str__(self) -> str:
        return "starts from first to last"


class FirstOfEachPart:
    """Start k of K is floor(k * last / K), so 0 for K = 1: what SlowFast and TimeSformer do by default."""

    def __call__(self, last: int, num_clips: int) -> list[int]:
        return [k * last // num_clips for k in range(num_clips)]

    def __str__(self) -> str:
        return "starts k * last / K"


class Sampling(Protocol):
    """Frame numbers of clips, of a video of `num_frames` at `fps` frames a second (0 where that is not known)."""

    def random_clip(self, num_frames: int, fps: float, generator: Generator) -> Tensor:
        """(T,), for training."""
        ...

    def test_clips(self, num_frames: int, fps: float, num_clips: int, starts: Starts) -> Tensor:
        """(K, T), nothing drawn."""
        ...

    def told(self, starts: Starts) -> str:
        """The clips of a test in words."""
        ...


class Dense:
    """T frames, `stride` apart, so that a clip spans (T - 1) * stride + 1 frames; in training from a random start.

    fps: None counts the frames of the file. A rate counts those of the video resampled to it: frame j is the frame of
        the file that is nearest to j / fps seconds, the later of two as near, so that clips last equally long in all

    SlowFast resamples too (TARGET_FPS), but spreads its T frames over T * stride frames with a step that is no integer.
    """

    def __init__(self, num_frames: int, stride: int, fps: float | None):
        if stride < 1:
            raise ValueError(f"clip.stride={stride} is not a whole number of at least 1")
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"clip.fps={fps} is not a positive number")
        self.length, self.stride, self.fps = num_frames, stride, fps

    def random_clip(self, num_frames: int, fps: float, generator: Generator) -> Tensor:
        """(T,), every start at which the clip fits equally likely."""
        step = self._step(fps)
        num_frames = resampled_length(num_frames, step)
        start = torch.randint(last_start(num_frames, self.length, self.stride) + 1, (), generator=generator)
        return nearest(clip_at(int(start), num_frames, self.length, self.stride), step)

    def test_clips(self, num_frames: int, fps: float, num_clips: int, starts: Starts) -> Tensor:
        step = self._step(fps)
        num_frames = resampled_length(num_frames, step)
        chosen = starts(last_start(num_frames, self.length, self.stride), num_clips)
        return torch.stack([nearest(clip_at(start, num_frames, self.length, self.stride), step) for start in chosen])

    def told(self, starts: Starts) -> str:
        rate = "" if self.fps is None else f" at {self.fps:g} frames a second"
        return f"{starts}, {self.length} frames, stride {self.stride}{rate}"

    def _step(self, fps: float) -> Fraction:
        """Frames of the file from one counted frame to the next."""
        if self.fps is None:
            return Fraction(1)
        if not 0 < fps < math.inf:
            raise NoFrameRate(f"the file does not say its frame rate, which clip.fps={self.fps:g} needs")
        return _rational(fps) / _rational(self.fps)


def _rational(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(LARGEST_DENOMINATOR)


def resampled_length(num_frames: int, step: Fraction) -> int:
    """How many frames, `step` frames of the file apart, lie between its first and its last."""
    return math.floor((num_frames - 1) / step) + 1


def nearest(places: Tensor, step: Fraction) -> Tensor:
    """Numbers (T,) of resampled frames -> (T,) of the nearest frames of the file, the later of two as near."""
    return torch.tensor([math.floor(place * step + Fraction(1, 2)) for place in places.tolist()])


def last_start(num_frames: int, clip_frames: int, stride: int) -> int:
    """The latest start at which a whole clip fits, 0 for a video that is too short."""
    return max(num_frames - ((clip_frames - 1) * stride + 1), 0)


def clip_at(start: int, num_frames: int, clip_frames: int, stride: int) -> Tensor:
    """Frame numbers (T,) of the clip that begins at `start`; past the end of the video, its last frame."""
    return (start + stride * torch.arange(clip_frames)).clamp(max=num_frames - 1)


class Segments:
    """One frame of each of T segments of equal length, which are the whole video (TSN, Wang et al. 2016, section 3.1).

    Segment i is the time from i * N / T to (i + 1) * N / T frames. Training shows the frame at a random time of it, so
    that every frame of the video is equally likely; a test of one clip that in its middle, floor((i + 1/2) * N / T),
    and clip k of K that at its k-th part, floor((i + k / K) * N / T). `stride` has no part in it, nor have starts.

    Tests are those of VideoMAE on SSv2, whose two clips are the middle and the beginning. Its training cuts segments to
    whole frames, so that up to T - 1 at the end are never seen, and shows frame 0 throughout where N < T. SlowFast cuts
    N - 1 frames at rounded places, and neighbours share the frame between them.
    """

    def __init__(self, num_frames: int, stride: int, fps: float | None):
        if fps is not None:
            raise ValueError(f"clip.fps={fps} has no effect with segments, which follow the length of each video")
        self.length = num_frames

    def random_clip(self, num_frames: int, fps: float, generator: Generator) -> Tensor:
        """(T,), in order."""
        parts = torch.randint(num_frames, (self.length,), generator=generator)  # of a segment, in 1 / N
        return (torch.arange(self.length) * num_frames + parts) // self.length

    def test_clips(self, num_frames: int, fps: float, num_clips: int, starts: Starts) -> Tensor:
        shifts = torch.arange(num_clips) * 2 if num_clips > 1 else torch.ones(1, dtype=torch.int64)
        parts = 2 * num_clips  # of a segment; the middle of it is the first of two
        places = torch.arange(self.length) * parts + shifts[:, None]  # (K, T)
        return places * num_frames // (self.length * parts)

    def told(self, starts: Starts) -> str:
        return f"{self.length} frames, one of each of {self.length} segments (clip.stride has no part)"


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
