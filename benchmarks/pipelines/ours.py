"""tubelet: the training dataset and a loader over it in one process; uint8 goes to the device, and there to float.

Augmentation is that of conf/augment. What it does to a batch on the device, erasing and mixing, is left out.
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pipelines.task import CROP, MEAN, RESIZE, STD, Batch, Task
from tubelet.training.build import build
from tubelet.training.launch import config_dir
from tubelet.video.dataset import TrainingDataset
from tubelet.video.flips import with_true_labels
from tubelet.video.index import Entry
from tubelet.video.known import KnownVideos
from tubelet.video.open import ReadOptions
from tubelet.video.order import Draw
from tubelet.video.sampling import order_named
from tubelet.video.transforms import Normalise
from tubelet.video.views import TrainingView


def transforms(augment: str) -> dict[str, nn.Module]:
    """Those of a clip, by their names in the file; resized_crop is randaugment without its first."""
    name = "randaugment" if augment == "resized_crop" else augment
    nodes = OmegaConf.load(Path(config_dir()) / "augment" / f"{name}.yaml")
    config = OmegaConf.create({"clip": {"crop": CROP, "resize": RESIZE}, "augment": nodes})
    left_out = {"erase", "mix"} | ({"randaugment"} if augment == "resized_crop" else set())
    return {key: build(node) for key, node in config.augment.items() if key not in left_out}


def batches(task: Task, scanned: Sequence[Entry], repeats: int = 1) -> dict[str, Batch]:
    """scanned: what `tubelet scan` writes of the files; empty: nothing. repeats: clips of each video, decoded once"""
    view = TrainingView(task.sampling, with_true_labels(transforms(task.augment), []), repeats)
    options, forward = ReadOptions(short_side=RESIZE), order_named("forward", 0)
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
