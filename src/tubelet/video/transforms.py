"""What happens to the frames of a clip: on uint8 in the workers, and, first on the device, normalisation.

torchvision.transforms.v2 draws once for all frames of a clip (T, C, H, W); here stands what it lacks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F


class Normalise(nn.Module):
    """uint8 (..., C, T, H, W) -> float of the same shape: pixels to [0, 1], minus mean, over std."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1, 1) * 255, persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        # In place: new memory for each operation takes most of the time on a CPU.
        return video.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)

    def undone(self, video: Tensor) -> Tensor:
        """Normalised (..., C, T, H, W) -> uint8 of the same shape; what no pixel can be, such as noise, is cut off."""
        return (video * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)


class ShortSideJitter(v2.Transform):
    """(..., H, W) with the short side resized to a random length, all equally likely; the long side in proportion.

    From 256 to 320 pixels in SlowFast and TimeSformer (TRAIN_JITTER_SCALES), 0.9 to 1.33 of 256 in ViViT's code.
    v2.RandomResize takes its two limits in pixels only, v2.ScaleJitter is about the long side.

    size: pixels
    scale: shortest and longest, in `size`
    inverse: whether it is 1 / length of which all values are equally likely, so that short ones are drawn more often
        (INV_UNIFORM_SAMPLE, in both for Something-Something v2)
    """

    def __init__(self, size: int, scale: Sequence[float], inverse: bool = False):
        super().__init__()
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale={list(scale)} is not two positive numbers, the smaller first")
        self.size, self.scale, self.inverse = size, scale, inverse
        self.shortest, self.longest = (round(size * part) for part in scale)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        if self.inverse:
            drawn = torch.empty((), dtype=torch.float64).uniform_(1 / self.longest, 1 / self.shortest)
            return {"side": round(1 / drawn.item())}
        return {"side": int(torch.randint(self.shortest, self.longest + 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return F.resize(inpt, [params["side"]], antialias=True)
