"""How much of the training time passes in waiting for videos, and what to change where that is much."""

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import lightning as L
import torch

from tubelet.training.data import VideoData
from tubelet.training.memory import peak_memory_mib
from tubelet.training.progress import say
from tubelet.video.open import open_video
from tubelet.video.reader import DecodeError
from tubelet.video.scaling import LARGE

MUCH = 0.2  # share of the time of a batch; less is not worth a change
WARM_UP = 10  # batches of a run that count for nothing: processes start, and files come into the system's cache
AHEAD = 2  # batches that each process loads at the start, before it is asked for more: they count for nothing either
ROUNDS = 3  # batches of each process that are measured at least: where loading is slow, those of all come together
JUDGED = 100  # batches after the warm-up, by which it is judged; an epoch can take hours
LOOKED_INTO = 3  # videos, to find out how large they are
PLAIN = {"auto", "pyav_seek", "frames"}  # readers than which none is faster where they are exact


@dataclass(frozen=True)
class Loading:
    """What there is to know of a run whose loader may be too slow.

    data_time, step_time: seconds of a batch: waiting for it, and all else
    cores: of this machine, for each rank
    reads_whole_files: videos are decoded from their beginning, and no index tells how long they are
    short_side: gives the pixels of the videos' frames; asked last, since it opens files
    resize: pixels that the short side has in training
    """

    data_time: float
    step_time: float
    num_workers: int
    cores: int
    reader: str
    reads_whole_files: bool
    short_side: Callable[[], float]
    resize: int
    repeats: int

    @property
    def share(self) -> float:
        return self.data_time / (self.data_time + self.step_time)

    def advice(self) -> str:
        """The first change that can help: more processes, then less work for a video, then more use of each."""
        if self.num_workers < self.cores:
            # So many as would load a batch in the time of a step, if each went on at its present pace.
            batch = self.data_time + (self.step_time if self.num_workers else 0.0)
            needed = math.ceil(max(self.num_workers, 1) * batch / max(self.step_time, 1e-9))
            return f"data.num_workers={min(needed, self.cores)} ({self.num_workers} now, {self.cores} cores)"
        if self.reader not in PLAIN:
            return f"data.reader=auto (now {self.reader})"
        if self.reads_whole_files:
            return "`tubelet scan` with the same data=... writes an index, by which reading ends with the clip"
        if (side := self.short_side()) > LARGE * self.resize:
            return f"`tubelet transcode` with the same data=... makes the frames smaller (short side {side:.0f})"
        if self.repeats == 1:
            return "data.repeats=2 takes two augmented clips of each video that is decoded"
        return "all cores are at work: a machine with more of them, or a smaller clip"


class Waiting(L.Callback):
    """Logs train/data_time and train/step_time, seconds a batch, and train/waiting, the first's share of both.

    Also train/clips_per_second, over all ranks, and train/peak_memory, MiB of this rank since the start of the run.
    All but that are means over the epoch so far. On a GPU, which works on after the step has been handed to it,
    waiting is only what the GPU had nothing to do for.
    """

    def __init__(self) -> None:
        self.told = False
        self._batches = 0
        self._run = self._epoch = (0.0, 0.0)  # seconds of waiting, of all else
        self._gap: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        self._warm_up, self._judged = WARM_UP, JUDGED

    @property
    def times(self) -> dict[str, float]:
        """data_time and step_time over the run, without its warm-up; empty where it was no longer than that."""
        num = self._batches - self._warm_up
        return {} if num <= 0 else dict(zip(("data_time", "step_time"), (s / num for s in self._run), strict=True))

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._warm_up = warm_up(trainer.datamodule.num_workers)
        self._judged = max(JUDGED, ROUNDS * trainer.datamodule.num_workers)
        self.on_train_epoch_start(trainer, module)  # which Lightning leaves out when it resumes within an epoch

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._epoch, self._epoch_batches, self._epoch_clips = (0.0, 0.0), 0, 0
        self._last, self._waited = time.monotonic(), trainer.train_dataloader.waited

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch, batch_idx: int) -> None:
        if self._gap:
            self._gap[1].record()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx: int) -> None:
        now, waited = time.monotonic(), trainer.train_dataloader.waited
        taken, data = now - self._last, waited - self._waited
        self._last, self._waited = now, waited
        if module.device.type == "cuda":
            data = min(data, self._idle()) if self._gap else data
            self._gap = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._gap[0].record()
        self._batches, self._epoch_batches = self._batches + 1, self._epoch_batches + 1
        self._epoch = self._epoch[0] + data, self._epoch[1] + taken - data
        if self._batches > self._warm_up:
            self._run = self._run[0] + data, self._run[1] + taken - data
        self._epoch_clips += batch["video"].shape[:2].numel() * trainer.world_size
        every = trainer.log_every_n_steps
        if every and trainer.global_step % every == 0:  # Lightning would drop it, after a millisecond of work
            # Lightning would put plain numbers on the device, and each such copy waits for all that it has to do.
            module.log_dict({name: torch.tensor(value) for name, value in self._figures(module.device).items()})
        if self._batches == self._warm_up + self._judged:
            self._advise(trainer, module)

    def _figures(self, device: torch.device) -> dict[str, float]:
        names = ("train/data_time", "train/step_time")
        means = (seconds / self._epoch_batches for seconds in self._epoch)
        figures = dict(zip(names, means, strict=True)) | {"train/waiting": self._epoch[0] / sum(self._epoch)}
        figures["train/clips_per_second"] = self._epoch_clips / sum(self._epoch)
        memory = peak_memory_mib(device)
        return figures if memory is None else figures | {"train/peak_memory": memory}

    def _idle(self) -> float:
        """Seconds for which the GPU had nothing to do before this step."""
        ended, begun = self._gap
        begun.synchronize()
        return ended.elapsed_time(begun) / 1000

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._last = time.monotonic()  # validation is not training time

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._advise(trainer, module)

    def _advise(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Once in a run, and only where waiting takes much of its time."""
        measured = self._batches - self._warm_up
        if self.told or measured < max(ROUNDS * trainer.datamodule.num_workers, 1) or not trainer.is_global_zero:
            return
        loading = _loading(trainer, module, self.times)
        if loading.share > MUCH:
            self.told = True
            share = f"{100 * loading.share:.0f} % of the training time is waiting for videos"
            say(trainer, f"{share}; what would help: {loading.advice()}")


def _loading(trainer: L.Trainer, module: L.LightningModule, times: dict[str, float]) -> Loading:
    data: VideoData = trainer.datamodule
    read_by = module.readers.most_common(1)
    return Loading(
        **times,
        num_workers=data.num_workers,
        cores=max(num_cores() // trainer.num_devices, 1),
        reader=data.reader,
        reads_whole_files=bool(read_by) and read_by[0][0] == "pyav" and not data.train_set.index,
        short_side=lambda: short_side(data),
        resize=data.resize,
        repeats=data.repeats,
    )


def warm_up(num_workers: int) -> int:
    """Batches of a run that count for nothing."""
    return max(WARM_UP, AHEAD * num_workers)


def num_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def short_side(data: VideoData) -> float:
    """Pixels: the median over a few training videos; 0 where none of them can be read."""
    paths = [video.path for video in data.catalogue.train]
    sides = []
    for path in paths[:: max(len(paths) // LOOKED_INTO, 1)][:LOOKED_INTO]:
        try:
            with open_video(path) as opened:
                sides.append(min(opened.size))
        except DecodeError:  # told elsewhere, when it is trained on
            continue
    return statistics.median(sides) if sides else 0.0
