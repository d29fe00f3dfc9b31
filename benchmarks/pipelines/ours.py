"""tubelet: the training dataset and a loader over it in one process; uint8 goes to the device, and there to float."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from pipelines.task import CROP, MEAN, RATIO, RESIZE, SCALE, STD, Batch, Task
from tubelet.video.dataset import TrainingDataset
from tubelet.video.index import Entry
from tubelet.video.known import KnownVideos
from tubelet.video.open import ReadOptions
from tubelet.video.order import Draw
from tubelet.video.sampling import order_named
from tubelet.video.transforms import Normalise
from tubelet.video.views import TrainingView


def transforms(augment: str) -> dict[str, nn.Module]:
    flip = {"flip": v2.RandomHorizontalFlip(0.5)}
    if augment == "crop_flip":
        return {"resize": v2.Resize(RESIZE, antialias=True), "crop": v2.RandomCrop(CROP), **flip}
    return {"crop": v2.RandomResizedCrop(CROP, SCALE, RATIO, antialias=True), **flip}


def batches(task: Task, scanned: Sequence[Entry]) -> dict[str, Batch]:
    """scanned: what `tubelet scan` writes of the files; empty: nothing"""
    view, forward = TrainingView(task.sampling, transforms(task.augment)), order_named("forward", 0)
    options = ReadOptions(short_side=RESIZE)
    dataset = TrainingDataset(
        task.files, view.sample, forward, view.transform, 0, "auto", False, options, KnownVideos(scanned)
    )
    normalise = Normalise(MEAN, STD).to(task.device)

    def in_bytes(draws: Sequence[Draw]) -> Tensor:
        loader = DataLoader(dataset, len(draws), sampler=draws)
        return next(iter(loader))["video"].flatten(0, 1)

    def in_floats(draws: Sequence[Draw]) -> Tensor:
        return normalise(in_bytes(draws).to(task.device))

    return {"uint8": in_bytes, "float": in_floats}
