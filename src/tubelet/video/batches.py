"""What becomes of a training batch on the device, between the loader and the model.

Letters: B videos of V views each, N = V * B clips, C channels, T frames, H W pixels.
"""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from tubelet.video.dataset import drawing, sample_seed
from tubelet.video.mixing import OnBatch

ON_BATCH = -1000  # in place of a view, of draws that are made for a whole batch


class BatchDraw(NamedTuple):
    """All that the draws of a batch depend on, so that a resumed run makes the same."""

    seed: int
    epoch: int
    batch: int
    rank: int


def first_views_first(of_views: Tensor) -> Tensor:
    """(B, V, ...) -> (N, ...), so that mixing a clip with the one before it mixes two videos."""
    return of_views.transpose(0, 1).flatten(0, 1)


def augmented(
    video: Tensor, shown: Tensor, normalise: nn.Module, augment: Iterable[OnBatch], draw: BatchDraw
) -> tuple[Tensor, Tensor]:
    """uint8 (B, V, C, T, H, W) and what its clips show (N, K) -> normalised clips (N, C, T, H, W), what they show now.

    augment: applied in its order
    """
    clips = normalise(first_views_first(video))
    with drawing(sample_seed(draw.seed, draw.epoch, draw.batch, ON_BATCH - draw.rank)):
        for one in augment:
            clips, shown = one(clips, shown)
    return clips, shown
