"""The clips and crops that a video is cut into: one at random in training, a fixed grid in evaluation."""

from collections.abc import Mapping
from math import ceil

import torch
from torch import Generator, Tensor, nn
from torchvision.transforms.v2 import functional as F

from tubelet.video.flips import LabelledFlip
from tubelet.video.sampling import Sampling, Starts


class TrainingView:
    """One random clip, augmented `repeats` times.

    augment: transforms of a clip (T, C, H, W), applied in their order; LabelledFlip gets its label too
    repeats: views of the one clip, each with draws of its own, so that it is decoded once (Hoffer et al. 2020)
    """

    def __init__(self, sampling: Sampling, augment: Mapping[str, nn.Module], repeats: int = 1):
        if not isinstance(repeats, int) or repeats < 1:
            raise ValueError(f"data.repeats={repeats} is not a whole number of at least 1")
        self.sampling, self.transforms, self.repeats = sampling, dict(augment), repeats

    def sample(self, num_frames: int, fps: float, generator: Generator) -> Tensor:
        """Frames of the video, and how many a second -> frame numbers (1, T)."""
        return self.sampling.random_clip(num_frames, fps, generator)[None]

    def transform(self, frames: Tensor, label: int) -> tuple[Tensor, list[int]]:
        """uint8 (T, C, H, W) -> uint8 (repeats, T, C, h, w), and the label of each.

        Each transform draws once for all frames of a view.
        """
        views, labels = zip(*(self._augmented(frames, label) for _ in range(self.repeats)), strict=True)
        return torch.stack(views), list(labels)

    def _augmented(self, frames: Tensor, label: int) -> tuple[Tensor, int]:
        for key, transform in self.transforms.items():
            try:
                if isinstance(transform, LabelledFlip):
                    frames, label = transform(frames, label)
                else:
                    frames = transform(frames)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"augment.{key}, of clips in uint8 (T, C, H, W): {str(error).splitlines()[0]}"
                ) from error
            if frames.dtype != torch.uint8 or frames.ndim != 4:
                raise ValueError(
                    f"augment.{key} gives {frames.dtype} of shape {tuple(frames.shape)}; a transform of a clip gives "
                    "uint8 (T, C, H, W), and the device makes floats of it, normalised by clip.mean and clip.std"
                )
        return frames, label


class TestViews:
    """`num_clips` spread evenly over the video; of each, `num_crops` squares of `crop` pixels along the long side.

    The short side is first resized to `resize` pixels. One crop is the centre, three are both ends and the centre, as
    in SlowFast's uniform_crop.
    """

    __test__ = False  # not a test, in spite of its name

    def __init__(self, sampling: Sampling, resize: int, crop: int, num_clips: int, num_crops: int, starts: Starts):
        self.sampling, self.starts = sampling, starts
        self.resize, self.crop = resize, crop
        self.num_clips, self.num_crops = num_clips, num_crops
        if num_clips < 1:
            raise ValueError(f"views.clips={num_clips} is not a positive number")
        if num_crops not in (1, 3):
            raise ValueError(f"views.crops={num_crops} is not 1 (centre) or 3 (along the long side)")
        if self.crop > self.resize:
            raise ValueError(f"clip.crop={self.crop} is larger than clip.resize={self.resize}, the side it is cut from")

    def sample(self, num_frames: int, fps: float, generator: Generator) -> Tensor:
        """Frames of the video, and how many a second -> frame numbers (num_clips, T)."""
        return self.sampling.test_clips(num_frames, fps, self.num_clips, self.starts)

    def transform(self, frames: Tensor, label: int) -> tuple[Tensor, list[int]]:
        """uint8 (T, C, H, W) -> uint8 (num_crops, T, C, crop, crop), and the label of each, which is that of all."""
        crops = self.crops(frames)
        return crops, [label] * len(crops)

    def crops(self, frames: Tensor) -> Tensor:
        """uint8 (T, C, H, W) -> uint8 (num_crops, T, C, crop, crop)."""
        frames = F.resize(frames, [self.resize], antialias=True)
        spare_down, spare_across = (side - self.crop for side in frames.shape[-2:])
        views = []
        for along in (0.5,) if self.num_crops == 1 else (0.0, 0.5, 1.0):
            down, across = (along, 0.5) if spare_down > spare_across else (0.5, along)
            views.append(F.crop(frames, ceil(spare_down * down), ceil(spare_across * across), self.crop, self.crop))
        return torch.stack(views)
