"""The answers of a model to the videos of a split, each counted once, and the figures that follow from them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from tubelet.evaluation.whole import written_whole
from tubelet.video.annotations import Video

TOP = 5
STATES = ("index", "label", "failed", "probabilities")
FAILED = -1  # the prediction for a video that could not be read: never right


class NotFinite(ValueError):
    """Probabilities that are no numbers."""


class Answers(Metric):
    """Collects (index, label, probabilities) of every video; `compute` gives them in the order of the index.

    Ranks are joined by torchmetrics. A video that comes twice is an error: figures are never of repeated videos.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in STATES:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, index: Tensor, label: Tensor, failed: Tensor, probabilities: Tensor) -> None:
        """(B,), (B,), bool (B,), (B, num_classes)."""
        for name, values in zip(STATES, (index, label, failed, probabilities), strict=True):
            getattr(self, name).append(values)

    def compute(self) -> tuple[Tensor, ...]:
        """index (n,), label (n,), failed (n,), probabilities (n, num_classes)."""
        index, *others = (dim_zero_cat(getattr(self, name)) for name in STATES)
        if len(index.unique()) != len(index):
            raise RuntimeError("a video was evaluated twice: the evaluation order gave it to two ranks")
        place = index.argsort()
        return index[place], *(values[place] for values in others)


@dataclass
class Results:
    """Answers with the names they need: what metrics.json and predictions.csv are written from.

    label (n,), failed (n,), probabilities (n, num_classes) on the CPU, for the n `videos` in their order;
    failures: the reason for each path that could not be read; twins: label -> label of the same motion backwards
    """

    videos: Sequence[Video]
    classes: Sequence[str]
    label: Tensor
    failed: Tensor
    probabilities: Tensor
    twins: Mapping[int, int] = field(default_factory=dict)
    failures: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.probabilities.isfinite().all():
            raise NotFinite("the model's answers are not finite numbers; its weights or its precision are broken")

    @property
    def ranked(self) -> Tensor:
        """(n, num_classes): classes by falling probability, ties by number; the one order behind every figure."""
        return self.probabilities.argsort(dim=-1, descending=True, stable=True)

    @property
    def predicted(self) -> Tensor:
        """(n,): the most probable class; FAILED for a video that could not be read."""
        return self.ranked[:, 0].masked_fill(self.failed, FAILED)

    def top(self, k: int) -> float:
        """Share of all videos whose label is among the k most probable classes; failures count as wrong."""
        right = (self.ranked[:, :k] == self.label[:, None]).any(-1) & ~self.failed
        return right.double().mean().item()

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> its number of videos and the share answered rightly; classes without videos are left out."""
        right = self.predicted == self.label
        figures = {}
        for label, name in enumerate(self.classes):
            mine = self.label == label
            if mine.any():
                figures[name] = {"videos": int(mine.sum()), "top1": right[mine].double().mean().item()}
        return figures

    def twin_figures(self) -> dict[str, float | None]:
        """What the order of frames is worth, on data whose classes have a twin that is the same motion backwards.

        within_twins: of the videos answered with their class or its twin, the share answered with their class
        answered_twin: of all videos, the share answered with the twin
        """
        if not self.twins:
            return {}
        nobody = FAILED - 1  # the twin of a class whose twin was not taken: no answer is it
        twin = torch.tensor([self.twins.get(label, nobody) for label in self.label.tolist()])
        right, mirrored = (self.predicted == self.label).sum().item(), (self.predicted == twin).sum().item()
        return {
            "within_twins": right / (right + mirrored) if right + mirrored else None,
            "answered_twin": mirrored / len(twin),
        }

    def metrics(self) -> dict:
        """Plain types for metrics.json."""
        return {
            "top1": self.top(1),
            f"top{TOP}": self.top(TOP),
            "videos": len(self.videos),
            "failures": int(self.failed.sum()),
            **self.twin_figures(),
            "per_class": self.per_class(),
            "failed": list(self.failures),
        }

    def write_predictions(self, path: str) -> None:
        """One row a video: path, label, prediction, its probability, and the most probable classes."""
        ranked = self.ranked[:, :TOP]
        with (
            written_whole(Path(path)) as new,
            open(new, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            rows = csv.writer(file)
            rows.writerow(["video", "label", "predicted", "correct", "probability", f"top{TOP}"])
            for i, (video, answer) in enumerate(zip(self.videos, self.predicted.tolist(), strict=True)):
                label, failed = self.classes[video.label], answer == FAILED
                best = [self.classes[k] for k in ranked[i].tolist()]
                probability = f"{self.probabilities[i, answer].item():.6f}"
                told = ["", 0, "", ""] if failed else [best[0], int(best[0] == label), probability, "|".join(best)]
                rows.writerow([video.path, label, *told])
