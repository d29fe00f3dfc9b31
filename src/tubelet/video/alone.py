"""Work that only one process at a time may do, on any machine that sees the same file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)


@contextmanager
def alone(file: Path, told: str) -> Iterator[None]:
    """No other process gets in here with this file meanwhile; a kill ends that too. The file is made if need be.

    told: what the OSError says that is raised where another is in here
    """
    with open(file, "ab") as opened:
        try:
            if sys.platform != "win32":
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(told) from error
        except OSError as error:
            log.warning("%s cannot be locked where it lies (%s): let no other process write it", file, error.strerror)
        yield
