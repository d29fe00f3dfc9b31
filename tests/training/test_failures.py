"""Files that cannot be read: named once each, borne up to a budget in training, counted as wrong in evaluation."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tubelet.training.classifier import ALL_FAIL, Evaluator
from tubelet.training.explain import one_line
from tubelet.training.launch import config_dir
from tubelet.training.quarantine import Failure, Quarantine, TooManyFailures, failure_of
from tubelet.video.annotations import Catalogue, Video
from tubelet.video.dataset import TrainingDataset
from tubelet.video.failures import nothing_read
from tubelet.video.order import TrainingOrder
from tubelet.video.pyav import write_video
from tubelet.video.reader import DecodeError
from tubelet.video.sampling import Dense, forward
from tubelet.video.views import TrainingView

NUM_VIDEOS = 150
TINY = [  # 15 steps of 10 videos
    *("experiment=demo", "data=folder", "data.root=videos", "data.on_error=skip", "model.depth=1", "logger=csv"),
    *("data.batch_size=10", "data.num_workers=1", "optim.total_batch=10", "trainer.max_epochs=1"),
    "trainer.accelerator=cpu",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos/{train,val}/{dark,bright}; of 150 training videos three, 2 %, are broken."""
    place = tmp_path_factory.mktemp("failures")
    for name, brightness in (("dark", 40), ("bright", 200)):
        whole = str(place / f"{name}.mp4")
        write_video(whole, [np.full((56, 60, 3), brightness, dtype=np.uint8)] * 16, fps=10)
        for part, count in (("train", NUM_VIDEOS // 2), ("val", 3)):
            folder = place / "videos" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                shutil.copy(whole, folder / f"{i:03}.mp4")
    cut, empty, text = broken(place)
    cut.write_bytes(cut.read_bytes()[:-200])
    empty.write_bytes(b"")
    text.write_text("<html>404</html>")
    return place


def broken(place: Path) -> list[Path]:
    train = place / "videos/train"
    return [train / "dark/007.mp4", train / "dark/060.mp4", train / "bright/031.mp4"]


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def skipped(place: Path, run_script) -> tuple[Path, str]:
    """(folder of a run that went on without the broken videos, what it printed)."""
    process = run_script("train.py", *TINY, "data.max_failed=0.05", "run_dir=skipped", cwd=place)
    return place / "skipped", process.stdout + process.stderr


def test_training_with_a_large_budget_ends_and_names_exactly_the_broken_files(place: Path, skipped: tuple[Path, str]):
    folder, printed = skipped
    record = json.loads((folder / "metrics.json").read_text())
    assert record["status"] == "finished"
    entries = lines(folder / "quarantine.jsonl")
    assert sorted(Path(one["path"]) for one in entries) == sorted(
        path.relative_to(place) for path in broken(place)
    )  # each once
    assert {(one["epoch"], one["split"], one["stage"]) for one in entries} == {(0, "train", "open")}
    assert all(one["reason"] and "\n" not in one["reason"] for one in entries)
    assert record["quarantine"] == "skipped/quarantine.jsonl"
    assert sorted(record["failures"].values()) == [1, 1, 1]
    assert sum(record["readers"].values()) == NUM_VIDEOS + 3 * 6  # stand-ins too; validation twice, and the test
    assert "unreadable videos: 3, named in skipped/quarantine.jsonl; 0 of the test, counted as wrong" in printed


def test_training_with_the_default_budget_stops_in_one_line_that_says_what_to_do(place: Path, run_script):
    process = run_script("train.py", *TINY, "run_dir=stopped", cwd=place, check=False)
    assert process.returncode == 1
    told = next(line for line in process.stderr.splitlines() if line.startswith("error: "))
    assert told.startswith("error: 2 of 150 training videos could not be read, and data.max_failed=0.005 allows 1; ")
    assert "All are in stopped/quarantine.jsonl; a larger data.max_failed goes on without them" in told
    assert "Traceback" not in process.stderr
    assert len(lines(place / "stopped/quarantine.jsonl")) == 2
    record = json.loads((place / "stopped/metrics.json").read_text())
    assert (record["status"], record["quarantine"]) == ("failed", "stopped/quarantine.jsonl")


def test_an_evaluation_counts_each_broken_file_as_wrong_and_says_so(place: Path, skipped: tuple[Path, str], run_script):
    shown = ["ckpt=skipped/checkpoints/last.ckpt", "subset=train", "run_dir=shown"]
    process = run_script("eval.py", *shown, cwd=place)
    record = json.loads((place / "shown/metrics.json").read_text())
    with open(place / "shown/predictions.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    names = sorted(str(path.relative_to(place)) for path in broken(place))
    assert all((rows[name]["predicted"], rows[name]["correct"]) == ("", "0") for name in names)
    assert (record["train"]["videos"], record["train"]["failures"]) == (NUM_VIDEOS, 3)
    assert record["train"]["top1"] == sum(int(row["correct"]) for row in rows.values()) / NUM_VIDEOS
    assert [failure.partition(": ")[0] for failure in record["train"]["failed"]] == names
    assert {(one["path"], one["split"]) for one in lines(place / "shown/quarantine.jsonl")} == {
        (name, "train") for name in names
    }
    told = "videos 150, of them unreadable 3 (counted as wrong), named in shown/quarantine.jsonl"
    assert told in process.stdout + process.stderr


def test_two_ranks_name_each_broken_file_once_and_tell_it_once(place: Path, run_script):
    ranks = ["trainer=ddp_cpu", "data.batch_size=5", "data.max_failed=0.05", "run_dir=ranks"]
    process = run_script("train.py", *TINY, *ranks, cwd=place)
    names = sorted(str(path.relative_to(place)) for path in broken(place))
    assert sorted(one["path"] for one in lines(place / "ranks/quarantine.jsonl")) == names
    record = json.loads((place / "ranks/metrics.json").read_text())
    assert [record["failures"][failure] for failure in record["failures"]] == [1, 1, 1]
    assert (process.stdout + process.stderr).count("unreadable videos: 3, named in ranks/quarantine.jsonl") == 1


def test_two_ranks_stop_together_over_a_budget_that_each_alone_keeps(place: Path, run_script):
    ranks = ["trainer=ddp_cpu", "data.batch_size=5", "data.max_failed=0.012", "run_dir=ranks_stop"]
    process = run_script("train.py", *TINY, *ranks, cwd=place, check=False)
    assert process.returncode == 1
    told = "3 of 150 training videos could not be read, and data.max_failed=0.012 allows 2; "
    assert f"\nerror: {told}" in process.stderr
    record = json.loads((place / "ranks_stop/metrics.json").read_text())
    assert sum(record["failures"].values()) in (1, 2)  # those of the first rank


def test_missing_and_broken_training_videos_count_as_wrong_in_an_evaluation_of_several_views(
    place: Path, skipped: tuple[Path, str], run_script
):
    cut, empty, _ = (str(path.relative_to(place)) for path in broken(place))
    right = "videos/train/bright/000.mp4"
    names = {right: "bright", cut: "dark", empty: "dark", "videos/train/dark/gone.mp4": "dark"}
    (place / "few.txt").write_text("".join(f"{path} {name}\n" for path, name in names.items()))
    shown = [
        "ckpt=skipped/checkpoints/last.ckpt",
        "subset=train",
        "data=list",
        "data.train=few.txt",
        "data.val=few.txt",
    ]
    shown += ["data.on_error=skip", "views.clips=2", "views.crops=3", "run_dir=views"]
    process = run_script("eval.py", *shown, cwd=place)
    record = json.loads((place / "views/metrics.json").read_text())
    with open(place / "views/predictions.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(names)
    assert [path for path, row in rows.items() if row["predicted"] == ""] == list(names)[1:]
    assert (record["train"]["videos"], record["train"]["failures"]) == (4, 3)
    assert record["train"]["top1"] == int(rows[right]["correct"]) / 4
    assert {one["path"] for one in lines(place / "views/quarantine.jsonl")} == set(names) - {right}
    assert "gone.mp4; they stay in the count, as answered wrongly" in process.stdout + process.stderr


# The parts.


def test_a_training_that_can_read_nothing_stops_at_once_with_one_line_from_its_worker(tmp_path: Path):
    missing = [Video(str(tmp_path / f"{i}.mp4"), 0) for i in range(5)]
    view = TrainingView(Dense(4, 3, None), {})
    dataset = TrainingDataset(missing, view.sample, forward, view.transform, 0, "pyav", skip_errors=True)
    with pytest.raises(DecodeError) as caught:
        list(DataLoader(dataset, 1, sampler=TrainingOrder(1, 0, 1, 0, 1), num_workers=1))
    told = one_line(caught.value, config_dir())
    assert told is not None
    assert told.startswith(
        f"{missing[0].path}: cannot open: data.reader=pyav failed on all 21 videos it was given, on 21 of them for "
        "this: No such file or directory. Are these videos, and data.root right? If so, try data.reader=auto|"
    )
    assert "\n" not in told


def failed(number: int, split: str = "train") -> Failure:
    return Failure(f"{number}.mp4", "open", "no reason", 0, split)


def test_a_path_is_written_once_a_split_with_its_first_failure_there(tmp_path: Path):
    quarantine = Quarantine(str(tmp_path), 10, 1.0)
    quarantine.add([])
    assert quarantine.told() is None
    assert not quarantine.file.exists()
    first, later = failure_of("a: b.mp4: cannot decode: Invalid data", 2, "train"), failed(1, "val")
    quarantine.add([first, first._replace(epoch=3), later])
    quarantine.add([first._replace(split="val", epoch=4), later])
    assert lines(quarantine.file) == [
        {"path": "a: b.mp4", "stage": "decode", "reason": "Invalid data", "epoch": 2, "split": "train"},
        {"path": "1.mp4", "stage": "open", "reason": "no reason", "epoch": 0, "split": "val"},
        {"path": "a: b.mp4", "stage": "decode", "reason": "Invalid data", "epoch": 4, "split": "val"},
    ]


def test_another_run_in_the_same_folder_begins_its_list_anew(tmp_path: Path):
    Quarantine(str(tmp_path), 10, 1.0).add([failed(1)])
    Quarantine(str(tmp_path), 10, 1.0).add([failed(2)])
    assert [one["path"] for one in lines(tmp_path / "quarantine.jsonl")] == ["2.mp4"]


def test_a_path_that_is_not_utf_8_is_written_as_its_bytes(tmp_path: Path):
    Quarantine(str(tmp_path), 10, 1.0).add([failed(1)._replace(path="a\udcff.mp4")])
    assert b'"a\xff.mp4"' in (tmp_path / "quarantine.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("num_videos", "max_failed", "allowed"),
    [(100, 0.05, 5), (100, 0.07, 7), (101, 0.05, 6), (8, 0.005, 1), (100, 0.0, 0), (240_000, 0.005, 1200), (7, 1.0, 7)],
)
def test_the_budget_is_a_share_of_the_training_videos_rounded_up(
    num_videos: int, max_failed: float, allowed: int, tmp_path: Path
):
    assert Quarantine(str(tmp_path), num_videos, max_failed).allowed == allowed


def test_only_training_videos_count_against_the_budget_and_each_once(tmp_path: Path):
    quarantine = Quarantine(str(tmp_path), 10, 0.2)
    quarantine.add([failed(1), failed(2), *(failed(i, "val") for i in range(3, 8))])
    quarantine.add([failed(1), failed(2)])
    with pytest.raises(TooManyFailures, match=r"3 of 10 training videos .* data\.max_failed=0\.2 allows 2; .* 8\.mp4"):
        quarantine.add([failed(8)])
    assert len(lines(quarantine.file)) == 8  # the last one too


def test_a_training_video_that_failed_in_validation_before_counts_against_the_budget(tmp_path: Path):
    quarantine = Quarantine(str(tmp_path), 10, 0.1)
    quarantine.add([failed(1, "val"), failed(2, "val")])
    quarantine.add([failed(1)])
    with pytest.raises(TooManyFailures, match=r"2 of 10 training videos .* allows 1; the last: 2\.mp4"):
        quarantine.add([failed(2)])
    assert [(one["path"], one["split"]) for one in lines(quarantine.file)] == [
        *(("1.mp4", "val"), ("2.mp4", "val"), ("1.mp4", "train"), ("2.mp4", "train"))
    ]


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_budget_that_is_not_a_share_is_an_error(share: float, tmp_path: Path):
    with pytest.raises(ValueError, match=r"data\.max_failed=.* is not a share from 0 to 1"):
        Quarantine(str(tmp_path), 10, share)


def evaluator(tmp_path: Path) -> Evaluator:
    made = Evaluator(nn.Identity(), Quarantine(str(tmp_path), 100, 1.0))
    videos = [Video(f"{i}.mp4", 0) for i in range(3)]
    catalogue = Catalogue(["dark", "bright"], videos, videos, videos)
    data = SimpleNamespace(reader="decord", catalogue=catalogue, val_set=SimpleNamespace(videos=videos))
    made._trainer = SimpleNamespace(datamodule=data, current_epoch=0, world_size=1, sanity_checking=False)
    return made


def batch(read: int, unread: int, why: str = "No codec") -> dict:
    failures = [f"{i}.mp4: cannot open: {why if i % 3 else 'Other'}" for i in range(unread)]
    return {"reader": ["pyav"] * read + [""] * unread, "failure": [""] * read + failures, "video": torch.empty(0)}


def test_an_evaluation_of_which_nothing_can_be_read_stops_with_the_most_frequent_reason(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("os.path.exists", lambda path: True)  # a file that is not there says nothing of the reader
    made = evaluator(tmp_path)
    made.count(batch(0, ALL_FAIL - 1), "val")
    with pytest.raises(DecodeError) as caught:
        made.count(batch(0, 1), "val")
    told = str(caught.value)
    assert told.startswith("0.mp4: cannot open: data.reader=decord failed on all 20 videos it was given, on 12 of them")
    assert "for this: No codec. " in told
    assert "try data.reader=auto" in told


def ended(made: Evaluator, given: dict) -> None:
    """A validation of one batch, to which the model answers class 1 of 2."""
    num_videos = len(given["failure"])
    answers = torch.tensor([[0.2, 0.8]]).repeat(num_videos, 1)
    made.on_validation_epoch_start()
    made.predictor.forward = lambda _: answers
    made.validation_step(given | {"index": torch.arange(num_videos), "label": torch.zeros(num_videos).long()}, 0)
    made.log = lambda *_, **__: None  # Lightning refuses it outside of its loop
    made.on_validation_epoch_end()


def test_a_small_split_of_which_nothing_could_be_read_stops_at_its_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("os.path.exists", lambda path: True)
    with pytest.raises(DecodeError, match=r"data\.reader=decord failed on all 3 videos it was given, on 2 of them for"):
        ended(evaluator(tmp_path), batch(0, 3))
    made = evaluator(tmp_path)
    made.trainer.sanity_checking = True  # the first few only: others may be sound
    ended(made, batch(0, 3))
    ended(evaluator(tmp_path), batch(1, 2))


def test_a_split_of_missing_files_says_nothing_of_the_reader_and_its_loss_is_no_number(tmp_path: Path, recwarn):
    made = evaluator(tmp_path)
    ended(made, batch(0, 3))
    assert made.results is not None
    assert made.results.top(1) == 0.0
    assert made.eval_loss.compute().isnan()
    assert not recwarn.list


def test_a_reason_that_says_what_to_do_gets_no_other_advice(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("os.path.exists", lambda path: True)
    with pytest.raises(DecodeError) as caught:
        ended(evaluator(tmp_path), batch(0, 3, why="not proven exact; use data.reader=auto"))
    assert str(caught.value).endswith("for this: not proven exact; use data.reader=auto")
    assert "frames" not in str(nothing_read("pyav", [DecodeError("a.mp4", "open", "Invalid data")]))
    assert "try data.reader=auto|pyav_seek|decord|torchcodec|frames," in str(
        nothing_read("pyav", [DecodeError(str(tmp_path), "open", "Invalid data")])
    )


def test_files_that_are_not_there_do_not_count_against_the_reader(tmp_path: Path):
    made = evaluator(tmp_path)
    made.count(batch(0, 3 * ALL_FAIL), "val")
    assert sum(made.failures.values()) == 3 * ALL_FAIL


def test_an_evaluation_of_which_one_video_could_be_read_goes_on(tmp_path: Path):
    made = evaluator(tmp_path)
    made.count(batch(1, ALL_FAIL - 1), "val")
    made.count(batch(0, ALL_FAIL), "val")
    assert sum(made.failures.values()) == 2 * ALL_FAIL - 1
