"""`tubelet table`, called with a command line on records of runs."""

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from tubelet.analysis.comparison import by_test, compare, rank
from tubelet.analysis.intervals import interval, wilson
from tubelet.analysis.runs import Run
from tubelet.commands import profile, table
from tubelet.training.launch import compose_config

TINY = "model=vivit_joint_tiny"


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Run the command in an empty folder; gives the lines that it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tubelet", *map(str, arguments)])
        table.run()
        return capsys.readouterr().out.splitlines()

    return run


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def shown(lines):
    """The rows of the table, by the names of its columns."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


@cache
def tiny():
    cfg = compose_config("train", [TINY, "model.num_classes=8", "run_dir=x"])
    return {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "clip")}


def config(overrides):
    """That of a tiny model, with the values that were typed."""
    content = {"data": {}, "optim": {}, **tiny()}
    for override in overrides:
        (node, _, key), value = override.partition("=")[0].partition("."), override.partition("=")[2]
        content[node] = {**content[node], key: yaml.safe_load(value)}
    return yaml.safe_dump(content)


def make_run(folder, number, seed, status="finished", top1=0.5, videos=400, **more):
    """What a run of train.py leaves, as far as the table reads it."""
    path = folder / str(number)
    path.mkdir(parents=True)
    typed = more.pop("overrides", [])
    overrides = ["experiment=demo", *typed, f"seed={seed}"]
    record = {"status": status, "name": "x_motion", "overrides": overrides, "resumed_from": None, **more}
    if status == "finished":
        record |= {
            "test": {"top1": top1, "videos": videos},
            "best": {"val/top1": top1 + 0.1},
            "clips_per_second": 10.0 * number,
        }
        (path / "config.yaml").write_text(config(typed))
    (path / "metrics.json").write_text(json.dumps(record))


def test_table_joins_seeds_names_what_differs_and_tells_failures(call, tmp_path):
    sweep = tmp_path / "sweep"
    for number, (lr, seed, top1) in enumerate([("1", 0, 0.5), ("1", 1, 0.7), ("2", 0, 0.25)]):
        make_run(sweep, number, seed, top1=top1, overrides=[f"optim.lr={lr}"], peak_memory_mib=100.0 + number)
    make_run(sweep, 3, 1, "failed", overrides=["optim.lr=2"], error="ValueError: too bad")
    make_run(sweep, 10, 0, "interrupted", overrides=["optim.lr=3"])
    (sweep / "eval").mkdir()
    (sweep / "eval/metrics.json").write_text(json.dumps({"status": "finished", "ckpt": "x"}))  # no training run

    lines = call(sweep)
    first, second, third = shown(lines)
    assert [first[name] for name in ("rank", "job", "optim.lr", "test top-1", "seeds", "val top-1")] == [
        *("1", "0-1", "1", "0.6000 ± 0.1414", "2", "0.7000")
    ]
    assert [first[name] for name in ("train clips/s", "peak MiB", "not finished")] == ["5", "100", "-"]
    assert [second[name] for name in ("rank", "job", "test top-1", "seeds", "not finished")] == [
        *("2", "2-3", "0.2500", "1", "1 failed")
    ]
    assert third == {name: "-" for name in third} | {
        **{"job": "10", "optim.lr": "3", "seeds": "0", "not finished": "1 interrupted"}
    }
    assert "interrupted: sweep/10: ended by a signal" in lines
    assert "failed: sweep/3: ValueError: too bad" in lines

    written = read(sweep / "table.csv")
    assert [row["name"] for row in written] == ["optim.lr=1", "optim.lr=2", "optim.lr=3"]
    cost = profile.measure(profile.composed([TINY, "model.num_classes=8"]))
    assert (int(written[0]["parameters"]), int(written[0]["macs"])) == (cost.parameters, cost.macs())


def test_table_shows_long_names_without_their_middle_and_writes_them_whole(call, tmp_path):
    overrides = [[f"optim.lr={lr}", f"data.root={'x' * 60}/{lr}"] for lr in (1, 2)]
    for number, typed in enumerate(overrides):
        make_run(tmp_path, number, 0, overrides=typed)
    lines = call(tmp_path)
    assert [row["data.root"] for row in shown(lines)] == [f"{'x' * 15}…{'x' * 13}/{lr}" for lr in (1, 2)]
    assert [row["name"] for row in read(tmp_path / "table.csv")] == [" ".join(typed) for typed in overrides]
    alike = [f"{'x' * 40}{middle}{'x' * 40}" for middle in "ab"]
    assert table.elided(alike, 31) == alike


def test_table_counts_a_seed_once_however_often_it_was_run(call, tmp_path):
    for number, (seed, top1) in enumerate([(0, 0.4), (0, 0.6), (1, 0.8)]):
        make_run(tmp_path, number, seed, top1=top1)
    lines = call(tmp_path)
    (row,) = shown(lines)
    assert [row[name] for name in ("test top-1", "seeds", "val top-1")] == [
        "0.6500 ± 0.2121",
        "2",
        "0.7500",
    ]  # of 0.5, 0.8
    assert "x_motion: seed 0 in 2 runs; their mean counts, as of one seed" in lines


def test_two_copies_of_one_run_are_one_seed_without_a_spread(call, tmp_path):
    for number in range(2):
        make_run(tmp_path, number, 0)
    (row,) = shown(call(tmp_path))
    assert (row["test top-1"], row["seeds"]) == ("0.5000", "1")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{oops", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("{}", "is not the record of a run: it has no status"),
        ("[1, 2]", "is not the record of a run: it has no status"),
        ('{"status": "finished"}', "overrides=null is not a list of overrides"),
        ('{"status": "running", "overrides": [], "parameters": []}', "parameters=[] is not a number"),
        ('{"status": "finished", "overrides": [], "test": {"top1": "x"}}', 'test.top1="x" is not a number'),
        ('{"status": "finished", "overrides": [], "test": 3}', "is of a finished run, and has no test.top1"),
    ],
)
def test_a_damaged_record_is_named_and_the_others_are_shown(call, tmp_path, content, told):
    make_run(tmp_path, 1, 0)
    (tmp_path / "2").mkdir()
    (tmp_path / "2/metrics.json").write_text(content)
    lines = call(tmp_path)
    assert "0.5000" in lines[2]
    assert f"unreadable: 2/metrics.json: {told}" in lines


@pytest.mark.parametrize("content", ["model: [", "", "model: {}", "clip: 3\nmodel: {}"])
def test_a_damaged_config_is_named_and_the_other_runs_are_shown(call, tmp_path, content):
    make_run(tmp_path, 1, 0)
    make_run(tmp_path, 2, 1)
    (tmp_path / "2/config.yaml").write_text(content)
    lines = call(tmp_path)
    (row,) = shown(lines)
    assert (row["test top-1"], row["seeds"]) == ("0.5000", "1")
    assert lines[4].startswith("unreadable: 2/metrics.json: ")


def test_table_tells_apart_what_it_cannot_show(call, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/metrics.json").touch()
    for folder, told in {
        "none": "none: there is no such folder",
        "file": "file is a file; give the folder of a sweep, or any with runs below it",
        "bad": "bad: there is no metrics.json of a training run in it or below; bad/metrics.json: Expecting value",
    }.items():
        with pytest.raises(SystemExit) as ended:
            call(folder)
        assert str(ended.value).startswith(f"error: {told}")
    (tmp_path / "bad/metrics.json").unlink()
    with pytest.raises(SystemExit) as ended:
        call("bad")
    assert str(ended.value) == "error: bad: there is no metrics.json of a training run in it or below"


def test_rows_are_ranked_by_the_test_and_by_validation_where_that_is_asked_for(call, tmp_path):
    for number, (lr, top1, val) in enumerate([("1", 0.3, 0.6), ("2", 0.7, 0.4), ("3", 0.5, 0.5)]):
        make_run(tmp_path, number, 0, top1=top1, overrides=[f"optim.lr={lr}"], last_val={"val/top1": val})
        record = json.loads((tmp_path / str(number) / "metrics.json").read_text()) | {"best": {}}
        (tmp_path / str(number) / "metrics.json").write_text(json.dumps(record))
    by_test, by_val = call(tmp_path), call(tmp_path, "--by", "val")
    assert [row["optim.lr"] for row in shown(by_test)] == ["2", "3", "1"]
    assert [row["optim.lr"] for row in shown(by_val)] == ["1", "3", "2"]
    assert by_test[6] == (
        "ranked by the test: the test top-1 of the best of 3 rows is too good by chance; choose with --by val, and "
        "report the test top-1 of the row chosen"
    )
    assert by_val[6] == "ranked by the highest val top-1, to choose with; report the test top-1 of the row chosen"
    (tmp_path / "search.journal").touch()
    assert call(tmp_path)[:7] == by_val[:7]
    assert call(tmp_path, "--by", "test")[:7] == by_test[:7]


def test_where_the_validation_is_the_test_no_ranking_is_told_to_be_one_to_choose_with(call, tmp_path):
    for number in range(2):
        make_run(tmp_path, number, 0, overrides=[f"optim.lr={number}"])
        record = json.loads((tmp_path / f"{number}/metrics.json").read_text())
        record["test"]["protocol"] = "400 test videos (those of validation) of split 1 of data/ucf101, 1 x 1 views"
        (tmp_path / f"{number}/metrics.json").write_text(json.dumps(record))
    told = "validation and test are the same videos, so the test top-1 of the best of 2 rows is too good by chance"
    assert call(tmp_path, "--by", "val")[5] == f"{told}, whichever of them ranks"


def test_rows_whose_intervals_overlap_are_told_as_ties(call, tmp_path):
    """Wilson's intervals of 400 videos are about 0.05 to either side, so neighbours tie, and the ends do not."""
    for number, top1 in enumerate((0.50, 0.58, 0.66, 0.90)):
        make_run(tmp_path, number, 0, top1=top1, overrides=[f"optim.lr={number}"])
    rows = shown(call(tmp_path))
    assert [(row["test top-1"], row["ties with"]) for row in rows] == [
        *(("0.9000", "-"), ("0.6600", "3"), ("0.5800", "2, 4"), ("0.5000", "3"))
    ]
    assert rows[0]["95 % interval"] == "{:.4f} to {:.4f}, videos only".format(*wilson(0.9, 400))
    assert {row["interval_of"] for row in read(tmp_path / "table.csv")} == {"videos"}


