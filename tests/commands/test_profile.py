"""`tubelet profile`, called with a command line."""

import csv
import json
import sys

import pytest

from tubelet.commands import profile

TINY = "model=vivit_joint_tiny"


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Run a command in an empty folder; gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments, error=None):
        monkeypatch.setattr(sys, "argv", ["tubelet", *map(str, arguments)])
        if error is None:
            command.run()
        else:
            with pytest.raises(SystemExit) as ended:
                command.run()
            assert ended.value.code == f"error: {error}"  # which makes the exit code 1
        return capsys.readouterr().out

    return run


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_profile_of_one_model_prints_its_figures_for_400_classes(call):
    printed = [line.split() for line in call(profile, "model=mvit_tiny", "views=4x3").splitlines()]
    figures = {" ".join(line[:-4]): line[-4:] for line in printed if line[-1:] == ["G"]}
    clip = figures["all, a clip"]
    video = figures["all, a video of 4 x 3 views"]
    assert float(video[0]) == pytest.approx(12 * float(clip[0]), rel=0.01)
    assert float(figures["attention"][0]) < float(figures["attention"][2])  # relative positions, as run
    tokens = [line[-3:] for line in printed if line[:3] == ["tokens", "x", "width,"]]
    assert tokens[0] == ["256", "x", "32"]  # 4 x 8 x 8, of the first stage
    assert tokens[-1] == ["17", "x", "128"]  # 4 x 2 x 2 and the class token
    assert ["8", "frames", "of", "48", "pixels,", "400", "classes"] in printed


def test_profile_of_a_product_writes_csv_and_plot_and_names_the_sizes_that_are_refused(call, tmp_path):
    refused = "2 of 6 could not be counted; see above"
    told = call(
        profile, TINY, "clip.num_frames=4,5,8", "model.dim=24", "clip.crop=48,[48,96]", "--out", "made", error=refused
    )
    rows = read(tmp_path / "made/cost.csv")
    assert [(row["model"], row["num_frames"], row["frame_tokens"]) for row in rows] == [
        *(("vivit_joint_tiny", "4", "36"), ("vivit_joint_tiny", "4", "72")),
        *(("vivit_joint_tiny", "8", "36"), ("vivit_joint_tiny", "8", "72")),
    ]
    assert int(rows[0]["attention_macs"]) == 4 * 2 * (1 + 2 * 36) ** 2 * 24
    assert told.count("num_frames=5 is not a multiple of the tubelet's 2; the nearest is 4 or 6") == 2
    assert "over the frames T of a clip: vivit_joint_tiny, N = 36: slope 1.9" in told
    assert "over the tokens N of a frame: vivit_joint_tiny, T = 8: slope" in told
    assert (tmp_path / "made/cost.png").exists()


def test_recomputed_blocks_are_counted_as_keeping_less(call, tmp_path):
    call(profile, TINY, "activation_checkpointing=false,true")
    plain, less = (int(row["kept_bytes"]) for row in read(tmp_path / "runs/profile/cost.csv"))
    assert less < plain / 3


def test_the_product_of_overrides_is_that_of_a_sweep():
    jobs = list(profile.product(["model=a,b", "clip.crop=[4,6]", "model.dim=1,2", "+x=1"]))
    assert jobs[0] == ["model=a", "clip.crop=[4,6]", "model.dim=1", "+x=1"]
    assert [(job[0], job[2]) for job in jobs] == [
        *(
            ("model=a", "model.dim=1"),
            ("model=a", "model.dim=2"),
            ("model=b", "model.dim=1"),
            ("model=b", "model.dim=2"),
        )
    ]


def test_errors_of_profile_are_one_line(call):
    for wrong, line in {
        "model=vivit_jiont": "error: model=vivit_jiont: there is no such model; did you mean model=vivit_joint?",
        "clip.num_frames=7": "error: clip: num_frames=7 is not a multiple of the tubelet's 2; the nearest is 6 or 8",
        "model.tubelet=[2.0,8,8]": "error: model.tubelet=[2.0,8,8]: 2.0 is not a whole number",
        "vivit_joint": "error: vivit_joint is not key=value; did you mean model=vivit_joint?",
        "note": "error: note stands alone: tubelet profile note [--out FOLDER]",
    }.items():
        with pytest.raises(SystemExit, match="error: ") as ended:
            call(profile, TINY, wrong)
        assert str(ended.value) == line


def test_a_job_that_cannot_be_composed_or_built_leaves_the_others_of_a_product(call, tmp_path):
    refused = "3 of 4 could not be counted; see above"
    told = call(profile, "model=vivit_joint_tiny,mvit_tiny", "model.tubelet=[4,8,8],[0,8,8]", error=refused)
    assert [row["model"] for row in read(tmp_path / "runs/profile/cost.csv")] == [
        "vivit_joint_tiny model.tubelet=[4,8,8]"
    ]
    assert "model.tubelet=[0,8,8]: 0 is not a positive number" in told
    assert told.count("model.tubelet: there is no such key") == 2  # of mvit_tiny


def test_a_pattern_stands_for_every_model_that_it_fits():
    jobs = list(profile.product(["model=glob(vivit_compressed*_tiny)", "clip.crop=48"]))
    names = ("few_tiny", "pool_tiny", "stride_tiny", "tiny")
    assert [job[0] for job in jobs] == [f"model=vivit_compressed_{name}" for name in names]


def test_a_run_records_parameters_and_peak_memory(trained):
    folder, _ = trained
    record = json.loads((folder / "metrics.json").read_text())
    cost = profile.measure(profile.composed([TINY, "model.num_classes=8", "model.depth=1"]))
    assert record["parameters"] == cost.parameters
    assert 100 < record["peak_memory_mib"] < 5000  # of Python, torch and a tiny model
