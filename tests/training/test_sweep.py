"""Sweeps of which jobs fail: the others give their results, failures are recorded and can be run again."""

import json
import os
import socket
from pathlib import Path

import pytest
from soak import ROOT

from tubelet.analysis.runs import read_runs
from tubelet.training.alone import alone_in


def test_a_failing_job_is_recorded_and_the_rest_of_the_sweep_goes_on(motion_root, tmp_path, run_script):
    small = ["experiment=demo", "data.train=24", "data.val=8", "data.test=16", "data.batch_size=8"]
    small += ["optim.total_batch=8", "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    swept = ["-m", f"data.root={motion_root}", "model.dim=24", "model.heads=2,5,0,3", "hydra.sweep.dir=sweep"]
    process = run_script("train.py", *swept, *small, cwd=tmp_path, check=False)
    assert process.returncode == 1
    records = [json.loads((tmp_path / f"sweep/{job}/metrics.json").read_text()) for job in range(4)]
    assert [record["status"] for record in records] == ["finished", "failed", "failed", "finished"]
    assert [record["overrides"][2] for record in records] == [f"model.heads={heads}" for heads in (2, 5, 0, 3)]
    assert records[1]["error"].endswith("model: dim=24 is not a multiple of heads=5")
    assert "Traceback" in (tmp_path / "sweep/1/train.log").read_text()
    assert "error: model: dim=24 is not a multiple of heads=5" in process.stderr
    assert "error: model.heads=0 is not a positive number" in process.stderr
    ending = "error: 2 of the jobs in sweep did not finish (number 1, 2); how each ended: tubelet table sweep"
    assert process.stderr.splitlines()[-1] == ending
    assert "Error executing job" not in process.stderr  # Hydra's line, with all overrides
    assert len(read_runs(tmp_path / "sweep")[0]) == 4  # those that ended early among them
    for job in (0, 3):
        assert (tmp_path / f"sweep/{job}/predictions.csv").exists()
        assert len(list((tmp_path / f"sweep/{job}").glob("wandb/offline-run-*"))) == 1  # a run of its own


def write_record(folder, **content):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(content))


def test_a_sweep_typed_again_touches_no_run_that_is_there_or_is_being_written(tmp_path, run_script):
    write_record(tmp_path / "sweep/0", status="finished", overrides=["seed=3"])
    (tmp_path / "sweep/1").mkdir()
    with alone_in(tmp_path / "sweep/1"):
        process = run_script("train.py", "-m", "seed=3,4", "hydra.sweep.dir=sweep", cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        "error: sweep/0 holds a run; ckpt=last goes on with the sweep, another hydra.sweep.dir begins one",
        f"error: sweep/1 is being written by process {os.getpid()} on host {socket.gethostname()}",
        "error: 2 of the jobs in sweep did not finish (number 0, 1); how each ended: tubelet table sweep",
    ]
    assert records_of(tmp_path / "sweep", 1) == [{"status": "finished", "overrides": ["seed=3"]}]
    assert sorted(path.name for path in (tmp_path / "sweep/1").iterdir()) == [".lock", "train.log"]


@pytest.mark.parametrize("more", [[], ["ckpt=last"]])
def test_a_sweep_without_m_is_refused_and_leaves_nothing(more, tmp_path, run_script):
    write_record(tmp_path / "sweep/0", status="interrupted", overrides=["seed=3"])
    typed = ["seed=3", "hydra.sweep.dir=sweep", "run_dir=run", *more]
    process = run_script("train.py", *typed, cwd=tmp_path, check=False)
    told = (
        "error: hydra.sweep.dir=sweep is for a sweep, but this is a single run: -m is missing; or give run_dir instead"
    )
    assert (process.returncode, process.stderr) == (1, f"{told}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_a_job_that_fails_before_it_goes_on_is_recorded_as_failed(tmp_path, run_script):
    write_record(tmp_path / "sweep/0", status="interrupted", overrides=["seed=3"], seconds=7.5)
    swept = ["-m", "seed=3", "hydra.sweep.dir=sweep", "ckpt=last"]
    assert run_script("train.py", *swept, cwd=tmp_path, check=False).returncode == 1
    (record,) = records_of(tmp_path / "sweep", 1)
    assert (record["status"], record["seconds"]) == ("failed", 7.5)
    assert record["error"].startswith("FileNotFoundError: data.root=data/ucf101: no classInd.txt in it")


SMALL = ["experiment=demo", "data.train=8", "data.val=8", "data.test=16", "data.batch_size=8", "optim.total_batch=8"]
SMALL += ["data.num_workers=0", "trainer.max_epochs=2", "trainer.accelerator=cpu", "model.depth=1", "logger=csv"]


def records_of(folder, num):
    return [json.loads((folder / f"{job}/metrics.json").read_text()) for job in range(num)]


def test_a_sweep_outlives_a_crash_and_a_kill_and_goes_on_with_these_two_jobs(
    motion_root, tmp_path, run_script, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.getenv("PYTHONPATH")])]))
    jobs = tmp_path / "jobs.json"
    trouble = f"+callbacks.trouble={{_target_: ended.Trouble, jobs: {jobs}}}"
    command = ["-m", *SMALL, f"data.root={motion_root.parent / 'few'}", "seed=4,5,6", "hydra.sweep.dir=sweep", trouble]
    jobs.write_text('{"0": "crash", "1": "kill"}')
    process = run_script("train.py", *command, cwd=tmp_path, check=False)
    assert process.returncode == 1
    crashed, killed, finished = records_of(tmp_path / "sweep", 3)
    assert [one["status"] for one in (crashed, killed, finished)] == ["failed", "failed", "finished"]
    assert crashed["error"] == "RuntimeError: made to crash"
    assert killed["error"].startswith("ended by signal 9 (SIGKILL)")
    jobs.write_text("{}")
    process = run_script("train.py", *command, "ckpt=last", cwd=tmp_path)
    assert "finished before: sweep/2" in process.stdout
    again = records_of(tmp_path / "sweep", 3)
    assert [one["status"] for one in again] == ["finished"] * 3
    assert [Path(one["resumed_from"]).parts[-3] for one in again[:2]] == ["0", "1"]
    assert again[2] == finished


def test_a_killed_job_of_submitit_is_recorded_and_the_other_finishes(motion_root, tmp_path, run_script, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.getenv("PYTHONPATH")])]))
    (tmp_path / "jobs.json").write_text('{"0": "kill"}')
    trouble = f"+callbacks.trouble={{_target_: ended.Trouble, jobs: {tmp_path / 'jobs.json'}}}"
    command = ["-m", *SMALL, f"data.root={motion_root.parent / 'few'}", "seed=4,5", "hydra.sweep.dir=sweep", trouble]
    process = run_script("train.py", *command, "launcher=submitit_local", cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert [record["status"] for record in records_of(tmp_path / "sweep", 2)] == ["failed", "finished"]
    ending = "error: 1 of the jobs in sweep did not finish (number 0); how each ended: tubelet table sweep"
    assert process.stderr.splitlines()[-1] == ending
