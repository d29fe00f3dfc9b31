"""Each job of a sweep in a process of its own: one that is killed, for want of memory say, leaves the others alone.

Nothing heavy is imported here: the process that is forked must not have begun to work with torch.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra.core.utils import JobReturn, JobStatus

from tubelet.training.json_files import read_json, write_json


class Reported(Exception):
    """A job failed and its error has been told and recorded; raised so that a sweep goes on and ends with code 1.

    Its text is the folder of the job; at the end of the sweep, what to say of all.
    """


@contextmanager
def failures_last(tabled: bool) -> Iterator[None]:
    """A failed job raises its error when all are done; Hydra would raise it after its batch, and run no later one.

    tabled: whether `tubelet table` tells of these jobs
    """
    failed: list[Reported] = []

    def result(job: JobReturn) -> float:
        if job.status == JobStatus.COMPLETED:
            return job._return_value
        if not isinstance(job._return_value, Reported):
            raise job._return_value
        failed.append(job._return_value)
        return math.nan

    with patch.object(JobReturn, "return_value", JobReturn.return_value.getter(result)):
        yield
    if failed:
        raise Reported(_unfinished([str(one) for one in failed], tabled))


def _unfinished(folders: list[str], tabled: bool) -> str:
    sweep = os.path.dirname(folders[0]) or "."
    numbers = ", ".join(os.path.basename(folder) for folder in folders)
    told = f"{len(folders)} of the jobs in {sweep} did not finish (number {numbers})"
    return f"{told}; how each ended: tubelet table {sweep}" if tabled else told


def interrupt(number: int, frame: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: what is half made is removed, and the record says what happened."""
    raise KeyboardInterrupt(number)


def run_apart(job: Callable[[], float], log_file: Path, about: dict[str, Any], reported: Reported) -> float:
    """What `job` returns. Where the system cannot fork safely (all but Linux), it is run in this process.

    log_file: in the folder of the job
    about: what the record of a job begins with that is killed before it has one
    reported: raised where the job failed, was killed, or was interrupted alone
    """
    if sys.platform != "linux":
        return job()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    asked = context.Event()  # to end
    process = context.Process(target=_work, args=(job, theirs, asked, os.getpid()))
    process.start()
    theirs.close()
    _wait(process, asked)
    answer = _answer(ours)
    if answer:
        return answer[0]
    if answer is None:
        record_lost(log_file, how_it_ended(process.exitcode), about)
    raise reported


def _work(job: Callable[[], float], result: Connection, asked: Event, parent: int) -> None:
    os.setpgid(0, 0)  # so that Ctrl-C and signals to a whole group reach it once, through its parent
    signal.signal(signal.SIGTERM, interrupt)
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # submitit's, to which its own process answers
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent, asked), daemon=True).start()
    try:
        answer: tuple[float, ...] = (job(),)
    except (Reported, KeyboardInterrupt):
        answer = ()
    with suppress(BrokenPipeError):  # its sweep may be gone
        result.send(answer)


def _answer(ours: Connection) -> tuple[float, ...] | None:
    """What the job returned; empty where it has recorded why it ended; None where it ended without a word."""
    with ours, suppress(EOFError):
        if ours.poll():  # what the job has forked may be there still, with its end of the pipe
            return ours.recv()
    return None


def _wait(process: BaseProcess, asked: Event) -> None:
    """Until it has ended. A signal is passed on, to be obeyed in order, and ends this process afterwards."""
    ending: BaseException | None = None
    while process.exitcode is None:
        try:
            process.join()
        except BaseException as received:  # KeyboardInterrupt, or what submitit makes of a signal of its own
            ending = received
            asked.set()
            process.terminate()
    if ending:
        raise ending


def _end_with(parent: int, asked: Event) -> None:
    """A job whose sweep was killed would write into its folder beside the one that goes on there."""
    while os.getppid() == parent:
        time.sleep(1.0)
    if not asked.is_set():  # a second signal would end it at once, without a checkpoint
        os.kill(os.getpid(), signal.SIGTERM)


def how_it_ended(code: int) -> str:
    """code: the exit code of a process that did not say why, negative the signal's number."""
    if code >= 0:
        return f"ended with code {code} and no word"
    told = f"ended by signal {-code} ({signal.Signals(-code).name})"
    return told + ", which the system sends too where memory is full" * (-code == signal.SIGKILL)


def record_lost(log_file: Path, error: str, about: dict[str, Any]) -> None:
    """A record of a job that had no time to write that it failed; one that says why it ended stays as it is."""
    path = log_file.with_name("metrics.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    record = read_json(path) if path.exists() else about
    if record.get("status", "running") == "running":
        write_json(path, record | {"status": "failed", "error": error})
    with open(log_file, "a") as file:
        file.write(f"{error}\n")
    print(f"error: the job in {os.path.relpath(log_file.parent)} {error}", file=sys.stderr)
