"""RandAugment (Cubuk et al. 2020) as timm writes and draws it, for clips: one draw for all frames.

The recipes of MViT and of VideoMAE name it `rand-m7-n4-mstd0.5-inc1`. torchvision's v2.RandAugment has other
operations and strengths, none of which are drawn. Where pixels move, they are interpolated linearly; timm draws
between linear and cubic interpolation, which torchvision has no kernel for on tensors.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

FILL = 128.0  # grey level of what comes into the picture from outside
STRONGEST = 10.0  # magnitude
Operation = Callable[[Tensor, float], Tensor]  # uint8 (T, C, H, W) and a strength from 0 to 1 -> uint8 (T, C, H, W)


def either_sign(value: float) -> float:
    return value if torch.rand(()) < 0.5 else -value


def enhanced(strength: float) -> float:
    """A factor that leaves a picture at 1, and changes it the more, the further it is from 1; at least 0.1."""
    return max(0.1, 1.0 + either_sign(0.9 * strength))


def auto_contrast(frames: Tensor, strength: float) -> Tensor:
    return F.autocontrast(frames.contiguous())  # ten times as fast as with channels last


def equalise(frames: Tensor, strength: float) -> Tensor:
    return F.equalize(frames)


def invert(frames: Tensor, strength: float) -> Tensor:
    return F.invert(frames)


def rotate(frames: Tensor, strength: float) -> Tensor:
    """About the centre; F.rotate gives the same, and takes three times as long."""
    angle = either_sign(-30.0 * strength)  # clockwise here, counterclockwise in PIL
    return F.affine(frames, angle, [0, 0], 1.0, [0.0, 0.0], InterpolationMode.BILINEAR, fill=FILL)


def posterise(frames: Tensor, strength: float) -> Tensor:
    """At least one bit is kept: pictures without any are black, and newer versions of Pillow refuse them to timm."""
    return F.posterize(frames, max(4 - int(4 * strength), 1))


def solarise(frames: Tensor, strength: float) -> Tensor:
    """As F.solarize, in an eighth of its time: 255 - x is x with all bits turned."""
    threshold = 256 - int(256 * strength)
    bright = (frames >= threshold).to(torch.uint8) if threshold < 256 else torch.zeros_like(frames)
    return frames ^ bright.neg_()


def solarise_add(frames: Tensor, strength: float) -> Tensor:
    """Pixels darker than 128 become brighter."""
    return frames + (frames < 128).to(torch.uint8).mul_(int(110 * strength))  # at most 127 + 110: no overflow


def colour(frames: Tensor, strength: float) -> Tensor:
    return F.adjust_saturation(frames, enhanced(strength))


def contrast(frames: Tensor, strength: float) -> Tensor:
    return F.adjust_contrast(frames, enhanced(strength))


def brightness(frames: Tensor, strength: float) -> Tensor:
    return F.adjust_brightness(frames, enhanced(strength))


def sharpness(frames: Tensor, strength: float) -> Tensor:
    return F.adjust_sharpness(frames, enhanced(strength))


def shear_x(frames: Tensor, strength: float) -> Tensor:
    return _sheared(frames, either_sign(0.3 * strength), 0.0)


def shear_y(frames: Tensor, strength: float) -> Tensor:
    return _sheared(frames, 0.0, either_sign(0.3 * strength))


def translate_x(frames: Tensor, strength: float) -> Tensor:
    return _translated(frames, either_sign(0.45 * strength), 0.0)


def translate_y(frames: Tensor, strength: float) -> Tensor:
    return _translated(frames, 0.0, either_sign(0.45 * strength))


def _sheared(frames: Tensor, slope_x: float, slope_y: float) -> Tensor:
    """About the upper left corner, as PIL does."""
    shear = [math.degrees(math.atan(slope)) for slope in (slope_x, slope_y)]
    return F.affine(frames, 0.0, [0, 0], 1.0, shear, InterpolationMode.BILINEAR, fill=FILL, center=[0.0, 0.0])


def _translated(frames: Tensor, across: float, down: float) -> Tensor:
    """By a share of the width and of the height."""
    pixels = [across * frames.shape[-1], down * frames.shape[-2]]
    return F.affine(frames, 0.0, pixels, 1.0, [0.0, 0.0], InterpolationMode.BILINEAR, fill=FILL)


OPERATIONS: tuple[Operation, ...] = (
    auto_contrast,
    equalise,
    invert,
    rotate,
    posterise,
    solarise,
    solarise_add,
    colour,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)
EXAMPLE = "rand-m7-n4-mstd0.5-inc1"


class RandAugment(nn.Module):
    """uint8 (..., C, H, W) -> the same: `n` operations drawn with replacement, each applied with probability `p`.

    policy: timm's words, joined by hyphens: `rand`, `m` (magnitude, up to 10), `n` (operations, 2), `mstd` (standard
        deviation of the magnitude, 0; above 100 it is drawn uniformly from 0 to m), `p` (0.5), and `inc1`, the
        operations that change more with a larger magnitude: there are no others here, and no magnitudes above 10

    Raises ValueError for any other word.
    """

    def __init__(self, policy: str):
        super().__init__()
        first, *words = policy.split("-")
        found = [re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", word) for word in words]
        told = {match[1]: float(match[2]) for match in found if match}
        if first != "rand" or None in found or not set(told) <= {"m", "n", "mstd", "p", "inc"}:
            raise ValueError(f"policy={policy} is not of the words rand, m, n, mstd, p and inc, such as {EXAMPLE}")
        if told.get("inc") != 1:
            raise ValueError(f"policy={policy} has no inc1; only that set of operations is there: {policy}-inc1")
        self.num_operations, self.p = int(told.get("n", 2)), told.get("p", 0.5)
        self.magnitude, self.deviation = told.get("m", STRONGEST), told.get("mstd", 0.0)
        if self.magnitude > STRONGEST or self.num_operations < 1 or self.p > 1:
            raise ValueError(f"policy={policy}: m is at most 10, n at least 1, p at most 1")

    def forward(self, frames: Tensor) -> Tensor:
        for operation in torch.randint(len(OPERATIONS), (self.num_operations,)).tolist():
            if torch.rand(()) < self.p:
                frames = OPERATIONS[operation](frames, self._magnitude() / STRONGEST)
                # As readers give them: sharpness and resizing are many times slower on planes.
                frames = frames.contiguous(memory_format=torch.channels_last)
        return frames

    def _magnitude(self) -> float:
        if self.deviation > 100:
            return float(torch.rand(())) * self.magnitude
        drawn = self.magnitude + self.deviation * float(torch.randn(()))
        return min(max(drawn, 0.0), STRONGEST)
