"""The loaders of training, validation and test."""

from typing import Any

import lightning as L
import torch
from torch import Generator
from torch.utils.data import DataLoader

from tubelet.training.resume import ResumableLoader
from tubelet.video.annotations import Catalogue
from tubelet.video.dataset import TrainingDataset, VideoDataset
from tubelet.video.known import KnownVideos
from tubelet.video.open import ReadOptions, check_reader
from tubelet.video.order import EvaluationOrder, TrainingOrder
from tubelet.video.processes import start_loading
from tubelet.video.sampling import Order
from tubelet.video.views import TestViews, TrainingView


class VideoData(L.LightningDataModule):
    """Batches of a catalogue's videos as uint8 (B, V, C, T, H, W) with label, index, reader and failure.

    training, validation, test: the views of a video in each
    order: what is done to the frames of each clip
    step: videos of one optimiser step, over all ranks and accumulated batches
    batch_size: videos of one batch on one device
    eval_batch_size: the same in validation and test; None takes batch_size
    num_workers: decoding processes of each rank; 0 decodes in the training process
    reader, time_limit, frame_names, first_frame: see open.py
    scale_while_decoding: frames with a short side of more than twice clip.resize are scaled to it by their reader
    on_error: raise stops at the first broken file; skip goes on, in training with another video in its place,
        in evaluation counting it as answered wrongly; both are counted and named
    index: what `tubelet scan` found out about the videos
    """

    def __init__(
        self,
        catalogue: Catalogue,
        training: TrainingView,
        validation: TestViews,
        test: TestViews,
        order: Order,
        seed: int,
        step: int,
        batch_size: int,
        eval_batch_size: int | None,
        num_workers: int,
        reader: str,
        on_error: str,
        time_limit: float = 20.0,
        scale_while_decoding: bool = True,
        frame_names: str | None = None,
        first_frame: int | None = None,
        index: KnownVideos | None = None,
    ):
        super().__init__()
        if on_error not in ("raise", "skip"):
            raise ValueError(f"data.on_error={on_error} is neither raise nor skip")
        for key, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if not isinstance(value, int) or value < least:
                instead = ", or in training auto" if key == "batch_size" else ""
                raise ValueError(f"data.{key}={value} is not a whole number of at least {least}{instead}")
        if eval_batch_size is not None and eval_batch_size < 1:
            raise ValueError(f"data.eval_batch_size={eval_batch_size} is not a whole number of at least 1")
        options = ReadOptions(test.resize if scale_while_decoding else None, time_limit, frame_names, first_frame)
        check_reader(reader, options)
        self.catalogue, self.seed, self.step, self.reader = catalogue, seed, step, reader
        self.batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.resize, self.repeats = num_workers, test.resize, training.repeats
        reading = {"reader": reader, "options": options, "skip_errors": on_error == "skip", "index": index}
        shared = {"order": order, "seed": seed, **reading}
        self.train_set = TrainingDataset(catalogue.train, training.sample, transform=training.transform, **shared)
        self.val_set = VideoDataset(catalogue.val, validation.sample, transform=validation.transform, **shared)
        self.test_set = VideoDataset(catalogue.test, test.sample, transform=test.transform, **shared)

    @property
    def eval_batch_size(self) -> int:
        return self._eval_batch_size or self.batch_size

    def batches_per_epoch(self, world_size: int) -> int:
        """Training batches of one rank."""
        return len(self.catalogue.train) // self.step * self.step // (world_size * self.batch_size)

    def train_dataloader(self) -> DataLoader:
        order = TrainingOrder(len(self.train_set), self.seed, self.step, *self._place())
        return ResumableLoader(self.train_set, self.batch_size, sampler=order, **self._loading())

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader(self.val_set)

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader(self.test_set)

    def _evaluation_loader(self, dataset: VideoDataset) -> DataLoader:
        order = EvaluationOrder(len(dataset), *self._place())
        return DataLoader(dataset, self.eval_batch_size, sampler=order, **self._loading())

    def _place(self) -> tuple[int, int]:
        """Rank and number of ranks."""
        return self.trainer.global_rank, self.trainer.world_size

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": start_loading,
            # Of its own: else each epoch of a loader draws from the global one, and dropout changes with it.
            "generator": Generator().manual_seed(self.seed),
        }
