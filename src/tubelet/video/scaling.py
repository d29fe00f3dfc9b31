"""Frames much larger than what the views are cut from get smaller when they are read: the same rule in all readers."""

from torch import Tensor
from torchvision.transforms.v2 import functional as F

LARGE = 2  # times the short side asked for: frames up to that stay as they are


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height, width that a reader gives frames of this size; the long side is cut as in torchvision's Resize."""
    short = min(height, width)
    if short_side is None or short <= LARGE * short_side:
        return height, width
    return height * short_side // short, width * short_side // short


def scale(frames: Tensor, short_side: int | None) -> Tensor:
    """uint8 (..., C, H, W) -> (..., C, h, w), for readers whose decoder does not scale in passing."""
    height, width = frames.shape[-2:]
    size = scaled_size(height, width, short_side)
    return frames if size == (height, width) else F.resize(frames, list(size), antialias=True)
