"""One small run of train.py, in a process of its own, that several tests look at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = [  # 2 epochs of 3 steps on 24 generated videos
    "experiment=demo",
    "data.train=24",
    "data.val=8",
    "data.test=16",
    "data.batch_size=4",
    "data.num_workers=1",
    "optim.total_batch=8",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "model.depth=1",
]


@pytest.fixture(scope="session")
def run_script():
    """Run train.py or eval.py as a user would; gives the finished process with its output."""

    def run(script, *arguments, cwd, check=True):
        command = [sys.executable, str(ROOT / script), *arguments]
        # A home of its own, so that no account is found; one thread, so that results do not depend on the machine.
        environment = os.environ | {"HOME": str(cwd), "OMP_NUM_THREADS": "1"}
        process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert not check or process.returncode == 0, process.stdout + process.stderr
        return process

    return run


@pytest.fixture(scope="session")
def motion_root(tmp_path_factory):
    """Where the runs of this session generate their motion videos."""
    return tmp_path_factory.mktemp("data") / "motion"


@pytest.fixture(scope="session")
def trained(tmp_path_factory, motion_root, run_script):
    """(folder of a finished run, what it printed)."""
    cwd = tmp_path_factory.mktemp("run")
    process = run_script("train.py", *SMALL, f"data.root={motion_root}", "run_dir=run", cwd=cwd)
    return cwd / "run", process.stdout + process.stderr
