"""`tubelet compare`, called with a command line on files made by hand."""

import csv
import json
import sys

import pytest

from tubelet.commands import compare


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Run the command in an empty folder; gives the lines that it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tubelet", *map(str, arguments)])
        compare.run()
        return capsys.readouterr().out.splitlines()

    return run


def make(path, right, unreadable=()):
    """predictions.csv of videos named by their number, even ones of class `up`, odd ones of `down`."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "label", "predicted", "correct", "probability", "top5"])
        for i, is_right in enumerate(right):
            label, wrong = ("up", "down") if i % 2 == 0 else ("down", "up")
            predicted = "" if i in unreadable else label if is_right else wrong
            rows.writerow([i, label, predicted, int(is_right), "", ""])


def test_compare_tells_the_difference_the_counts_and_the_classes(call, tmp_path):
    """Of 40 videos B answers 10 of `up` rightly that A does not, and A 1 of `down` that B does not."""
    a = [i % 4 != 0 for i in range(40)]  # 10 wrong, all of them up
    make(tmp_path / "a.csv", a)
    make(tmp_path / "b.csv", [i != 1 for i in range(40)], unreadable=[1])
    lines = call("a.csv", "b.csv")
    assert lines[:3] == ["A  top-1 0.7500  a.csv", "B  top-1 0.9750  b.csv", "protocol of A and B: not known"]
    assert lines[3].startswith("B - A: +0.2250, 95 % interval +0.")
    assert lines[4] == f"McNemar's exact test: p = {2 * 12 / 2**11:.3g}, more than chance"
    assert lines[5] == "right in both 29, only in A 1, only in B 10, in neither 0"
    assert lines[6].startswith("of these two trained models, that is; two seeds of one training may differ as much")
    assert lines[7] == "unreadable, counted as wrong: 0 in A, 1 in B, 0 in both"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[11:13]]
    assert cells == [
        ["up", "20", "0.5000", "1.0000", "0", "10", "+0.5000", "0.002", "0.0039*"],
        ["down", "20", "1.0000", "0.9500", "1", "0", "-0.0500", "1", "1"],
    ]
    assert lines[13] == "more than chance after Holm's correction for 2 classes: up (+0.50)"
    assert lines[14] == "written: runs/compare/{compare.csv,compare.png}"
    with open("runs/compare/compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], float(row["difference"]), float(row["p_holm"]), row["differs"]) for row in rows] == [
        *(("up", 0.5, 4 / 2**10, "1"), ("down", -0.05, 1.0, "0"))
    ]
    assert (tmp_path / "runs/compare/compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_differs_from_itself_by_nothing(call, tmp_path):
    make(tmp_path / "a.csv", [True, False, True])
    lines = call("a.csv", "a.csv", "--out", "made")
    assert lines[3] == "B - A: +0.0000, 95 % interval +0.0000 to +0.0000 (10,000 resamples of 3 videos)"
    assert lines[4] == "McNemar's exact test: p = 1, chance alone may do this"
    assert lines[-1] == "written: made/{compare.csv,compare.png}"


def test_where_interval_and_test_disagree_the_test_is_told_to_hold(call, tmp_path):
    """0 against 4 of 60: p is 2 / 2**4, and a resample has none of the 4 in (1 - 4 / 60)**60 = 1.6 % of the draws."""
    make(tmp_path / "a.csv", [i >= 4 for i in range(60)])
    make(tmp_path / "b.csv", [True] * 60)
    lines = call("a.csv", "b.csv")
    assert lines[3].startswith("B - A: +0.0667, 95 % interval +0.0167 to ")
    assert lines[4] == "McNemar's exact test: p = 0.125, chance alone may do this"
    assert lines[5] == (
        "the interval excludes 0 all the same: with 4 videos on which the models differ it is an approximation; "
        "the test is exact, and holds"
    )
    assert lines[6].startswith("right in both 56")


def test_of_many_classes_the_ends_are_shown_and_all_are_written(call, tmp_path):
    for name in "ab":
        rows = [f"{i},class {i % 50:02},x,{int((i % 50 < 25) == (name == 'a'))}" for i in range(100)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["video,label,predicted,correct", *rows]) + "\n")
    lines = call("a.csv", "b.csv")
    assert sum(line.startswith("| class ") for line in lines) == 1 + 20  # the head begins so too
    assert "the largest gains and losses; 30 classes between them stand in compare.csv" in lines
    assert len((tmp_path / "runs/compare/compare.csv").read_text().splitlines()) == 1 + 50


def test_a_real_run_is_compared_with_its_own_evaluation(call, trained):
    folder, _ = trained
    top1 = json.loads((folder / "metrics.json").read_text())["test"]["top1"]
    lines = call(folder, folder / "predictions.csv")
    assert lines[0].startswith(f"A  top-1 {top1:.4f}  ")
    assert lines[2].startswith("protocol of A and B: 16 test videos of ")


def test_two_runs_whose_videos_lie_in_other_roots_are_compared_and_both_roots_are_told(call, tmp_path):
    for name, root in (("a", "/disk/motion"), ("b", "/home/motion")):
        (tmp_path / name).mkdir()
        rows = [f"{root}/{i}.mp4,up,up,{int(i > 2 or name == 'b')}" for i in range(7)]
        (tmp_path / name / "predictions.csv").write_text("\n".join(["video,label,predicted,correct", *rows]) + "\n")
        (tmp_path / name / "config.yaml").write_text(f"data: {{root: {root}}}")
        record = {"status": "finished", "test": {"protocol": f"7 test videos of {root}, 1 x 1 views"}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(record))
    lines = call("a", "b")
    assert lines[2:4] == [
        "protocol of A: 7 test videos of /disk/motion, 1 x 1 views",
        "protocol of B: 7 test videos of /home/motion, 1 x 1 views",
    ]
    assert "right in both 4, only in A 0, only in B 3, in neither 0" in lines


def test_what_cannot_be_compared_is_one_line(call, tmp_path):
    make(tmp_path / "a.csv", [True, False])
    make(tmp_path / "b.csv", [True, False, True])
    with pytest.raises(SystemExit) as ended:
        call("a.csv", "b.csv")
    assert ended.value.code == "error: the videos differ: 1 only in b.csv, such as 2"
    with pytest.raises(SystemExit) as ended:
        call("a.csv", "b.csv", "--seed", "-1")
    assert ended.value.code == "error: --seed -1 is negative"
