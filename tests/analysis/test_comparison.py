"""Runs of a sweep as rows of a table."""

from pathlib import Path

import pytest

from tubelet.analysis.comparison import compare, rank
from tubelet.analysis.runs import Run
from tubelet.commands.table import cells


def run(top1, seed=0, split=None, *overrides):
    record = {"status": "finished", "name": "a", "test": {"top1": top1}, "parameters": 7}
    split_typed = [] if split is None else [f"data.split={split}"]
    record["overrides"] = [*overrides, f"seed={seed}", *split_typed]
    data = {} if split is None else {"split": split}
    node = {"_target_": "no.such.Model"}  # whose cost is not known
    return Run(Path("."), record, {"seed": seed, "data": data, "model": node, "clip": {"num_frames": 2, "crop": 8}})


def shown(row):
    (ranked,) = rank([row], lambda one: one.top1)
    return cells(ranked)


def test_the_official_splits_are_one_row_with_their_mean_and_spread():
    (row,) = compare([run(top1, split=split) for split, top1 in ((1, 0.50), (2, 0.56), (3, 0.59))])
    assert (row.seeds, row.splits) == (1, 3)
    assert row.top1 == pytest.approx(0.55)
    assert row.top1_spread == pytest.approx(0.0458257569)  # sqrt((0.05^2 + 0.01^2 + 0.04^2) / 2)
    assert [cell for cell in shown(row) if "splits" in cell] == ["1 x 3 splits"]


def test_a_split_of_two_seeds_counts_each_and_a_run_made_twice_is_told():
    rows = compare([run(0.4, 0, 1), run(0.6, 1, 1), run(0.5, 1, 1), run(0.8, 0, 2, "model=b")])
    assert [(row.name, row.seeds, row.splits) for row in rows] == [("a", 2, 1), ("model=b", 1, 1)]
    assert rows[0].top1 == pytest.approx((0.4 + (0.6 + 0.5) / 2) / 2)
    assert rows[0].repeated == "seed 1 of split 1 in 2 runs"


def test_data_without_splits_is_told_by_its_seeds_alone():
    (row,) = compare([run(0.4, 0), run(0.6, 1)])
    assert (row.seeds, row.splits, row.repeated) == (2, 1, "")
    assert "2" in shown(row)
