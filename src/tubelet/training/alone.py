"""One process at a time writes into the folder of a run. Nothing heavy is imported here, as in launch.py."""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

log = logging.getLogger(__name__)
LOCK = ".lock"
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
HELD = {errno.EACCES, errno.EAGAIN}
NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS}  # of the file system


class Refused(ValueError):
    """A job must not touch its folder; so nothing is recorded there."""


def is_started_first() -> bool:
    """Whether this is rank 0 of a run, by what torchrun, srun or Lightning tell a process that they start."""
    return all(int(os.environ.get(name, 0)) == 0 for name in RANKS)


@contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Raises Refused where another process writes into this folder. Further ranks of a run write nothing, and pass.

    The lock is of this process alone, not of those that load for it, and ends with it, also where it is killed.
    """
    if fcntl is None or not is_started_first():
        yield
        return
    with open(run_dir / LOCK, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                file.seek(0)
                raise Refused(f"{os.path.relpath(run_dir)} is being written by {file.read().strip()}") from None
            if error.errno not in NO_LOCKS:
                raise
            log.warning("%s: no locks on this disk; start nothing else in this folder meanwhile", run_dir / LOCK)
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on host {socket.gethostname()}\n")
            file.flush()
        yield
