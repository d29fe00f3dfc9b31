"""Runs of a sweep as rows of a table."""

import math
from pathlib import Path

import pytest

from tubelet.analysis.comparison import by_validation, compare, rank
from tubelet.analysis.intervals import interval, wilson
from tubelet.analysis.runs import Run
from tubelet.commands.table import cells


def run(top1, seed=0, split=None, *overrides, folder=Path("."), status="finished", **more):
    record = {"status": status, "name": "a", "test": {"top1": top1, "videos": 400}, "parameters": 7} | more
    split_typed = [] if split is None else [f"data.split={split}"]
    record["overrides"] = [*overrides, f"seed={seed}", *split_typed]
    config = {"seed": seed, "data": {} if split is None else {"split": split}, "optim": {}}
    config |= {"model": {"_target_": "no.such.Model"}, "clip": {"num_frames": 2, "crop": 8}}  # its cost is not known
    for override in overrides:
        (node, _, key), value = override.partition("=")[0].partition("."), override.partition("=")[2]
        config[node] = {**config[node], key: value}
    return Run(folder, record, config)


def answered(folder, first, last):
    """A folder with a predictions.csv of the videos from `first` to before `last`."""
    folder.mkdir()
    rows = [f"{number},up,up,1" for number in range(first, last)]
    (folder / "predictions.csv").write_text("\n".join(["video,label,predicted,correct", *rows]) + "\n")
    return folder


def shown(row):
    (ranked,) = rank([row], lambda one: one.top1)
    return cells(ranked)


def test_the_official_splits_of_one_seed_are_one_row_with_their_mean_and_no_deviation_between_seeds():
    (row,) = compare([run(top1, split=split) for split, top1 in ((1, 0.50), (2, 0.56), (3, 0.59))])
    assert (row.seeds, row.splits) == (1, 3)
    assert row.top1 == pytest.approx(0.55)
    assert row.top1_spread is None
    assert [cell for cell in shown(row) if "splits" in cell] == ["1 x 3 splits"]


def test_a_video_in_the_tests_of_two_splits_counts_once(tmp_path):
    """30 + 30 + 20 videos, of which 10 are in the first two tests, are 70."""
    ranges = {1: (0, 30), 2: (20, 50), 3: (50, 70)}
    folders = {split: answered(tmp_path / str(split), *ends) for split, ends in ranges.items()}
    (row,) = compare([run(0.5 + split / 10, split=split, folder=folder) for split, folder in folders.items()])
    assert row.interval == pytest.approx(wilson(0.7, 70))
    assert row.videos_only


def test_splits_are_averaged_within_a_seed_and_the_deviation_is_between_seeds(tmp_path):
    folders = [answered(tmp_path / str(split), 100 * split, 100 * split + 40) for split in (1, 2)]
    tops = {(0, 1): 0.5, (0, 2): 0.7, (1, 1): 0.52, (1, 2): 0.76}
    (row,) = compare([run(top1, seed, split, folder=folders[split - 1]) for (seed, split), top1 in tops.items()])
    assert (row.seeds, row.splits, row.notes) == (2, 2, ())
    assert row.top1_spread == pytest.approx(0.04 / math.sqrt(2))  # of 0.60 and 0.64
    assert row.interval == interval([0.6, 0.64], 80)


def test_a_seed_that_lacks_a_split_is_told_and_left_out():
    runs = [*(run(0.5 + split / 100, 0, split) for split in (1, 2, 3)), run(0.9, 1, 1)]
    (row,) = compare(runs)
    assert (row.top1, row.seeds, row.splits) == (pytest.approx(0.52), 1, 3)
    assert row.notes[0] == "seed 1 has no finished run of split 2, 3, and is left out of the figures"


def test_a_split_that_no_seed_has_finished_is_told():
    early = {"status": "failed", "name": "a", "overrides": ["seed=0", "data.split=3"]}  # before its config was written
    runs = [run(0.5, 0, 1), run(0, 0, 2, status="failed", test={}), Run(Path("."), early, {})]
    (row,) = compare(runs)
    assert (row.top1, row.splits, row.not_finished) == (0.5, 1, "2 failed")
    assert row.notes == ("split 2, 3 has no finished run: the figures are of the others",)


def test_where_no_seed_has_every_split_there_is_no_figure():
    (row,) = compare([run(0.5, 0, 1), run(0.9, 1, 2)])
    assert (row.top1, row.interval, row.seeds) == (None, None, 0)
    assert len(row.notes) == 2


def test_splits_whose_videos_cannot_be_counted_have_no_interval_and_are_told(tmp_path):
    (row,) = compare([run(0.5, 0, split, folder=tmp_path) for split in (1, 2)])
    assert (row.top1, row.interval) == (0.5, None)
    assert row.notes[0].startswith(f"no interval: {tmp_path}/predictions.csv: there is no such file")


