"""`tubelet profile` and `tubelet table`, called with a command line."""

import csv
import json
import sys

import pytest
import yaml
from omegaconf import OmegaConf

from tubelet.commands import profile, table
from tubelet.training.launch import compose_config

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


def make_run(folder, number, seed, status="finished", top1=0.5, **more):
    """What a run of train.py leaves, as far as the table reads it."""
    path = folder / str(number)
    path.mkdir(parents=True)
    overrides = ["experiment=demo", *more.pop("overrides", []), f"seed={seed}"]
    record = {"status": status, "name": "x_motion", "overrides": overrides, "resumed_from": None, **more}
    if status == "finished":
        record |= {"test": {"top1": top1}, "best": {"val/top1": top1 + 0.1}, "clips_per_second": 10.0 * number}
        cfg = compose_config("train", [TINY, "model.num_classes=8", "run_dir=x"])
        config = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "clip")}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "metrics.json").write_text(json.dumps(record))


def test_table_joins_seeds_names_what_differs_and_tells_failures(call, tmp_path):
    sweep = tmp_path / "sweep"
    for number, (lr, seed, top1) in enumerate([("1", 0, 0.5), ("1", 1, 0.7), ("2", 0, 0.25)]):
        make_run(sweep, number, seed, top1=top1, overrides=[f"optim.lr={lr}"], peak_memory_mib=100.0 + number)
    make_run(sweep, 3, 1, "failed", overrides=["optim.lr=2"], error="ValueError: too bad")
    make_run(sweep, 10, 0, "interrupted", overrides=["optim.lr=3"])
    (sweep / "eval").mkdir()
    (sweep / "eval/metrics.json").write_text(json.dumps({"status": "finished", "ckpt": "x"}))  # no training run

    lines = call(table, sweep).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert rows[0][:4] == ["optim.lr=1", "0.6000 ± 0.1414", "2", "0.7000"]
    assert rows[0][6:] == ["5", "100", "-"]
    assert rows[1][:4] == ["optim.lr=2", "0.2500", "1", "0.3500"]
    assert rows[1][8] == "1 failed"
    assert rows[2] == ["optim.lr=3", "-", "0", "-", "-", "-", "-", "-", "1 interrupted"]
    assert "failed: sweep/3: ValueError: too bad" in lines

    written = read(sweep / "table.csv")
    assert [row["name"] for row in written] == ["optim.lr=1", "optim.lr=2", "optim.lr=3"]
    cost = profile.measure(profile.composed([TINY, "model.num_classes=8"]))
    assert (int(written[0]["parameters"]), int(written[0]["macs"])) == (cost.parameters, cost.macs())


def test_table_shows_long_names_without_their_middle_and_writes_them_whole(call, tmp_path):
    overrides = [[f"optim.lr={lr}", f"data.root={'x' * 60}/{lr}"] for lr in (1, 2)]
    for number, typed in enumerate(overrides):
        make_run(tmp_path, number, 0, overrides=typed)
    lines = call(table, tmp_path).splitlines()
    shown = [f"optim.lr={lr} data.root=xxxxxxxxx…xxxxxxxxxxxxxxxxxxxxxxxxxxxx/{lr}" for lr in (1, 2)]
    assert [line.split("|")[1].strip() for line in lines[2:4]] == shown
    assert [row["name"] for row in read(tmp_path / "table.csv")] == [" ".join(typed) for typed in overrides]
    alike = [f"{'x' * 40}{middle}{'x' * 40}" for middle in "ab"]
    assert table.elided(alike) == alike


def test_table_counts_a_seed_once_however_often_it_was_run(call, tmp_path):
    for number, (seed, top1) in enumerate([(0, 0.4), (0, 0.6), (1, 0.8)]):
        make_run(tmp_path, number, seed, top1=top1)
    lines = call(table, tmp_path).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[2:5]] == ["0.6500 ± 0.2121", "2", "0.7500"]  # of 0.5 and 0.8
    assert "repeated: x_motion: seed 0 in 2 runs; their mean counts, as of one seed" in lines


def test_two_copies_of_one_run_are_one_seed_without_a_spread(call, tmp_path):
    for number in range(2):
        make_run(tmp_path, number, 0)
    row = call(table, tmp_path).splitlines()[2].split("|")
    assert [cell.strip() for cell in row[2:4]] == ["0.5000", "1"]


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
    lines = call(table, tmp_path).splitlines()
    assert "0.5000" in lines[2]
    assert f"unreadable: 2/metrics.json: {told}" in lines


@pytest.mark.parametrize("content", ["model: [", "", "model: {}", "clip: 3\nmodel: {}"])
def test_a_damaged_config_is_named_and_the_other_runs_are_shown(call, tmp_path, content):
    make_run(tmp_path, 1, 0)
    make_run(tmp_path, 2, 1)
    (tmp_path / "2/config.yaml").write_text(content)
    lines = call(table, tmp_path).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[2:4]] == ["0.5000", "1"]
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
            call(table, folder)
        assert str(ended.value).startswith(f"error: {told}")
    (tmp_path / "bad/metrics.json").unlink()
    with pytest.raises(SystemExit) as ended:
        call(table, "bad")
    assert str(ended.value) == "error: bad: there is no metrics.json of a training run in it or below"


def test_a_run_records_parameters_and_peak_memory(trained):
    folder, _ = trained
    record = json.loads((folder / "metrics.json").read_text())
    cost = profile.measure(profile.composed([TINY, "model.num_classes=8", "model.depth=1"]))
    assert record["parameters"] == cost.parameters
    assert 100 < record["peak_memory_mib"] < 5000  # of Python, torch and a tiny model
