"""Horizontal flips that keep labels true: a flipped "moves left" moves right, and gets that label.

Which classes are each other's mirror images is read from their names. Something-Something v2 has three such pairs.
"""

import logging
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import RandomAffine, RandomHorizontalFlip, RandomRotation, RandomVerticalFlip, v2
from torchvision.transforms.v2 import functional as F

log = logging.getLogger(__name__)

# Words that stop being true of a video when its left and right are swapped; not that of "pulling it right out".
RIGHT = r"right(?![-_ ](?:out|away|now|after|before)(?![a-z]))"
SIDED = re.compile(
    rf"(?<![a-z])(?i:left|{RIGHT}|((counter|anti)[-_ ]?)?clockwise)(?i:wards?)?(?![a-z])"
    rf"|(?<=[a-z0-9])(Left|R{RIGHT[1:]}|((Counter|Anti)[-_ ]?)?[Cc]lockwise)(wards?)?(?![a-z])"  # SwipeLeft
)
UPRIGHT = re.compile(
    r"(?<![a-z])(?i:up|down|above|below|top|bottom|((counter|anti)[-_ ]?)?clockwise)(?i:wards?)?(?![a-z])"
)
FLIPS = (v2.RandomHorizontalFlip, RandomHorizontalFlip)
UPSIDE_DOWN = (v2.RandomVerticalFlip, RandomVerticalFlip)
TURNS = (v2.RandomRotation, v2.RandomAffine, RandomRotation, RandomAffine)
OPPOSITE = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}


class LabelledFlip(nn.Module):
    """A clip and its label -> both as they are, or, with probability `p`, mirrored.

    twins: label -> the label of the mirrored video, where that is another
    """

    def __init__(self, p: float, twins: Mapping[int, int]):
        super().__init__()
        self.p, self.twins = p, twins

    def forward(self, frames: Tensor, label: int) -> tuple[Tensor, int]:
        """(T, C, H, W) and the label -> the same."""
        if torch.rand(()) >= self.p:
            return frames, label
        return F.horizontal_flip(frames), self.twins.get(label, label)


def flip_twins(classes: Sequence[str]) -> tuple[dict[int, int], list[str]]:
    """Label -> the label of the class whose name is the mirrored one; and names that speak of a side without a twin.

    Where two names are spelled alike, neither is anybody's twin.
    """
    spelled = [_spelled(name, {}) for name in classes]
    places = {name: label for label, name in enumerate(spelled) if spelled.count(name) == 1}
    twins: dict[int, int] = {}
    alone = []
    for label, name in enumerate(classes):
        if SIDED.search(name):
            twin = places.get(_spelled(name, OPPOSITE), label)
            if twin == label or spelled[label] not in places:
                alone.append(name)
            else:
                twins[label] = twin
    return twins, alone


def _spelled(name: str, replaced: Mapping[str, str]) -> str:
    """The letters and digits of a name, its words for sides in one spelling, and replaced as told."""

    def side(match: re.Match[str]) -> str:
        word = re.sub(r"[-_ ]", "", match[0].casefold()).replace("anti", "counter")
        stem = next(stem for stem in OPPOSITE if word.startswith(stem))
        return replaced.get(stem, stem) + word.removeprefix(stem)

    return "".join(letter for letter in SIDED.sub(side, name).casefold() if letter.isalnum())


def with_true_labels(augment: Mapping[str, nn.Module], classes: Sequence[str]) -> dict[str, nn.Module]:
    """The transforms in their order, horizontal flips made to swap labels, or left out where that cannot be.

    Raises ValueError where a flip is hidden within another transform, and some class name speaks of a side; and where
    a class name speaks of up or down, and videos would be turned upside down.
    """
    twins, alone = flip_twins(classes)
    flips = {key: one for key, one in augment.items() if isinstance(one, FLIPS) and one.p > 0}
    upright = next(filter(UPRIGHT.search, classes), None)
    turned = [key for key, one in augment.items() if isinstance(one, UPSIDE_DOWN) and one.p > 0]
    if turned and upright:
        raise ValueError(
            f"augment.{turned[0]} turns videos upside down, of which {upright!r} stops being true; leave it out"
        )
    whirled = [key for key, one in augment.items() if isinstance(one, TURNS) and max(map(abs, one.degrees)) > 90]
    told = upright or next(filter(SIDED.search, classes), None)
    if whirled and told:
        raise ValueError(
            f"augment.{whirled[0]} turns videos by more than 90 degrees, of which {told!r} stops being true; at most 90"
        )
    hidden = [key for key, one in augment.items() if key not in flips and _holds_flip(one)]
    if hidden and (twins or alone):
        raise ValueError(
            f"augment.{hidden[0]} flips videos, and does not know their labels, though a class is named "
            f"{alone[0] if alone else classes[min(twins)]!r}; make the flip an entry of its own, such as augment.flip"
        )
    if not flips:
        return dict(augment)
    if alone:
        log.warning("flip: off, since flipped videos of these classes have none: %s", ", ".join(map(repr, alone)))
        return {key: one for key, one in augment.items() if key not in flips}
    if twins:
        pairs = [f"{classes[a]} <-> {classes[b]}" for a, b in twins.items() if a < b]
        log.info("flip: swaps the labels of %s", "; ".join(pairs))
    return {key: LabelledFlip(flips[key].p, twins) if key in flips else one for key, one in augment.items()}


def _holds_flip(transform: nn.Module) -> bool:
    """Whether it is no flip itself, but applies one. v2's containers keep plain lists too, which modules() misses."""
    inner = [*transform.children(), *getattr(transform, "transforms", [])]
    return any(isinstance(one, FLIPS) or _holds_flip(one) for one in inner)
