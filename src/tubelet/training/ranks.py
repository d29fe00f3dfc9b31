"""Several processes for one job: ranks above 0 are started as single runs of this job's resolved config.

Lightning would start them with the command line of the whole program. Under `-m` each would then run the whole sweep
again, and with a sampling sweeper on other hyperparameters than rank 0 (hydra#2070, lightning#11300).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import lightning.fabric.strategies.launchers.subprocess_script as fabric_launcher
import lightning.pytorch.strategies.launchers.subprocess_script as pytorch_launcher
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from tubelet.training.apart import how_it_ended

SET_BY_LIGHTNING = (
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PL_GLOBAL_SEED",
    "OMP_NUM_THREADS",
)


def is_first_rank() -> bool:
    """Whether this process writes the files of the run."""
    return rank_zero_only.rank in (0, None)


@contextmanager
def children_run(task: str, run_dir: str) -> Iterator[None]:
    """While the job runs, its further ranks run `task` (as in `main`) on `run_dir`/config.yaml; then all is undone."""
    command = [
        sys.executable,
        "-m",
        "tubelet.training.ranks",
        task,
        str(Path(run_dir, "config.yaml")),
        str(os.getpid()),
    ]

    def with_folder(local_rank: int) -> tuple[list[str], str]:
        return command, os.getcwd()

    children: list[subprocess.Popen] = []
    job_ended = threading.Event()

    def watch(started: list[subprocess.Popen]) -> None:
        children.extend(started)
        threading.Thread(target=_watch, args=(children, job_ended, run_dir), daemon=True).start()

    before = {name: os.environ.get(name) for name in SET_BY_LIGHTNING}
    names = {"_hydra_subprocess_cmd": with_folder, "_basic_subprocess_cmd": lambda: command}
    names["_launch_process_observer"] = watch
    failed, threads = True, torch.get_num_threads()  # whose number Lightning changes
    try:
        with patch.multiple(fabric_launcher, **names), patch.multiple(pytorch_launcher, **names):
            yield
        failed = False
    except Exception as error:  # which says most often that a connection broke
        killed = _killed(children)
        if killed is None:
            raise
        raise ChildProcessError(killed) from error
    finally:
        job_ended.set()
        torch.set_num_threads(threads)
        if failed:  # the others may wait for this rank, or have the error to tell that ended it
            _end(children, 5.0)
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # the others may wait for it
        _end(children, 60.0)
        for name, value in before.items():  # the next job of a sweep finds its own port and its own ranks
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _killed(children: list[subprocess.Popen]) -> str | None:
    """Which rank a signal ended, and which signal."""
    codes = ((rank, child.poll() or 0) for rank, child in enumerate(children, 1))
    return next((f"rank {rank} was {how_it_ended(code)}" for rank, code in codes if code < 0), None)


def _watch(children: list[subprocess.Popen], job_ended: threading.Event, run_dir: str) -> None:
    """Ends this process where it waits for a rank that is gone.

    Most often the broken connection raises an error here, which is told and recorded; so it has 45 seconds for that.
    Lightning's own observer would kill this process at once, and the next jobs of its sweep with it.
    """
    while not job_ended.wait(1.0):
        gone = [child.returncode for child in children if child.poll()]
        if gone and not job_ended.wait(45.0):
            from tubelet.training.record import write_failed  # which imports this file

            told = f"another rank ended with code {gone[0]}, and this one waited for it"
            with suppress(OSError):  # a disk may be full, and whoever read what is printed gone
                write_failed(Path(run_dir), told)
                print(f"error: {told}; ended", file=sys.stderr, flush=True)
            for child in children:
                child.kill()
            os.kill(os.getpid(), signal.SIGKILL)


def _end(children: list[subprocess.Popen], seconds: float) -> None:
    """Waits for the ranks for so many seconds, asks those that are left to end, and at last kills them."""
    for ask, patience in ((None, seconds), (subprocess.Popen.terminate, 10.0), (subprocess.Popen.kill, None)):
        for child in children:
            if ask and child.poll() is None:
                ask(child)
            with suppress(subprocess.TimeoutExpired):
                child.wait(patience)


def _end_with(parent: int) -> None:
    """Ends this rank where rank 0 was killed: it may wait for an answer that nobody gives any more."""
    while os.getppid() == parent:
        time.sleep(1.0)
    with suppress(OSError):  # whoever read what this rank says may be gone as well
        print(f"error: rank {rank_zero_only.rank}: rank 0 is gone; ended", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # the main thread may sit in a call that nothing else ends


def main() -> None:
    """A rank above 0, started by Lightning's launcher.

    `python -m tubelet.training.ranks {train|dry_run|eval} config.yaml <process id of rank 0>`
    """
    task, config, parent = sys.argv[1:]
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    from tubelet.training.dry_run import dry_run
    from tubelet.training.evaluate import evaluate
    from tubelet.training.explain import one_line
    from tubelet.training.launch import config_dir, quieten
    from tubelet.training.train import train

    quieten()
    try:
        {"train": train, "dry_run": dry_run, "eval": evaluate}[task](OmegaConf.load(config), [])
    except Exception as error:
        line = one_line(error, config_dir())
        if line is None:
            raise
        sys.exit(f"error: rank {rank_zero_only.rank}: {line}")


if __name__ == "__main__":
    main()
