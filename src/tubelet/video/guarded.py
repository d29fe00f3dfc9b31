"""Work on files in child processes: a decoder that hangs or crashes costs what was looked at, and nothing else."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from tubelet.video.processes import leave_signals_to_parent

# Not fork: the parent has threads, and decoders do not survive a fork while one of them holds a lock.
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
START_SECONDS = 300  # for a child to import what it needs, on a busy machine or from a slow disk
Work = Callable[[Any], Iterator[Any]]


class Outcome(NamedTuple):
    task: Any
    found: Any  # the last that the work gave; None if it gave nothing
    failure: str  # how its process ended, or that it did not answer; empty if the work was finished


def in_children(
    work: Work, tasks: Sequence[Any], num_children: int, limit: Callable[[Any], float]
) -> Generator[Outcome, None, None]:
    """Do `work(task)` on every task, `num_children` at a time; outcomes come as they are ready.

    limit: task -> seconds that the work may take between two things it gives; then its process is killed, and another
        takes its place
    Raises ChildProcessError where a process does not start.
    """
    waiting = iter(tasks)
    children = [_Child(work, limit) for _ in range(min(num_children, len(tasks)))]
    try:
        for child in children:
            child.begin(next(waiting))
        while children:
            seconds = min(child.deadline for child in children) - time.monotonic()
            wait([child.pipe for child in children], max(seconds, 0.0))
            for place, child in enumerate(list(children)):
                outcome = child.outcome()
                if outcome is None:
                    continue
                yield outcome
                if outcome.failure:
                    child.end()
                    child = children[place] = _Child(work, limit)
                task = next(waiting, None)
                if task is None:
                    child.end()
                else:
                    child.begin(task)
            children = [child for child in children if child.task is not None]
    finally:
        for child in children:
            child.end()


class _Child:
    """A process that works on one task at a time and sends what it finds."""

    task: Any = None  # under way; None where there is none
    ready = False  # whether it has imported what it needs, which does not count as work

    def __init__(self, work: Work, limit: Callable[[Any], float]):
        context: Any = multiprocessing.get_context(METHOD)
        if METHOD == "forkserver":
            context.set_forkserver_preload([__name__, work.__module__])  # imported once, not in every child
        self.pipe, other = context.Pipe()
        self.limit = limit
        self.process = context.Process(target=_serve, args=(work, other), daemon=True)
        self.process.start()
        other.close()

    def begin(self, task: Any) -> None:
        self.task, self.found, self.seconds = task, None, self.limit(task)
        if not self.ready:
            self._await_start()
        self.deadline = time.monotonic() + self.seconds
        with suppress(OSError):  # it has died since its last task: `outcome` tells
            self.pipe.send(task)

    def _await_start(self) -> None:
        if not self.pipe.poll(START_SECONDS):
            raise ChildProcessError(
                f"a decoding process did not start within {START_SECONDS} s; fewer of them (--num-workers) may"
            )
        try:
            self.ready = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            ending = _ending(self.process.exitcode)
            raise ChildProcessError(
                f"a decoding process ended while it started ({ending}); see above for why"
            ) from error

    def outcome(self) -> Outcome | None:
        """Of the task under way, if its end has come."""
        try:
            while self.pipe.poll():
                found = self.pipe.recv()
                if found is None:
                    return Outcome(self.task, self.found, "")
                self.found, self.deadline = found, time.monotonic() + self.seconds
        except (EOFError, OSError):
            self.process.join()
            return Outcome(self.task, self.found, f"the decoding process ended ({_ending(self.process.exitcode)})")
        if time.monotonic() < self.deadline:
            return None
        return Outcome(self.task, self.found, f"no answer within {self.seconds:g} s")

    def end(self) -> None:
        self.task = None
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _ending(code: int | None) -> str:
    return signal.Signals(-code).name if code and code < 0 else f"exit code {code}"


def _serve(work: Work, pipe: Connection) -> None:
    """Until the parent closes its end, or is gone."""
    leave_signals_to_parent()
    torch.set_num_threads(1)
    try:
        pipe.send(True)
        while True:
            for found in work(pipe.recv()):
                pipe.send(found)
            pipe.send(None)
    except (EOFError, BrokenPipeError):
        return
