"""The LightningModules: evaluation around a predictor, and training on top of it."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from tubelet.evaluation.predictor import Predictor
from tubelet.evaluation.results import Answers, NotFinite, Results
from tubelet.training.groups import train_only
from tubelet.training.optim import Optim
from tubelet.training.progress import diverged, refuse_divergence
from tubelet.training.quarantine import Failure, Quarantine, failure_of
from tubelet.video.batches import BatchDraw, augmented, first_views_first
from tubelet.video.failures import error_of, nothing_read
from tubelet.video.mixing import OnBatch
from tubelet.weights.files import RECORD

T = TypeVar("T")
Batch = dict[str, Tensor | list[str]]
ALL_FAIL = 20  # videos of a rank: if not one of so many could be read, it is the reader, or the place of the data
BATCHES_BETWEEN_COUNTS = 50  # of the failures of all ranks, who must agree to stop; asking costs all of them a pause


class Evaluator(L.LightningModule):
    """Validation and test. Batches: uint8 video (B, V, C, T, H, W), label, index (B,), B strings reader, failure.

    tested: what the videos of the test are called: test, or val or train where eval.py shows those
    """

    def __init__(self, predictor: Predictor, quarantine: Quarantine, tested: str = "test"):
        super().__init__()
        self.predictor, self.quarantine, self.tested = predictor, quarantine, tested
        self.answers, self.eval_loss = Answers(), MeanMetric()
        self.results: Results | None = None  # of the last validation or test
        self.readers: Counter[str] = Counter()  # how many videos each decoder read
        self.failures: Counter[str] = Counter()  # how often each message of a failed read was met
        self._own: list[Failure] = []  # failures that the other ranks have not heard of
        self._there = 0  # how many failures were of files that are on disk

    def count(self, batch: Batch, split: str) -> None:
        """Raises DecodeError where nothing at all can be read."""
        failed = [failure for failure in batch["failure"] if failure]
        self.readers.update(reader for reader in batch["reader"] if reader)
        self.failures.update(failed)
        self._own += [failure_of(failure, self.current_epoch, split) for failure in failed]
        self._there += sum(os.path.exists(error_of(failure).path) for failure in failed)  # a missing file is no sign
        if not self.readers and self._there >= ALL_FAIL:
            raise nothing_read(self.trainer.datamodule.reader, [error_of(one) for one in self.failures.elements()])

    def share_failures(self) -> None:
        """Every rank must call it."""
        found, self._own = list(chain.from_iterable(self._of_all_ranks(self._own))), []
        self.quarantine.add(found)

    def validation_step(self, batch: Batch, _: int) -> None:
        self._answer(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._answer(batch, self.tested)

    def _answer(self, batch: Batch, split: str) -> None:
        self.count(batch, split)
        probabilities = self.predictor(batch["video"])
        label, failed = batch["label"], torch.tensor([reason != "" for reason in batch["failure"]])
        read = ~failed.to(label.device)
        # An answer to a black clip says nothing of the model. Weight 0 all the same, so that the mean is of something.
        losses = nn.functional.nll_loss(probabilities[read].clamp_min(1e-12).log(), label[read], reduction="sum")
        self.eval_loss.update(losses / max(int(read.sum()), 1), int(read.sum()))
        self.answers.update(batch["index"], label, failed.to(label.device), probabilities)
        self._failed_now.update(reason for reason in batch["failure"] if reason)

    def on_validation_epoch_start(self) -> None:
        self.answers.reset()
        self._failed_now: set[str] = set()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def _finish(self, split: str) -> None:
        self.share_failures()
        data = self.trainer.datamodule
        videos, catalogue = getattr(data, f"{split}_set").videos, data.catalogue
        index, label, failed, probabilities = (x.cpu() for x in self.answers.compute())
        shown = [videos[i] for i in index.tolist()]
        failures = sorted(set().union(*self._of_all_ranks(self._failed_now)))
        there = [error for error in map(error_of, failures) if failed.all() and os.path.exists(error.path)]
        if there and not self.trainer.sanity_checking:  # which looks at the first few only
            raise nothing_read(data.reader, there)
        self.results = Results(shown, catalogue.classes, label, failed, probabilities, catalogue.twins, failures)
        self.log(f"{split}/loss", self.eval_loss)
        # The same number on every rank, since every rank has all answers; the mean over ranks leaves it as it is.
        self.log(f"{split}/top1", self.results.top(1), prog_bar=True, sync_dist=True)
        self.log(f"{split}/top5", self.results.top(5), sync_dist=True)

    def counts(self) -> dict[str, dict[str, int]]:
        """Readers and failures since the start, over all ranks; every rank must call it."""
        mine = {"readers": self.readers, "failures": self.failures}
        return {name: dict(sum((own[name] for own in self._of_all_ranks(mine)), Counter())) for name in mine}

    def _of_all_ranks(self, own: T) -> list[T]:
        gathered = [own] * self.trainer.world_size
        if self.trainer.world_size > 1:
            dist.all_gather_object(gathered, own)
        return gathered


class Classifier(Evaluator):
    """Training: the loss over all views of all videos, and the optimiser.

    augment: of the batches, applied in their order
    record: plain types that every checkpoint carries, so that it stands alone: config and class names
    """

    def __init__(
        self, predictor: Predictor, quarantine: Quarantine, optim: Optim, augment: Sequence[OnBatch], record: dict
    ):
        super().__init__(predictor, quarantine)
        self.optim, self.augment, self.record = optim, augment, record
        if optim.trained is not None:
            train_only(predictor.model, optim.trained)
        self.loss = nn.CrossEntropyLoss(label_smoothing=optim.label_smoothing)
        self.train_loss = MeanMetric(nan_strategy="disable")  # looking for NaN would wait for the device at each step
        self._losses: list[dict[str, float]] = []  # of each rank, in the epoch that a resume goes on with

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss over all views of all videos."""
        self.count(batch, "train")
        clips, shown = self._augmented(batch, batch_idx)
        logits = self.predictor.model(clips).float()  # (N, num_classes)
        loss = self.loss(logits, shown)
        self.train_loss.update(loss.detach())
        self.log("train/loss", loss, batch_size=len(logits))  # for a bar Lightning would fetch it at each step
        return loss

    def _augmented(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Normalised clips (N, C, T, H, W) and what each shows (N, num_classes), for N = V views of B videos."""
        data = self.trainer.datamodule
        shown = nn.functional.one_hot(first_views_first(batch["shown"]), len(data.catalogue.classes)).float()
        draw = BatchDraw(data.seed, self.current_epoch, batch_idx, self.global_rank)
        return augmented(batch["video"], shown, self.predictor.normalise, self.augment, draw)

    def on_train_epoch_start(self) -> None:  # which Lightning leaves out when it resumes within an epoch
        self.train_loss.reset()

    def on_train_batch_end(self, outputs: dict, batch: Batch, batch_idx: int) -> None:
        if self.trainer.world_size == 1 or (batch_idx + 1) % BATCHES_BETWEEN_COUNTS == 0:
            self.share_failures()

    def on_train_epoch_end(self) -> None:
        self.share_failures()
        refuse_divergence(float(self.train_loss.compute()), self.trainer.global_step)
        self.log("train/loss_epoch", self.train_loss)

    def on_validation_epoch_end(self) -> None:
        try:
            super().on_validation_epoch_end()
        except NotFinite as error:
            if self.trainer.sanity_checking:  # of weights that nothing has trained
                raise
            raise diverged("the answers of the validation are not finite numbers", self.trainer.global_step) from error

    def configure_optimizers(self) -> dict:
        fused = self.device.type == "cuda" and not self._scales
        steps = self.steps_per_epoch(), self.num_steps()
        optimizer, schedule = self.optim.build(self.predictor.model, *steps, fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def _scales(self) -> bool:
        """Whether gradients are scaled, as in 16-mixed, so that they do not vanish in float16."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning refuses a fused optimiser also under bf16-mixed, where nothing is scaled (its issue 21435)."""
        if self._scales or gradient_clip_algorithm != "norm":
            return super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        if gradient_clip_val is not None:
            self.trainer.precision_plugin.clip_grad_by_norm(optimizer, gradient_clip_val)

    def steps_per_epoch(self) -> int:
        """Optimiser steps. trainer.estimated_stepping_batches would make the loaders, and forget where they were."""
        batches = self.trainer.datamodule.batches_per_epoch(self.trainer.world_size)
        return math.ceil(limited(batches, self.trainer.limit_train_batches) / self.trainer.accumulate_grad_batches)

    def num_steps(self) -> int:
        """Optimiser steps of the whole run. Raises ValueError where nothing ends it, or its warm-up takes all of it."""
        of_epoch, trainer = self.steps_per_epoch(), self.trainer
        ends = {"max_steps": trainer.max_steps, "max_epochs": of_epoch * (trainer.max_epochs or 0)}
        ends = {f"trainer.{key}={getattr(trainer, key)}": steps for key, steps in ends.items() if steps > 0}
        if not ends:
            raise ValueError("trainer.max_epochs or trainer.max_steps must end the run: the schedule needs its length")
        first = min(ends, key=ends.__getitem__)
        self.optim.check_warmup(of_epoch, ends[first], first)
        return ends[first]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint[RECORD] = self.record
        own = {name: value.item() for name, value in self.train_loss.metric_state.items()}
        checkpoint["losses"] = self._of_all_ranks(own)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self._losses = checkpoint.get("losses", [])

    def on_train_start(self) -> None:
        """The mean loss of an epoch outlives a resume in its middle; on another number of ranks, the first has all."""
        losses, ranks = self._losses, self.trainer.world_size
        if losses and len(losses) != ranks:
            summed = {name: sum(own[name] for own in losses) for name in losses[0]}
            losses = [summed, *[dict.fromkeys(summed, 0.0)] * (ranks - 1)]
        for name, value in losses[self.global_rank].items() if losses else ():
            setattr(self.train_loss, name, torch.tensor(value, device=self.device))


def limited(batches: int, limit: float | None) -> int:
    """As Lightning takes its limits: a whole number of batches, or a share of them."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
