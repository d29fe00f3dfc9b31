"""From a video file to a sample: read, cut into views, all randomness from (seed, epoch, index, view) alone.

So a sample does not depend on worker processes, on the number of ranks, or on where a run was resumed.
Letters: V views of a video, K clips that they are cut from, C channels, T frames, H W pixels.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from tubelet.video.annotations import Video
from tubelet.video.failures import nothing_read
from tubelet.video.known import KnownVideos
from tubelet.video.open import DEFAULTS, ReadOptions, read_clips
from tubelet.video.order import Draw
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import NoFrameRate, Order


class Sample(TypedDict):
    video: Tensor  # uint8 (V, C, T, H, W)
    label: int  # of the video
    shown: Tensor  # (V,) the label of each view: a flip makes some classes others
    frames: Tensor  # (K, T) their numbers, in each of the clips that the views are cut from
    fps: Tensor  # of the file, float32
    index: int  # place of the video in its list
    reader: str  # the decoder that read it
    failure: str  # why it could not be read; empty if it could


STAND_INS = 20  # other videos tried in the place of a broken one, in training, before giving up


def sample_seed(seed: int, epoch: int, index: int, view: int) -> int:
    """A 63-bit seed from four integers, the same on every machine and in every process."""
    digest = hashlib.blake2b(struct.pack("<4q", seed, epoch, index, view), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Within, torch's global generator draws from this seed; after it, it goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that also seeds every kind of device, which costs as much as decoding a frame.
        torch.default_generator.manual_seed(seed)
        yield


class VideoDataset(Dataset):
    """Samples by `Draw(epoch, video)`.

    sample: (num_frames, frames a second, generator) -> frame numbers (K, T) of K clips
    order: what is done to the frame numbers of each clip
    transform: uint8 (T, C, H, W) and a label -> views of one clip, uint8 (v, T, C, h, w), and the label of each; draws
        from torch's global generator
    reader, options: see open.py
    skip_errors: give a black clip and the reason in `failure` for a broken file, instead of raising DecodeError
    index: what is known of the videos; where that is not current, it is as if it were not there
    """

    def __init__(
        self,
        videos: Sequence[Video],
        sample: Callable[[int, float, Generator], Tensor],
        order: Order,
        transform: Callable[[Tensor, int], tuple[Tensor, list[int]]],
        seed: int,
        reader: str,
        skip_errors: bool,
        options: ReadOptions = DEFAULTS,
        index: KnownVideos | None = None,
    ):
        self.videos, self.sample, self.order, self.transform = videos, sample, order, transform
        self.seed, self.reader, self.skip_errors, self.options = seed, reader, skip_errors, options
        self.index = index or KnownVideos()

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, draw: Draw) -> Sample:
        try:
            return self._load(draw)
        except DecodeError as error:
            if not self.skip_errors:
                raise
            return self._without(draw, error)

    def _load(self, draw: Draw) -> Sample:
        path = self.videos[draw.video].path
        generator = Generator().manual_seed(sample_seed(self.seed, *draw, -1))
        chosen: list[tuple[Tensor, float]] = []

        def choose(num_frames: int, fps: float) -> Tensor:
            try:
                clips = self.sample(num_frames, fps, generator)  # (K, T)
            except NoFrameRate as error:
                raise DecodeError(path, "open", str(error)) from error
            clips = torch.stack([self.order(clip, generator) for clip in clips])
            chosen.append((clips, fps))
            return clips

        pixels, name = read_clips(path, choose, self.reader, self.index.get(path), self.options)  # (K, T, C, H, W)
        return self._sample(draw, pixels, *chosen[-1], reader=name)

    def _sample(
        self, draw: Draw, pixels: Tensor, frames: Tensor, fps: float, reader: str = "", failure: str = ""
    ) -> Sample:
        """pixels: uint8 (K, T, C, H, W)"""
        label = self.videos[draw.video].label
        views, shown = zip(*(self._views(draw, k, clip, label) for k, clip in enumerate(pixels)), strict=True)
        return {
            "video": torch.cat(views).transpose(1, 2).contiguous(),  # (V, C, T, h, w)
            "label": label,
            "shown": torch.tensor([one for of_clip in shown for one in of_clip]),
            "frames": frames,
            "fps": torch.tensor(fps, dtype=torch.float32),
            "index": draw.video,
            "reader": reader,
            "failure": failure,
        }

    def _views(self, draw: Draw, k: int, clip: Tensor, label: int) -> tuple[Tensor, list[int]]:
        with drawing(sample_seed(self.seed, *draw, k)):
            return self.transform(clip, label)

    def _without(self, draw: Draw, error: DecodeError) -> Sample:
        """In the place of a video that cannot be read: a black clip, which evaluation counts as answered wrongly."""
        clips = self.sample(1, 1.0, Generator())
        black = torch.zeros(*clips.shape, 3, 8, 8, dtype=torch.uint8)
        return self._sample(draw, black, clips, 1.0, failure=str(error))


class TrainingDataset(VideoDataset):
    """In training, a video that can be read stands in for a broken one: always the same one, and it is counted."""

    def _without(self, draw: Draw, error: DecodeError) -> Sample:
        errors = [error]
        for attempt in range(1, STAND_INS + 1):
            other = sample_seed(self.seed, draw.epoch, draw.video, -1 - attempt) % len(self)
            try:
                return {**self._load(Draw(draw.epoch, other)), "failure": str(error)}
            except DecodeError as again:
                errors.append(again)
        raise nothing_read(self.reader, errors)
