"""Jobs of submitit on this machine, with small tasks instead of trainings. Needs the extra `submitit`."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

from hydra_plugins.tubelet_submitit import Slurm, visible_in_turns

pytestmark = pytest.mark.timeout(120)
CONFIG = """
name: small
ckpt: null
task: return
number: 0
hydra:
  job: {name: train}
  output_subdir: null
  sweep: {dir: sweep, subdir: "${hydra:job.num}"}
"""
APP = """
import json, os, signal, time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

from tubelet.training.apart import Reported, failures_last, run_apart
from tubelet.training.launch import told_in_one_line


def work(task, folder):
    if task == "return":
        return 0.5
    (folder / "pid").write_text(str(os.getpid()))
    try:
        if task == "preempted":
            os.kill(os.getppid(), signal.SIGUSR2)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1.5)
        (folder / "saved").touch()
        raise


def main(cfg):
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    with open(folder / "starts.txt", "a") as file:
        file.write(json.dumps([list(job.overrides.task), os.environ.get("CUDA_VISIBLE_DEVICES")]) + "\\n")
    if cfg.task == "lost":
        os.kill(os.getpid(), signal.SIGKILL)
    task = "return" if cfg.ckpt == "last" else cfg.task
    return run_apart(lambda: work(task, folder), folder / "train.log", {}, Reported(str(folder)))


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with told_in_one_line(), failures_last(tabled=True):
        hydra.main(version_base="1.3", config_path=".", config_name="app")(main)()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a sweep by submitit's local launcher in `tmp_path`/sweep."""
    (tmp_path / "app.yaml").write_text(CONFIG)
    (tmp_path / "app.py").write_text(APP)
    started = []

    def begin(*overrides, ignored=()):
        ours = "hydra.launcher._target_=hydra_plugins.tubelet_submitit.Local"
        command = [sys.executable, "app.py", "-m", "hydra/launcher=submitit_local", ours, *overrides]
        started.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in ignored],
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def starts(folder):
    """(overrides, CUDA_VISIBLE_DEVICES) of each time that a job was started."""
    return [json.loads(line) for line in (folder / "starts.txt").read_text().splitlines()]


@pytest.mark.parametrize(
    ("visible", "gpus_per_node", "seen"),
    [
        (None, "null", [None, None, None]),
        ("3,5", "null", ["3,5", "3,5", "3,5"]),
        ("3,5", "1", ["3", "5", "3"]),
    ],
)
def test_a_job_sees_the_gpus_of_the_command_or_has_some_of_its_own(
    visible, gpus_per_node, seen, start, tmp_path, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert start("number=0,1,2", f"hydra.launcher.gpus_per_node={gpus_per_node}").wait() == 0
    assert [starts(tmp_path / f"sweep/{job}")[0][1] for job in range(3)] == seen


def test_gpus_go_around_in_whole_groups():
    assert visible_in_turns(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert visible_in_turns(["GPU-a", "GPU-b"], 2) == ["GPU-a,GPU-b"]
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=f"gpus_per_node={wrong}, but this machine has 2 GPUs to see"):
            visible_in_turns(["0", "1"], wrong)


def test_a_lost_job_is_recorded_and_the_later_batches_of_its_sweep_run(start, tmp_path):
    process = start("task=lost,return", "number=7,8", "hydra.sweeper.max_batch_size=1")
    _, told = process.communicate()
    assert process.returncode == 1
    ending = "error: 2 of the jobs in sweep did not finish (number 0, 1); how each ended: tubelet table sweep"
    assert told.splitlines()[-1] == ending
    assert "error: the job in sweep/0 lost its process; what that said last is in sweep/.submitit/" in told
    for job, number in enumerate((7, 8)):
        record = json.loads((tmp_path / f"sweep/{job}/metrics.json").read_text())
        assert (record["status"], record["overrides"]) == ("failed", ["task=lost", f"number={number}"])
    assert [len(starts(tmp_path / f"sweep/{job}")) for job in range(4)] == [1, 1, 1, 1]


def test_a_preempted_job_saves_and_then_goes_on_from_its_last_checkpoint(start, tmp_path):
    assert start("task=preempted", "number=3,4").wait() == 0
    for job, number in enumerate((3, 4)):
        folder, typed = tmp_path / f"sweep/{job}", ["task=preempted", f"number={number}"]
        assert [overrides for overrides, _ in starts(folder)] == [typed, [*typed, "ckpt=last"]]
        assert (folder / "saved").exists()


def wait_for(*paths):
    end = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, paths
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_jobs_end_in_order_with_the_command_that_waits_for_them(number, start, tmp_path):
    process = start("task=wait", "number=3,4")
    wait_for(tmp_path / "sweep/0/pid", tmp_path / "sweep/1/pid")
    time.sleep(0.5)  # until they wait
    if number == signal.SIGINT:  # from a terminal, to all that belongs to the command
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait() == 128 + number
    wait_for(tmp_path / "sweep/0/saved", tmp_path / "sweep/1/saved")


def test_jobs_of_a_command_in_the_background_end_with_it_too(start, tmp_path):
    """A shell makes what it starts with & ignore SIGINT."""
    process = start("task=wait", ignored=[signal.SIGINT])
    wait_for(tmp_path / "sweep/0/pid")
    time.sleep(0.5)
    process.terminate()
    wait_for(tmp_path / "sweep/0/saved")


def test_a_job_that_slurm_itself_starts_again_goes_on(monkeypatch):
    seen = []
    monkeypatch.setattr(Slurm.__mro__[2], "__call__", lambda self, overrides, *rest: seen.append(overrides))
    monkeypatch.setenv("SLURM_JOB_NAME", "sweep")
    for count in ("0", "1"):
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
        Slurm()(["seed=3", "ckpt=a.ckpt"], "hydra.sweep.dir", 0)
    assert seen == [["seed=3", "ckpt=a.ckpt"], ["seed=3", "ckpt=last"]]
    assert os.environ["SLURM_JOB_NAME"] == "interactive"
