"""What every pipeline is asked for: the same frames of the same files, as one batch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torchvision.transforms import RandomResizedCrop

from tubelet.video.annotations import Video
from tubelet.video.dataset import sample_seed
from tubelet.video.order import Draw
from tubelet.video.sampling import Dense

Batch = Callable[[Sequence[Draw]], Tensor]  # -> (B, C, T, H, W)
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # of pixels from 0 to 1
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of RandomResizedCrop
RESIZE, CROP = 256, 224  # pixels
# Short side 256, crop of 224, flip; RandomResizedCrop to 224, flip; that with RandAugment before it.
AUGMENTS = ("crop_flip", "resized_crop", "randaugment")
POLICY = "rand-m7-n4-mstd0.5-inc1"  # of RandAugment, as in conf/augment/randaugment.yaml


class Task(NamedTuple):
    """augment: one of AUGMENTS"""

    files: list[Video]
    sampling: Dense
    augment: str
    device: torch.device

    def frames(self, draw: Draw, num_frames: int, fps: float) -> list[int]:
        """Frame numbers of a clip: those that our dataset draws for it."""
        generator = Generator().manual_seed(sample_seed(0, *draw, -1))
        return self.sampling.random_clip(num_frames, fps, generator).tolist()

    def path(self, draw: Draw) -> str:
        return self.files[draw.video].path


def square(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random crop of 224 pixels."""
    top, left = (int(torch.randint(side - CROP + 1, ())) for side in (height, width))
    return top, left, CROP, CROP


def area(height: int, width: int) -> tuple[int, int, int, int]:
    """The same of RandomResizedCrop."""
    return RandomResizedCrop.get_params(torch.empty(1, height, width), list(SCALE), list(RATIO))
