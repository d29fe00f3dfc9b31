"""tubelet browse: what a model is trained and tested on, in pictures and films: labels, frames, times, sources."""

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tubelet.training.launch import compose_config, quieten, told_in_one_line

if TYPE_CHECKING:  # so that --help and misspelt overrides answer at once
    import torch
    from torch import Tensor, nn

    from tubelet.training.data import VideoData
    from tubelet.video.mixing import OnBatch
    from tubelet.video.transforms import Normalise

HELP = """usage: tubelet browse data=NAME augment=NAME model=NAME [overrides of conf/train.yaml] [options]

Makes the first batches of `python train.py` with the same overrides, as the model gets them, and shows them with the
normalisation undone: train_0.png, some frames of each clip beside the shares of its labels, frame numbers, times and
sources; train_0.mp4, the clips moving. And test.png and test.mp4, the clips and crops of some test videos.

  --out FOLDER        for the pictures (default: runs/browse/NAME)
  --num-batches N     training batches, from the first one of the first epoch (default: 1)
  --num-clips N       clips that are shown of a batch, 1 to 64 (default: 16)
  --num-videos N      test videos, spread evenly over their list (default: 2); 0 shows none"""

MOST = 64  # batches, and clips or videos of one picture


def run() -> None:
    parser = argparse.ArgumentParser(prog="tubelet browse", add_help=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--num-batches", type=int, default=1)
    parser.add_argument("--num-clips", type=int, default=16)
    parser.add_argument("--num-videos", type=int, default=2)
    told, overrides = parser.parse_known_args()
    if not overrides or {"-h", "--help"} & set(overrides):
        print(HELP)
        return
    with told_in_one_line():
        for name, least in (("num_batches", 0), ("num_clips", 1), ("num_videos", 0)):
            value = getattr(told, name)
            if not least <= value <= MOST:
                raise ValueError(f"--{name.replace('_', '-')} {value} is not from {least} to {MOST}")
        _browse(told, overrides)


def _browse(told: argparse.Namespace, overrides: list[str]) -> None:
    cfg = compose_config("train", overrides)
    quieten()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tubelet").setLevel(logging.INFO)  # the pairs of classes that a flip swaps
    training = prepare(cfg)
    out = told.out or Path(cfg.runs, "browse", Path(cfg.data.root).absolute().name)
    out.mkdir(parents=True, exist_ok=True)
    written = [*_draw_training(training, told, out), *_draw_test(training, told.num_videos, out)]
    print(training.summary())
    print(f"written: {os.path.relpath(out)}/{{{','.join(written)}}}")


class Training(NamedTuple):
    """What a run would train with, but for its model."""

    data: "VideoData"
    normalise: "Normalise"
    on_clips: "Sequence[nn.Module]"
    on_batches: "Sequence[OnBatch]"
    device: "torch.device"
    root: str

    def batches(self, number: int) -> "Iterator[tuple[dict[str, Any], Tensor, Tensor]]":
        """The first batches of the first epoch: as loaded; clips (N, C, T, H, W); share of each clip in each (N, N).

        Clips are normalised and augmented. Raises ValueError where an epoch has fewer batches.
        """
        from itertools import islice

        import torch

        from tubelet.video.batches import BatchDraw, augmented

        loader = self.data.train_dataloader()
        if number > len(loader):
            raise ValueError(f"--num-batches {number} is more than the {len(loader)} of an epoch")
        for i, batch in enumerate(islice(loader, number)):
            draw = BatchDraw(self.data.seed, 0, i, self.data.trainer.global_rank)
            itself = torch.eye(batch["shown"].numel(), device=self.device)  # every clip is a class of its own
            yield batch, *augmented(batch["video"].to(self.device), itself, self.normalise, self.on_batches, draw)

    def summary(self) -> str:
        """One line: the augmentations in their order, and where they run."""
        where = f"workers ({self.data.num_workers})" if self.data.num_workers else "the training process"
        on_device = _names([self.normalise, *self.on_batches])
        return f"augmentation: {_names(self.on_clips)} in {where}; then {on_device} on {self.device}"


def _names(transforms: "Sequence[nn.Module]") -> str:
    """Of those that are ever applied."""
    return ", ".join(_name(one) for one in transforms if getattr(one, "p", 1) > 0) or "none"


def _name(transform: "nn.Module") -> str:
    pairs = len(getattr(transform, "twins", {})) // 2  # of a flip that knows labels
    told = f" (swaps labels of {pairs} twin pair{'s' * (pairs > 1)})" if pairs else ""
    return type(transform).__name__ + told


def prepare(cfg: Any) -> Training:
    """From a config of train.yaml. Raises what a run would, where it is about data or augmentation."""
    import lightning as L

    from tubelet.training import build, build_data
    from tubelet.training.batch_size import AUTO
    from tubelet.video.transforms import Normalise

    if cfg.data.batch_size == AUTO:
        raise ValueError(f"tubelet browse needs a number, and finds none by trying: data.batch_size=8, not {AUTO}")
    catalogue = build_data.build_catalogue(cfg.data)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    on_clips, on_batches = build_data.build_augment(cfg, catalogue.classes)
    data = build_data.build_training_data(cfg, catalogue, on_clips)
    # Only for the device of the first rank, and its part of the data.
    data.trainer = build.build(cfg.trainer, logger=False, enable_checkpointing=False, enable_model_summary=False)
    device = data.trainer.strategy.root_device
    normalise = Normalise(cfg.clip.mean, cfg.clip.std).to(device)
    return Training(data, normalise, list(on_clips.values()), on_batches, device, cfg.data.root or ".")


def _draw_training(training: Training, told: argparse.Namespace, out: Path) -> list[str]:
    """Returns the names of the files."""
    import torch

    from tubelet.analysis.browse import views_of_training
    from tubelet.analysis.browse_pictures import draw_views, film_views

    videos, catalogue, written = training.data.train_set.videos, training.data.catalogue, []
    for i, (batch, clips, shares) in enumerate(training.batches(told.num_batches)):
        pixels = torch.stack([training.normalise.undone(clip).cpu() for clip in clips])  # one by one: less memory
        views = views_of_training(batch, pixels, shares.cpu(), videos, catalogue, training.root)
        shown = views[: told.num_clips]
        title = f"training batch {i} of epoch 0, seed {training.data.seed}: {len(shown)} of its {len(views)} clips"
        draw_views([[view] for view in shown], [title, training.summary()], out / f"train_{i}.png")
        film_views(shown, out / f"train_{i}.mp4")
        written += [f"train_{i}.png", f"train_{i}.mp4"]
    return written


def _draw_test(training: Training, num_videos: int, out: Path) -> list[str]:
    """Returns the names of the files."""
    from tubelet.analysis.browse import views_of_test
    from tubelet.analysis.browse_pictures import draw_views, film_views
    from tubelet.video.order import Draw

    test = training.data.test_set
    number = min(num_videos, len(test))
    of_videos: list[Any] = []  # for each video a list of its clips, each a list of its crops
    for i in range(number):
        sample = test[Draw(0, (2 * i + 1) * len(test) // (2 * number))]  # the middle of each of as many parts
        of_videos.append(views_of_test(sample, test.videos, training.data.catalogue, training.root))
        if sum(map(len, of_videos)) >= MOST:
            break
    if not of_videos:
        return []
    rows = [row for rows in of_videos for row in rows][:MOST]
    num_clips, num_crops = len(of_videos[0]), len(rows[0])
    title = f"test: {num_clips} clips x {num_crops} crops of each video; {len(of_videos)} of {len(test)} videos"
    draw_views(rows, [title], out / "test.png")
    film_views([view for row in rows for view in row][:MOST], out / "test.mp4", together=num_crops)
    return ["test.png", "test.mp4"]