def test_a_split_of_two_seeds_counts_each_and_a_run_made_twice_is_told():
    rows = compare([run(0.4, 0, 1), run(0.6, 1, 1), run(0.5, 1, 1), run(0.8, 0, 2, "model.dim=5")])
    assert [(row.name, row.seeds, row.splits) for row in rows] == [("a", 2, 1), ("model.dim=5", 1, 1)]
    assert rows[0].top1 == pytest.approx((0.4 + (0.6 + 0.5) / 2) / 2)
    assert rows[0].notes == ("seed 1 of split 1 in 2 runs; their mean counts, as of one seed",)


def test_data_without_splits_is_told_by_its_seeds_alone():
    (row,) = compare([run(0.4, 0), run(0.6, 1)])
    assert (row.seeds, row.splits, row.notes) == (2, 1, ())
    assert "2" in shown(row)


def test_equal_figures_share_a_rank_and_the_next_one_is_left_out():
    """On 400 videos. The last digit of a sum of floats makes no difference: 0.1 + 0.2 is not 0.3."""
    tops = (0.5, 0.7, 0.1 + 0.2, 0.7, 0.3)
    rows = compare([run(top1, 0, None, f"optim.lr={number}") for number, top1 in enumerate(tops)])
    ranked = rank(rows, lambda row: row.top1)
    assert [(one.row.overrides["optim.lr"], one.rank) for one in ranked] == [
        ("1", 1),
        ("3", 1),
        ("0", 3),
        ("2", 4),
        ("4", 4),
    ]
    assert [one.ties for one in ranked] == [(1,), (1,), (), (4,), (4,)]


def test_rows_that_were_typed_alike_are_told_by_what_their_config_has():
    one, other = run(0.4), run(0.6)
    one.config["optim"], other.config["optim"] = {"lr": 0.1, "decay": 0.3}, {"lr": 0.2, "decay": 0.3}
    rows = compare([one, other])
    assert [(row.name, row.top1) for row in rows] == [("a", 0.4), ("a", 0.6)]
    told = "typed as another row is, but config.yaml in . has optim.lr="
    assert [row.notes for row in rows] == [(f"{told}0.1",), (f"{told}0.2",)]


def test_columns_are_the_overrides_that_all_runs_of_a_row_share_and_others_lack():
    rows = compare([run(0.4, 0, None, "optim.lr=1"), run(0.5, 1, None, "optim.lr=1"), run(0.6, 0, None, "optim.lr=2")])
    assert [(row.name, row.overrides, row.seeds) for row in rows] == [
        *(("optim.lr=1", {"optim.lr": "1"}, 2), ("optim.lr=2", {"optim.lr": "2"}, 1))
    ]
    typed = run(0.7, 2, None, "optim.lr=2")
    typed.record["overrides"] += ["launcher=slurm", "data.num_workers=8"]
    assert [row.overrides for row in compare([run(0.4), typed])] == [{}, {"optim.lr": "2"}]


def test_the_best_validation_of_a_pruned_run_is_shown():
    (row,) = compare([run(0.4, status="pruned", test={}, best={"val/top1": 0.31})])
    assert (row.top1, row.val, row.not_finished) == (None, 0.31, "1 pruned")


def test_a_pruned_seed_does_not_count_where_another_has_finished():
    (row,) = compare([run(0.4, 0, best={"val/top1": 0.5}), run(0, 1, status="pruned", best={"val/top1": 0.1})])
    assert row.val == 0.5


def test_a_loss_is_ranked_by_the_least_of_it():
    tops = {"1": 2.5, "2": 2.1, "3": 2.3}
    runs = [run(0.4, 0, None, f"optim.lr={lr}", best={"val/loss": loss}) for lr, loss in tops.items()]
    for one in runs:
        one.record["last_val"] = {"val/top1": 0.9}
        one.config["callbacks"] = {"best": {"mode": "min"}}
    ranked = rank(compare(runs), by_validation)
    assert [(one.row.overrides["optim.lr"], one.row.val, one.rank) for one in ranked] == [
        *(("2", 2.1, 1), ("3", 2.3, 2), ("1", 2.5, 3))
    ]
    assert {(one.row.monitor, one.row.least) for one in ranked} == {("val/loss", True)}


def test_of_an_override_that_is_typed_twice_the_last_counts():
    a, b = run(0.4, 0, None, "model.depth=1"), run(0.6, 0, None, "model.depth=1", best={})
    b.record["overrides"].append("model.depth=2")
    b.config["model"] = b.config.get("model", {}) | {"depth": 2}
    assert [row.overrides for row in compare([a, b])] == [{"model.depth": "1"}, {"model.depth": "2"}]
