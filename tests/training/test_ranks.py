"""Two processes on the CPU against one: the same training, and every video evaluated once."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from soak import ROOT, carried, difference, gone, start

from tubelet.evaluation.checkpoint import load_checkpoint

PLAIN = [  # plain gradient descent, so that nothing hides a difference of gradients
    "experiment=demo",
    *("optim.optimizer={_target_: torch.optim.SGD, _partial_: true}", "~optim.optimizer.betas", "optim.lr=0.05"),
    *("optim.warmup_epochs=0", "optim.total_batch=8", "model.depth=1", "trainer.max_epochs=1", "data.num_workers=1"),
    *("data.train=24", "data.val=8", "data.test=16", "logger=csv", "trainer.log_every_n_steps=1"),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory, motion_root, run_script):
    """Folders of the same training on one rank with batch 8, and on two with batch 4."""
    cwd = tmp_path_factory.mktemp("ranks")
    for name, ranks in (
        ("one", ["trainer=cpu", "data.batch_size=8"]),
        ("two", ["trainer=ddp_cpu", "data.batch_size=4"]),
    ):
        run_script("train.py", *PLAIN, *ranks, f"data.root={motion_root}", f"run_dir={name}", cwd=cwd)
    return cwd / "one", cwd / "two"


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_two_ranks_with_half_the_batch_take_the_steps_of_one(both):
    one, two = (load_checkpoint(str(folder / "checkpoints/last.ckpt")).weights for folder in both)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5)  # float32 sums in another order
    epochs = [[row["train/loss_epoch"] for row in rows(f / "metrics.csv") if row["train/loss_epoch"]] for f in both]
    assert [float(x) for x in epochs[1]] == pytest.approx([float(x) for x in epochs[0]], abs=1e-5)


def killed(rank, motion_root, cwd, monkeypatch):
    """The training on two ranks, with one of them killed after two of three steps; gives the exit code."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.getenv("PYTHONPATH")])]))
    ending = f"+callbacks.ended={{_target_: ended.EndAt, step: 2, rank: {rank}}}"
    two = ["trainer=ddp_cpu", "data.batch_size=4", f"data.root={motion_root}", "run_dir=run"]
    with start(cwd, *PLAIN, *two, "callbacks.last.every_n_steps=1", ending) as process:
        code = process.wait(120)
    assert gone(process.pid, 60)
    return code


def test_a_killed_first_rank_takes_the_other_with_it_and_both_go_on_or_one_alone(
    both, motion_root, tmp_path, monkeypatch, run_script
):
    code = killed(0, motion_root, tmp_path, monkeypatch)
    assert code == -9
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    root = f"data.root={motion_root}"
    two = ["trainer=ddp_cpu", "data.batch_size=4", "run_dir=run"]
    run_script("train.py", *PLAIN, *two, root, "ckpt=last", cwd=tmp_path)
    assert difference("", carried(both[1]), carried(tmp_path / "run")) == ""
    one = ["trainer=cpu", "data.batch_size=8", "run_dir=alone"]
    run_script("train.py", *PLAIN, *one, root, "ckpt=last", cwd=tmp_path)
    expected, alone = (load_checkpoint(str(f / "checkpoints/last.ckpt")).weights for f in (both[0], tmp_path / "alone"))
    for name in expected:
        torch.testing.assert_close(alone[name], expected[name], rtol=0, atol=1e-5)  # float32 sums in another order


def test_a_killed_rank_ends_its_job_which_tells_and_records_it(motion_root, tmp_path, monkeypatch):
    code = killed(1, motion_root, tmp_path, monkeypatch)
    assert code == 1
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    told = "rank 1 was ended by signal 9 (SIGKILL), which the system sends too where memory is full"
    assert (record["status"], record["error"]) == ("failed", f"ChildProcessError: {told}")
    assert f"error: {told}\n" in (tmp_path / "log.txt").read_text()


