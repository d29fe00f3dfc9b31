"""What a sweep leaves for W&B without account and network, read back from its files; and that nothing ever waits."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest
import torch
import yaml
from soak import ROOT
from wandb_files import Offline

from tubelet.evaluation.results import Results
from tubelet.training.build import _build_logger
from tubelet.training.launch import compose_config
from tubelet.video.annotations import Video
from tubelet.video.pyav import LinearReader
from tubelet.video.reader import DecodeError

pty = pytest.importorskip("pty")
RUN = [  # an epoch of 3 steps
    *("experiment=demo", "data.train=24", "data.val=8", "data.test=16", "data.batch_size=8", "optim.total_batch=8"),
    *("data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1"),
    "model.depth=1",
]
SECONDS = 270  # far more than a run takes; what waits for an answer takes for ever
BY_WANDB = {"_runtime", "_step", "_timestamp", "epoch", "trainer/global_step"}
SHOWN = ("test/hard/", "test/confused/", "test/confusion/")


def on_a_terminal(arguments, cwd):
    """Exit code and output of train.py as on a terminal where nobody answers, without account and network."""
    leader, follower = pty.openpty()
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:9")
    loud = {"WANDB_SILENT": "false", "HOME": str(cwd), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    process = subprocess.Popen(command, cwd=cwd, env=environment | nowhere | loud, start_new_session=True, **streams)
    os.close(follower)
    limit = Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))  # with W&B's own process, which holds the terminal
    limit.start()
    output = b""
    try:
        while part := os.read(leader, 4096):
            output += part
    except OSError:  # Linux says so that the other side is closed
        pass
    finally:
        code = process.wait()
        limit.cancel()
        os.close(leader)
    return code, output.decode()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, motion_root):
    """(its folder, exit code, what it printed): two jobs that differ in their seed."""
    cwd = tmp_path_factory.mktemp("sweep")
    swept = ["seed=0,1", f"data.root={motion_root}", "hydra.sweep.dir=night"]
    swept += ["logger.wandb.tags=[small,cpu]", "logger.wandb.log_model=true", "logger.wandb.num_hard=5"]
    return cwd / "night", *on_a_terminal(["-m", *RUN, *swept], cwd)


def test_a_sweep_on_a_terminal_without_account_ends_without_a_question(sweep):
    _, code, printed = sweep
    assert code == 0, printed
    assert "Enter your choice" not in printed
    assert "was not logged" not in printed


def test_each_job_is_a_run_of_its_own_in_the_group_of_its_sweep(sweep):
    folder = sweep[0]
    runs = [Offline(folder / str(job)) for job in range(2)]
    assert [run.run.run_id for run in runs] == [(folder / f"{job}/run_id").read_text().strip() for job in range(2)]
    assert runs[0].run.run_id != runs[1].run.run_id
    for job, run in enumerate(runs):
        told = run.run.run_group, run.run.job_type, run.run.display_name
        assert told == ("night", "train", f"vivit_joint_tiny_motion {job}")
        assert list(run.run.tags) == ["small", "cpu"]
        assert run.exit_codes == [0]


def test_the_config_of_a_run_is_its_config_yaml_with_the_version_of_the_code(sweep):
    for job in range(2):
        config = Offline(sweep[0] / str(job)).config
        record = json.loads((sweep[0] / f"{job}/metrics.json").read_text())
        for name in ("git", "versions", "overrides"):
            assert config.pop(name) == record[name]
        del config["_wandb"]  # what the package says of itself
        assert config == yaml.safe_load((sweep[0] / f"{job}/config.yaml").read_text())
        assert config["seed"] == job


def test_the_history_has_the_names_and_values_of_metrics_csv_and_the_docs_have_all_names(sweep):
    run = Offline(sweep[0] / "1")
    with open(sweep[0] / "1/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = set(rows[0]) - {"step", "epoch"}
    logged = {key for row in run.history for key in row if not key.startswith(SHOWN)}
    assert logged - BY_WANDB == names
    for name in names:
        assert run.values(name) == pytest.approx([float(row[name]) for row in rows if row[name]])
    docs = (ROOT / "docs/runs.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in docs] == []
    assert {"train/clips_per_second", "train/peak_memory", "train/data_time", "lr-AdamW/pg1", "val/top1"} <= names


def test_the_hard_videos_are_the_most_confident_wrong_rows_of_predictions_csv_each_with_a_film(sweep):
    run = Offline(sweep[0] / "0")
    with open(sweep[0] / "0/predictions.csv", newline="") as file:
        wrong = [row for row in csv.DictReader(file) if row["correct"] == "0"]
    wrong.sort(key=lambda row: -float(row["probability"]))
    rows = run.table("test/hard")
    assert [row["video"] for row in rows] == [row["video"] for row in wrong[:5]]
    assert [(row["label"], row["predicted"]) for row in rows] == [(row["label"], row["predicted"]) for row in wrong[:5]]
    for row, expected in zip(rows, wrong, strict=False):
        assert row["probability"] == pytest.approx(
            float(expected["probability"]), abs=1e-6
        )  # as many digits as in the csv
        assert row["of_label"] <= row["probability"]
        film = sweep[0] / "film.mp4"
        film.write_bytes(run.stored(row["clip"]["path"]).read_bytes())
        reader = LinearReader(str(film))
        assert (reader.num_frames, reader.fps) == (8, 8.0)
        assert reader.read([0]).shape == (1, 3, 96, 96)  # 48 pixels, enlarged


def test_what_is_confused_with_what_is_a_picture_and_a_table(sweep):
    run = Offline(sweep[0] / "0")
    with open(sweep[0] / "0/predictions.csv", newline="") as file:
        wrong = [(row["label"], row["predicted"]) for row in csv.DictReader(file) if row["correct"] == "0"]
    pairs = run.table("test/confused")
    assert {(row["label"], row["predicted"]): row["videos"] for row in pairs} == {
        pair: wrong.count(pair) for pair in wrong
    }
    ((name,),) = run.values("test/confusion/filenames")
    assert (run.folder / "files" / name).read_bytes()[1:4] == b"PNG"


def test_the_checkpoint_that_was_tested_is_an_artifact_where_it_is_asked_for(sweep):
    run = Offline(sweep[0] / "1")
    (model,) = [artifact for artifact in run.artifacts if artifact.type == "model"]
    assert (model.name, "best" in model.aliases) == (f"model-{run.run.run_id}", True)
    assert run.stored("best.ckpt").read_bytes() == (sweep[0] / "1/checkpoints/best.ckpt").read_bytes()
    assert sweep[0] / "1/wandb" in run.stored("best.ckpt").parents  # not in the home of the user


def test_an_online_run_without_an_account_is_one_line_and_no_question(tmp_path, motion_root):
    typed = [*RUN, f"data.root={motion_root}", "run_dir=run", "logger=wandb", "logger.wandb.offline=false"]
    code, printed = on_a_terminal(typed, tmp_path)
    assert code == 1
    assert "error: logger.wandb.offline=false: W&B says: No API key configured." in printed
    assert "Enter your choice" not in printed
    assert "Traceback" not in printed
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == "failed"


def built(logger, tmp_path, *overrides):
    cfg = compose_config("train", ["data=motion", f"logger={logger}", f"run_dir={tmp_path}", "name=x", *overrides])
    return _build_logger(cfg.logger[logger], cfg)


def test_what_fails_at_the_end_is_told_in_a_line_each_and_the_rest_is_logged(tmp_path, caplog, monkeypatch):
    logger = built("wandb", tmp_path)
    logger.video = {"_target_": "pathlib.Path", "_partial_": True}
    logger.confusion = {"_target_": "math.sqrt", "_partial_": True}  # takes no two paths
    tables = {}
    monkeypatch.setattr(logger, "log_table", lambda key, columns, data: tables.update({key: data}))

    class Broken(SimpleNamespace):
        def __getitem__(self, draw):
            raise DecodeError(self.videos[draw.video].path, "open", "gone")

    videos = [Video("a.mp4", 0), Video("b.mp4", 1)]
    answers = torch.tensor([[0.3, 0.7], [0.1, 0.9]])
    results = Results(videos, ["up", "down"], torch.tensor([0, 1]), torch.tensor([False, False]), answers)
    with caplog.at_level(logging.WARNING, logger="tubelet"):
        logger.conclude(results, Broken(videos=videos), Path("predictions.csv"), Path("best.ckpt"))
    assert tables["test/hard"] == [[None, "up", "down", pytest.approx(0.7), pytest.approx(0.3), "a.mp4"]]
    assert tables["test/confused"] == [["up", "down", 1, 1.0]]
    hard, confusion = [record.getMessage() for record in caplog.records]
    assert hard.startswith("W&B: a row of test/hard has no clip: ")
    assert confusion.startswith("W&B: test/confusion was not logged: TypeError: ")
    assert "\n" not in hard + confusion


def test_a_number_of_hard_videos_below_0_is_an_error(tmp_path):
    with pytest.raises(Exception, match=r"logger\.wandb\.num_hard=-1 is not a number of at least 0"):
        built("wandb", tmp_path, "logger.wandb.num_hard=-1")


def test_tensorboard_has_the_names_of_metrics_csv_or_says_what_to_install(tmp_path, motion_root, run_script):
    typed = [*RUN, f"data.root={motion_root}", "run_dir=run", "logger=csv_tensorboard"]
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ModuleNotFoundError:
        process = run_script("train.py", *typed, cwd=tmp_path, check=False)
        assert process.returncode == 1
        assert "error: logger: TensorBoardLogger: " in process.stderr
        assert "Neither `tensorboard` nor `tensorboardX` is available." in process.stderr
        assert "Traceback" not in process.stderr
        return
    run_script("train.py", *typed, cwd=tmp_path)
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    with open(tmp_path / "run/metrics.csv", newline="") as file:
        names = set(next(csv.reader(file)))
    assert set(events.Tags()["scalars"]) == names - {"step"}
