"""Published weights under our names, whatever file they are from."""

import re
from dataclasses import dataclass, field

from torch import Tensor

PATCHES = "patch_embed.proj.weight"
OF_TIME = re.compile(r"^time\.|\.temporal_|\.(norm|attn)_time\.")  # names that an image model does not have
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
# The mean and the deviation of pixels in [0, 1]: of ViViT and of most ViTs, of Kinetics' models, of ImageNet.
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass
class Source:
    """Weights under our names (see renames.py), with what the layout says of them.

    models: the names in conf/model of those that can take them
    normalisation: the mean and the deviation of the pixels they were trained on
    image: of an image model, which is inflated
    exact: the names are those of the very model that is built; nothing is mapped
    joint: one table of positions for all places and times
    nearest: positions of another size are taken from the nearest, as the official code does, not interpolated
    fixed_positions: there is no table in the file; positions are VideoMAE's sinusoids
    of_mvit: of a published MViT, of whose pooling no shape tells the strides
    exact_gelu: whether the GELU of the MLP is not the tanh form; None where a model may have either
    time_first: whether a factorised block attends over time first; None where nothing tells
    heads: of the attention, where the file or something beside it tells
    size: (T, H, W) of the clips they were trained on, where something beside the weights tells
    other_classes: the head is known to be for other classes than those of the run, and is left out
    expected_unused: beginnings of names that no model of ours needs -> why
    notes: what the layout cannot tell
    lookalike: another layout with the same names; of interest where nothing beside the weights tells the normalisation
    """

    layout: str
    weights: dict[str, Tensor]
    normalisation: Normalisation = HALF
    models: str = ""
    image: bool = False
    exact: bool = False
    joint: bool = False
    nearest: bool = False
    fixed_positions: bool = False
    of_mvit: bool = False
    exact_gelu: bool | None = None
    time_first: bool | None = None
    heads: int | None = None
    size: tuple[int, int, int] | None = None
    other_classes: bool = False
    expected_unused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lookalike: str = ""

    @property
    def of_time(self) -> bool:
        """Whether any block attends over time: then none lacks what it needs for that, nor does the model its times."""
        return any(OF_TIME.search(name) for name in self.weights)
