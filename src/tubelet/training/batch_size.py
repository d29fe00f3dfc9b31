"""data.batch_size=auto: the most videos that a device holds in a training step, of those that divide total_batch.

Found by trying: whole steps on random clips, with the run's model, optimiser and precision, largest batch first.
"""

import copy
import gc
import logging
from collections.abc import Callable, Iterator, Sequence

import lightning as L
import torch
from omegaconf import DictConfig
from torch import nn

from tubelet.evaluation.predictor import Predictor
from tubelet.training.build_data import least_batch
from tubelet.training.optim import Optim
from tubelet.video.batches import BatchDraw, augmented
from tubelet.video.mixing import OnBatch

log = logging.getLogger(__name__)
AUTO = "auto"
FILLED = 0.9  # share of a GPU's memory that a step may take: the rest is for other ranks' gradients and for fragments


def sizes_that_divide(total_batch: int, devices: int, repeats: int) -> list[int]:
    """Batch sizes of which whole numbers make a step, largest first. Raises ValueError where there is none."""
    at_once = devices * repeats
    if total_batch % at_once:
        raise ValueError(
            f"optim.total_batch={total_batch} is not a multiple of {devices} devices times data.repeats={repeats}, "
            "so no data.batch_size fits it"
        )
    share = total_batch // at_once
    return [size for size in range(share, 0, -1) if share % size == 0]


def largest(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The first of `sizes` that fits; None where none does."""
    return next((size for size in sizes if fits(size)), None)


class Trial:
    """Training steps on a copy of the model, whose weights the run never sees.

    shape: (V, C, T, H, W) of a video
    """

    def __init__(
        self,
        predictor: Predictor,
        optim: Optim,
        augment: Sequence[OnBatch],
        trainer: L.Trainer,
        shape: Sequence[int],
    ):
        self.device, self.precision = trainer.strategy.root_device, trainer.precision_plugin
        self.shape, self.augment = tuple(shape), augment
        self.predictor = self.precision.convert_module(copy.deepcopy(predictor)).to(self.device)
        self.optimizer, _ = optim.build(self.predictor.model, 1, 1)

    def fits(self, batch_size: int) -> bool:
        """Whether two steps end with memory left; the second has the optimiser's state and the first's gradients."""
        try:
            with torch.random.fork_rng(list(self._gpus())):
                self._step(batch_size)
                self._step(batch_size)
            return self._within_limit()
        except torch.OutOfMemoryError:
            return False
        finally:
            self.release()

    def _step(self, batch_size: int) -> None:
        """Gradients are never set to None: where they are accumulated, they are there during the forward."""
        video = torch.randint(0, 256, (batch_size, *self.shape), dtype=torch.uint8, device=self.device)
        label = torch.ones(batch_size * self.shape[0], 1, device=self.device)  # of one class
        with self.precision.forward_context():
            clips, _ = augmented(video, label, self.predictor.normalise, self.augment, BatchDraw(0, 0, 0, 0))
            logits = self.predictor.model(clips).float()
            loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=self.device))
        loss.backward()
        self.optimizer.step()

    def _gpus(self) -> Iterator[int]:
        if self.device.type == "cuda":
            yield self.device.index or 0

    def _within_limit(self) -> bool:
        for gpu in self._gpus():
            free, _ = torch.cuda.mem_get_info(gpu)
            held, most = torch.cuda.memory_reserved(gpu), torch.cuda.max_memory_reserved(gpu)
            return most <= FILLED * (free + held)
        return True

    def release(self) -> None:
        """Give back what a trial took, also what the cycles of a failed one hold."""
        gc.collect()
        for gpu in self._gpus():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(gpu)


def find_batch_size(
    cfg: DictConfig, predictor: Predictor, optim: Optim, augment: Sequence[OnBatch], trainer: L.Trainer
) -> int:
    """The largest that fits. Raises ValueError where it cannot be found, or not even the smallest batch fits."""
    device = trainer.strategy.root_device
    check_place(device, trainer)
    repeats = cfg.data.repeats
    least = least_batch(augment)
    sizes = [size for size in sizes_that_divide(cfg.optim.total_batch, trainer.world_size, repeats) if size >= least]
    shape = (repeats, 3, cfg.clip.num_frames, cfg.clip.crop, cfg.clip.crop)
    found = largest(sizes, Trial(predictor, optim, augment, trainer, shape).fits)
    if found is None:
        less = "activation_checkpointing=true, trainer.precision=bf16-mixed or a smaller clip take less memory"
        number = "one video fits" if least == 1 else f"{least} videos, which mixing needs, fit"
        raise ValueError(f"data.batch_size=auto: not even {number} on {device}; {less}")
    larger = [size for size in sizes if size > found]
    log.info("batch size: %d videos fit on %s, %s", found, device, f"{larger[-1]} do not" if larger else "a whole step")
    return found


def check_place(device: torch.device, trainer: L.Trainer) -> None:
    """Raises ValueError on a CPU, where full memory ends in swapping, and where every rank would find its own size."""
    if device.type != "cuda":
        raise ValueError(
            f"data.batch_size=auto needs a GPU, which tells when its memory is full; on {device} give a number"
        )
    if trainer.world_size > 1 and trainer.strategy.cluster_environment.creates_processes_externally:
        raise ValueError("data.batch_size=auto: under torchrun or srun every rank would find its own; give a number")
