"""How long training waits for its loader, and what it says of it."""

import logging
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import Dataset

from tubelet.training import waiting
from tubelet.training.dry_run import StopAfter, num_measured
from tubelet.training.resume import ResumableLoader
from tubelet.training.waiting import WARM_UP, Loading, Waiting, short_side
from tubelet.video.annotations import Video
from tubelet.video.order import TrainingOrder


class Videos(Dataset):
    """Each takes so many seconds to load."""

    def __init__(self, seconds: float):
        self.seconds, self.index = seconds, {}

    def __len__(self):
        return 3 * (WARM_UP + 2)

    def __getitem__(self, draw):
        time.sleep(self.seconds)
        return {"video": torch.ones(2, 5)}  # two views


class Data(L.LightningDataModule):
    num_workers, reader, resize, repeats = 0, "auto", 56, 1

    def __init__(self, seconds):
        super().__init__()
        self.train_set = Videos(seconds)

    def train_dataloader(self):
        order = TrainingOrder(len(self.train_set), 0, 3, 0, 1)
        return ResumableLoader(self.train_set, 3, sampler=order, num_workers=0)


class Model(L.LightningModule):
    """A step that takes so many seconds."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.readers, self.fc = seconds, Counter(pyav_seek=7), nn.Linear(5, 1)

    def training_step(self, batch, _):
        time.sleep(self.seconds)
        return self.fc(batch["video"]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def run(caplog, monkeypatch):
    """(seconds a video, seconds a step) -> the callback, the metrics and the lines after two epochs."""
    monkeypatch.setattr(waiting, "num_cores", lambda: 4)
    caplog.set_level(logging.INFO, logger="tubelet")

    def go(video, step):
        callback = Waiting()
        trainer = L.Trainer(
            log_every_n_steps=1,
            accelerator="cpu",
            max_epochs=2,
            callbacks=callback,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(Model(step), Data(video))
        return callback.times, trainer.callback_metrics, [r.message for r in caplog.records if "waiting" in r.message]

    return go


def test_a_slow_loader_is_measured_logged_and_told_once_with_what_would_help(run):
    times, metrics, lines = run(0.005, 0.03)
    assert 0.015 <= times["data_time"] < 0.06  # three videos a batch; sleeping takes longer than asked
    assert 0.03 <= times["step_time"] < 0.12
    share = metrics["train/data_time"] / (metrics["train/data_time"] + metrics["train/step_time"])
    assert metrics["train/waiting"] == pytest.approx(float(share))
    assert 0.2 < metrics["train/waiting"] < 0.6
    assert len(lines) == 1
    assert lines[0].endswith("what would help: data.num_workers=1 (0 now, 4 cores)")


def test_the_clips_of_all_views_and_the_memory_of_the_process_are_logged(run):
    _, metrics, _ = run(0.0, 0.02)
    batch = metrics["train/data_time"] + metrics["train/step_time"]
    assert metrics["train/clips_per_second"] == pytest.approx(float(3 * 2 / batch))  # two views of three videos
    assert 100 < metrics["train/peak_memory"] < 20_000  # MiB: torch alone takes more than the first


def test_of_a_loader_that_keeps_up_nothing_is_said(run):
    times, metrics, lines = run(0.0, 0.05)
    assert times["data_time"] < 0.01
    assert metrics["train/waiting"] < 0.15
    assert lines == []


class Devices(TorchFunctionMode):
    """Notes the devices that are named to torch, as by `torch.tensor(1.0, device=...)`."""

    def __init__(self):
        super().__init__()
        self.calls, self.named = 0, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        self.named += [one for one in (*args, *(kwargs or {}).values()) if isinstance(one, torch.device)]
        return function(*args, **(kwargs or {}))


def test_no_figure_is_put_on_the_device_of_the_model_which_would_have_to_be_waited_for(run, monkeypatch):
    devices, measure = Devices(), Waiting.on_train_batch_end

    def noted(self, trainer, module, *others):
        monkeypatch.setattr(type(module), "device", torch.device("meta"))  # where a number would be lost
        with devices:
            measure(self, trainer, module, *others)
        monkeypatch.undo()

    monkeypatch.setattr(Waiting, "on_train_batch_end", noted)
    _, metrics, _ = run(0.001, 0.001)
    assert devices.calls > 0
    assert torch.device("meta") not in devices.named
    assert {metrics[f"train/{name}"].device.type for name in ("data_time", "step_time", "waiting")} == {"cpu"}


def test_what_would_help_is_told_long_before_an_epoch_of_hours_is_over(run, monkeypatch):
    monkeypatch.setattr(waiting, "JUDGED", 1)
    told_after = []
    monkeypatch.setattr(waiting, "say", lambda trainer, line: told_after.append(trainer.global_step))
    run(0.005, 0.005)
    assert told_after == [WARM_UP + 1]  # of WARM_UP + 2 steps of the first epoch


class Loaded:
    """A loader on a clock of its own: processes that load two batches ahead, and batches that are taken in order."""

    def __init__(self, num_workers, seconds):
        self.now, self.waited, self.seconds, self.taken = 0.0, 0.0, seconds, 0
        self.ready = [seconds * (1 + i // num_workers) for i in range(2 * num_workers)]  # when each batch is there
        self.num_workers = num_workers

    def take(self):
        ready = self.ready[self.taken]
        self.waited += max(ready - self.now, 0.0)
        self.now = max(ready, self.now)
        self.taken += 1
        self.ready.append(max(self.ready[-self.num_workers], self.now) + self.seconds)


@pytest.mark.parametrize("num_workers", [4, 16, 32])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_what_was_loaded_at_the_start_is_no_part_of_the_waiting_that_a_dry_run_finds(
    num_workers, accumulated, monkeypatch
):
    loader, callback, stop = Loaded(num_workers, seconds=2.0), Waiting(), StopAfter()
    monkeypatch.setattr(waiting.time, "monotonic", lambda: loader.now)
    loops = SimpleNamespace(max_epochs=1, epoch_loop=SimpleNamespace(max_steps=1))
    trainer = SimpleNamespace(
        **{"train_dataloader": loader, "datamodule": SimpleNamespace(num_workers=num_workers), "fit_loop": loops},
        **{"accumulate_grad_batches": accumulated, "global_step": 0, "should_stop": False, "world_size": 1},
        **{"log_every_n_steps": 0, "is_global_zero": False},
    )
    module = SimpleNamespace(device=torch.device("cpu"), num_steps=lambda: 1)
    stop.on_fit_start(trainer, module)
    callback.on_train_start(trainer, module)
    while not trainer.should_stop:
        loader.take()
        loader.now += 0.02  # a step
        trainer.global_step = loader.taken // accumulated
        for one in (callback, stop):
            one.on_train_batch_end(trainer, module, None, {"video": torch.ones(3, 2)}, loader.taken - 1)
    share = callback.times["data_time"] / sum(callback.times.values())
    assert share == pytest.approx(1 - 0.02 * num_workers / 2.0, abs=0.06)  # so many batches in two seconds


@pytest.mark.parametrize(
    ("num_workers", "accumulated", "expected"),
    [(0, 1, 20), (2, 1, 20), (6, 1, 24), (8, 1, 24), (32, 1, 96), (32, 3, 32), (16, 2, 24), (7, 4, 21)],
)
def test_a_dry_run_measures_whole_rounds_of_the_loading_processes(num_workers, accumulated, expected):
    assert num_measured(num_workers, accumulated) == expected


LOADING = Loading(
    data_time=0.3,
    step_time=0.1,
    num_workers=2,
    cores=16,
    reader="decord",
    reads_whole_files=True,
    short_side=lambda: 1080.0,
    resize=256,
    repeats=1,
)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({}, "data.num_workers=8 (2 now, 16 cores)"),  # a batch of 0.4 s must come every 0.1 s
        ({"cores": 6}, "data.num_workers=6 (2 now, 6 cores)"),
        ({"num_workers": 0}, "data.num_workers=3 (0 now, 16 cores)"),  # 0.3 s of loading for each 0.1 s
        ({"cores": 2}, "data.reader=auto (now decord)"),
        ({"cores": 2, "reader": "auto"}, "`tubelet scan` with the same data"),
        ({"cores": 2, "reader": "auto", "reads_whole_files": False}, "`tubelet transcode` with the same data"),
        ({"cores": 2, "reader": "auto", "reads_whole_files": False, "resize": 540}, "data.repeats=2 takes two"),
        (
            {"cores": 2, "reader": "auto", "reads_whole_files": False, "resize": 540, "repeats": 2},
            "all cores are at work",
        ),
    ],
)
def test_the_advice_is_the_first_change_that_can_help_this_run(change, advice):
    assert replace(LOADING, **change).advice().startswith(advice)


def test_the_share_is_that_of_waiting_in_the_time_of_a_batch():
    assert LOADING.share == pytest.approx(0.75)


def test_the_short_side_is_that_of_the_videos_as_they_are_shown(tmp_path, monkeypatch):
    sizes = {"a": (30, 40), "b": (1080, 1920), "c": (720, 1280)}

    class Opened:
        def __init__(self, path):
            self.size = sizes[path]

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return

    monkeypatch.setattr(waiting, "open_video", Opened)
    assert short_side(SimpleNamespace(catalogue=SimpleNamespace(train=[Video(name, 0) for name in sizes]))) == 720