def test_ranks_that_srun_starts_train_as_those_that_lightning_starts(both, motion_root, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    job = {"JOB_ID": "20011", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NODELIST": "localhost"}
    two = ["trainer=ddp_cpu", "data.batch_size=4", f"data.root={motion_root}", "run_dir=run"]
    started = []
    for rank in ("0", "1"):
        for name, value in {**job, "NODEID": "0", "PROCID": rank, "LOCALID": rank}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        started.append(start(tmp_path, *PLAIN, *two))
    assert [process.wait(120) for process in started] == [0, 0]
    assert difference("", carried(both[1]), carried(tmp_path / "run")) == ""
    assert (tmp_path / "log.txt").read_text().count("\ntraining: ") == 1  # the second rank is quiet


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_what_slurm_sends_before_a_jobs_time_is_over_saves_and_ends_it_with_nothing_but_last_ckpt(
    number, motion_root, tmp_path, monkeypatch
):
    for name, value in {"JOB_ID": "20012", "JOB_NAME": "train", "NTASKS": "1", "NTASKS_PER_NODE": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("NODEID", "PROCID", "LOCALID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    saving = ["trainer=cpu", "data.batch_size=4", "callbacks.last.every_n_steps=1", "trainer.max_epochs=200"]
    with start(tmp_path, *PLAIN, *saving, f"data.root={motion_root}", "run_dir=run") as process:
        while not (tmp_path / "run/checkpoints/previous.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == "interrupted"
    assert {path.name for path in tmp_path.rglob("*.ckpt")} <= {"last.ckpt", "previous.ckpt", "best.ckpt"}
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert 1 < checkpoint["global_step"] < 600


def test_each_rank_draws_for_itself(both):
    states = torch.load(both[1] / "checkpoints/last.ckpt", weights_only=True)["generators"]
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])


def test_two_ranks_that_draw_for_themselves_end_the_same_where_max_time_stopped_them_between(
    motion_root, tmp_path, run_script
):
    two = ["trainer=ddp_cpu", "data.batch_size=4", f"data.root={motion_root}", "model.depth=2", "model.drop_path=0.3"]
    run_script("train.py", *PLAIN, *two, "run_dir=whole", cwd=tmp_path)
    run_script("train.py", *PLAIN, *two, "run_dir=run", "trainer.max_time=00:00:00:00", cwd=tmp_path)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == "stopped"
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 1
    run_script("train.py", *PLAIN, *two, "run_dir=run", "ckpt=last", cwd=tmp_path)
    assert difference("", carried(tmp_path / "whole"), carried(tmp_path / "run")) == ""


def test_two_ranks_write_one_set_of_files_and_count_every_video_once(both):
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in both)
    assert two["status"] == "finished"
    assert two["test"]["videos"] == one["test"]["videos"] == 16
    assert two["readers"] == one["readers"] == {"pyav_seek": 24 + 2 * 8 + 16}
    assert sorted(path.name for path in both[0].iterdir()) == sorted(path.name for path in both[1].iterdir())


@pytest.fixture
def listed(both, tmp_path):
    """Overrides of eval.py for the first `count` test videos of the runs, as a list of their own."""

    def overrides(count):
        lines = [f"{row['video']}\t{row['label']}\n" for row in rows(both[0] / "predictions.csv")[:count]]
        (tmp_path / "few.txt").write_text("".join(lines))
        checkpoint = str(both[0] / "checkpoints/last.ckpt")
        (tmp_path / "classes.txt").write_text("\n".join(load_checkpoint(checkpoint).classes))
        data = ["data=list", "data.train=few.txt", "data.val=few.txt", "data.names=classes.txt", "data.root=/"]
        return [f"ckpt={checkpoint}", *data]

    return overrides


def test_evaluation_on_two_ranks_equals_one_rank_exactly_with_an_odd_number_of_videos(listed, tmp_path, run_script):
    for name in ("cpu", "ddp_cpu"):
        run_script("eval.py", *listed(15), f"trainer={name}", f"run_dir={name}", "data.batch_size=4", cwd=tmp_path)
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text())["test"] for name in ("cpu", "ddp_cpu"))
    assert one == two
    assert one["videos"] == 15
    told = [(tmp_path / name / "predictions.csv").read_text() for name in ("cpu", "ddp_cpu")]
    assert told[0] == told[1]


def test_processes_that_torchrun_starts_for_a_run_of_one_device_are_an_error(
    both, motion_root, tmp_path, monkeypatch, run_script
):
    torchrun = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    run = [*PLAIN, "trainer=cpu", f"data.root={motion_root}", "run_dir=run"]
    process = run_script("train.py", *run, cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith(
        "error: 2 processes were started, by torchrun perhaps, but the trainer has 1 device"
    )


def test_fewer_videos_than_ranks_is_an_error_before_any_process_is_started(listed, tmp_path, run_script):
    process = run_script("eval.py", *listed(1), "trainer=ddp_cpu", cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("error: trainer.devices: 2 ranks, but only 1 test videos")


def test_a_job_on_two_ranks_that_fails_leaves_the_rest_of_the_sweep_alone(both, tmp_path, run_script):
    lines = [f"{row['video']}\t{row['label']}\n" for row in rows(both[0] / "predictions.csv")]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "broken.txt").write_text("".join([f"{tmp_path / 'broken.mp4'}\tgrows\n", *lines[1:]]))
    (tmp_path / "good.txt").write_text("".join(lines))
    swept = ["-m", "experiment=demo", "data=list", "data.train=broken.txt,good.txt", "data.val=good.txt", "data.root=/"]
    small = ["trainer=ddp_cpu", "trainer.max_epochs=1", "data.batch_size=4", "optim.total_batch=8", "model.depth=1"]
    few = ["data.num_workers=0", "logger=csv", "hydra.sweep.dir=sweep", "trainer.num_sanity_val_steps=0"]
    process = run_script("train.py", *swept, *small, *few, cwd=tmp_path, check=False)
    assert process.returncode == 1
    records = [json.loads((tmp_path / f"sweep/{job}/metrics.json").read_text()) for job in (0, 1)]
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert "broken.mp4: cannot open" in process.stderr


def test_a_rank_whose_parent_is_gone_ends_also_where_nobody_reads_what_it_says():
    read, write = os.pipe()
    command = [sys.executable, "-c", "from tubelet.training.ranks import _end_with; _end_with(parent=-1)"]
    with subprocess.Popen(command, stderr=write) as process:
        os.close(write)
        os.close(read)
        assert process.wait(60) == -signal.SIGKILL


WAITING = """
import sys, threading
from pathlib import Path
from unittest.mock import Mock
from tubelet.training import ranks
ended = threading.Event()
ended.wait = lambda seconds: False  # the job goes on for ever
ranks._watch([Mock(poll=lambda: 7, returncode=7)], ended, sys.argv[1])
"""


def test_a_first_rank_that_waits_for_one_that_is_gone_records_it_and_ends_also_where_nobody_reads_what_it_says(
    tmp_path,
):
    (tmp_path / "metrics.json").write_text('{"status": "running"}')
    read, write = os.pipe()
    with subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path)], stderr=write) as process:
        os.close(write)
        os.close(read)
        assert process.wait(60) == -signal.SIGKILL
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert (record["status"], record["error"]) == (
        "failed",
        "another rank ended with code 7, and this one waited for it",
    )