def test_seeds_that_lie_far_apart_widen_the_interval(call, tmp_path):
    for number, top1 in enumerate((0.5, 0.6, 0.7)):
        make_run(tmp_path, number, number, top1=top1)
    (row,) = shown(call(tmp_path))
    assert row["95 % interval"] == "{:.4f} to {:.4f}".format(*interval([0.5, 0.6, 0.7], 400))
    assert [row["interval_of"] for row in read(tmp_path / "table.csv")] == ["videos and seeds"]


def test_markdown_holds_the_table_with_whole_names_and_the_failures(call, tmp_path):
    root = "x" * 60
    make_run(tmp_path / "sweep", 0, 0, overrides=[f"data.root={root}"])
    make_run(tmp_path / "sweep", 1, 0, "failed", error="ValueError: first line\nsecond line")
    call("sweep", "--markdown", "made/table.md")
    lines = (tmp_path / "made/table.md").read_text().splitlines()
    assert [row["data.root"] for row in shown(lines)] == [root, "-"]
    assert lines[-1] == "- failed: sweep/1: ValueError: first line second line"


def test_a_search_is_numbered_by_trial_drawn_and_its_pruned_trials_are_marked(call, tmp_path):
    for trial, lr in enumerate(("0.00123456789", "0.0123456789", "0.123456789")):
        typed = [f"optim.lr={lr}", f"model.depth={trial + 1}"]
        ended = {"status": "pruned", "best": {"val/top1": 0.95}} if trial == 1 else {}
        make_run(tmp_path, trial, 0, top1=0.5 + trial / 10, overrides=typed, **ended)
    (tmp_path / "search.journal").touch()
    lines = call(tmp_path)
    names = ("rank", "job", "optim.lr", "val top-1", "not finished")
    assert [tuple(row[name] for name in names) for row in shown(lines)] == [
        ("1", "2", "0.1235", "0.8000", "-"),
        ("2", "0", "0.001235", "0.6000", "-"),
        ("-", "1", "0.01235", "0.9500", "1 pruned"),
    ]
    assert "pruned: 1: ended early by the search" in lines
    assert lines[-1] == "written: table.csv, table.png, search.png"
    assert [row["optim.lr"] for row in read(tmp_path / "table.csv")] == ["0.123456789", "0.00123456789", "0.0123456789"]
    for picture in ("table.png", "search.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_run_that_diverged_is_told_with_its_error_among_those_not_finished(call, tmp_path):
    make_run(tmp_path, 0, 0)
    make_run(tmp_path, 1, 1, "diverged", error="ValueError: the loss is nan at step 12")
    make_run(tmp_path, 2, 2, "diverged")
    lines = call(tmp_path)
    assert [(row["seeds"], row["not finished"]) for row in shown(lines)] == [("1", "2 diverged")]
    assert "diverged: 1: ValueError: the loss is nan at step 12" in lines
    assert "diverged: 2: its loss was no longer a number" in lines


def test_a_hundred_runs_of_which_some_still_run_are_one_table(call, tmp_path):
    for number in range(100):
        lr, seed = divmod(number, 5)
        status = "running" if number >= 97 else "finished"
        make_run(tmp_path, number, seed, status, 0.3 + lr / 50, overrides=[f"optim.lr={lr}"])
    lines = call(tmp_path)
    rows = shown(lines)
    assert [row["job"] for row in rows] == [f"{5 * lr}-{5 * lr + 4}" for lr in range(19, -1, -1)]
    assert [row["seeds"] for row in rows] == ["2", *["5"] * 19]
    assert [line for line in lines if line.startswith("running: ")] == [
        f"running: {number}: still running, or killed" for number in (97, 98, 99)
    ]
    assert lines[-1] == "written: table.csv, table.png"  # of one numeric override no search is drawn


def test_where_no_run_has_finished_no_picture_is_drawn(call, tmp_path):
    make_run(tmp_path, 0, 0, "running")
    assert call(tmp_path)[-1] == "written: table.csv"


def test_numbers_are_shown_as_ranges():
    assert table.ranges([7, 1, 3, 2]) == "1-3, 7"
    assert table.ranges([]) == ""


def test_runs_on_other_data_are_told_to_be_no_contest():
    def notes(*roots):
        runs = []
        for lr, root in enumerate(roots):
            config = {"data": {"root": root}, "optim": {"lr": lr}, "model": {"_target_": "no.such.Model"}}
            record = {"status": "finished", "overrides": [f"optim.lr={lr}"], "test": {"top1": lr / 8}, "parameters": 7}
            runs.append(Run(Path("x"), record, {**config, "clip": {"num_frames": 2, "crop": 8}}))
        return list(table.choice(rank(compare(runs), by_test), runs, "test"))

    told = "tested on other videos (motion, mine): ranks and ties between these rows say nothing"
    assert told in notes("/disk/motion", "/other/mine")
    assert not any("other videos" in note for note in notes("/disk/motion", "/other/motion"))  # of another machine


def test_a_reader_that_stops_early_ends_the_command_quietly_with_its_files_written(tmp_path):
    make_run(tmp_path, 0, 0)
    code = "import sys; from tubelet.commands.main import main; sys.argv = ['tubelet', 'table', sys.argv[1]]; main()"
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert (process.returncode, process.stderr) == (141, "")
    assert (tmp_path / "table.csv").exists()
