"""What happens to the frames of a clip: on uint8 in the workers, and, last, normalisation on the device.

Letters: V views, T frames, C channels. torchvision.transforms.v2 draws once for all frames of a clip (T, C, H, W).
"""

import logging
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

log = logging.getLogger(__name__)

# Words that stop being true of a video when its left and right are swapped.
SIDED = re.compile(
    r"(?<![a-z])(?i:left|right|((counter|anti)-?)?clockwise)(?i:wards?)?(?![a-z])"
    r"|(?<=[a-z0-9])(Left|Right|Clockwise)(wards?)?(?![a-z])"  # SwipeLeft
)


def without_untrue_flips(augment: Mapping[str, nn.Module], classes: Sequence[str]) -> dict[str, nn.Module]:
    """The transforms in their order, without horizontal flips where a class name speaks of a side.

    A flipped "moves left" moves right, so it would be trained on with the wrong label.
    """
    sided = [name for name in classes if SIDED.search(name)]
    flips = [key for key, transform in augment.items() if isinstance(transform, v2.RandomHorizontalFlip)]
    if sided and flips:
        log.info("flip: off, since a flip would make this class name untrue: %s", sided[0])
        return {key: transform for key, transform in augment.items() if key not in flips}
    return dict(augment)


class Normalise(nn.Module):
    """uint8 (..., C, T, H, W) -> float of the same shape: pixels to [0, 1], minus mean, over std."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1, 1) * 255, persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        return (video.float() - self.mean) / self.std
