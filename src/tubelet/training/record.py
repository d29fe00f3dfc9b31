"""metrics.json: what a run was and what came of it, written when it starts and when it ends, however it ends."""

import platform
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

from tubelet.evaluation.whole import written_whole
from tubelet.training.explain import root
from tubelet.training.json_files import read_json, write_json
from tubelet.training.progress import Diverged
from tubelet.training.ranks import is_first_rank

PACKAGES = ("tubelet", "torch", "torchvision", "lightning", "hydra-core", "av", "torchmetrics", "numpy")


def is_finished(run_dir: Path) -> bool:
    """On the first rank alone, which renames that record when it is resumed; others that come later find none."""
    if not is_first_rank():
        return False
    record = run_dir / "metrics.json"
    return record.exists() and read_json(record)["status"] == "finished"


def run_id(run_dir: Path, goes_on: bool) -> str | None:
    """A name that no other run has, in `run_dir`/run_id from before the training, so that a killed run can go on in it.

    goes_on: one that is there is kept. None on ranks that write nothing.
    """
    file = run_dir / "run_id"
    if is_first_rank() and not (goes_on and file.exists()):
        with written_whole(file) as partial:
            partial.write_text(secrets.token_hex(4) + "\n")
    return file.read_text().strip() if is_first_rank() else None


def write_failed(run_dir: Path, error: str) -> None:
    """Record that a job failed, for a process that cannot end in order."""
    record = read_json(run_dir / "metrics.json")
    write_json(run_dir / "metrics.json", record | {"status": "failed", "error": error})


@contextmanager
def recorded(run_dir: str, **known: Any) -> Iterator[dict[str, Any]]:
    """The content of `run_dir`/metrics.json, to be filled in; `status` becomes finished, failed, diverged, interrupted.

    A job that sets it, to pruned or stopped, keeps it.

    known: what is recorded from the start, such as the name and the overrides
    """
    path, started = Path(run_dir, "metrics.json"), time.time()
    record = {"status": "running", **known, "versions": versions(), "git": git_commit()}
    write = write_json if is_first_rank() else lambda path, content: None
    write(path, record)
    try:
        yield record
        record["status"] = "finished" if record["status"] == "running" else record["status"]
    except (KeyboardInterrupt, SystemExit) as interrupt:  # Lightning makes a SystemExit of Ctrl-C and of SIGTERM
        record |= ended_by(interrupt)
        raise KeyboardInterrupt(signal_behind(interrupt)) from None
    except BaseException as error:
        record |= ended_by(error)
        raise
    finally:
        record["seconds"] = round(time.time() - started, 1)
        write(path, record)


def ended_by(error: BaseException) -> dict[str, str]:
    """What the record of a job says of it."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return {"status": "interrupted"}
    status = "diverged" if isinstance(root(error), Diverged) else "failed"
    return {"status": status, "error": f"{type(root(error)).__name__}: {root(error)}"}


def signal_behind(error: BaseException | None) -> int:
    """The number of the signal that ended a job, through the exceptions that Lightning made of it."""
    while error is not None:
        if isinstance(error, SIGTERMException):
            return signal.SIGTERM
        if isinstance(error, KeyboardInterrupt) and error.args:
            return error.args[0]
        error = error.__context__
    return signal.SIGINT


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """The commit that this code is from, with `+changes` where files differ from it; None outside a checkout."""
    here = Path(__file__)
    ours = ["ls-files", "--error-unmatch", here.name]  # else an installed package names the user's own repository
    asked = [ours, ["rev-parse", "HEAD"], ["status", "--porcelain"]]
    try:
        answers = [
            subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()
            for words in asked
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return answers[1] + ("+changes" if answers[2] else "")
