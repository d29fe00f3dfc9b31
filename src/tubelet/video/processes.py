"""Processes that decode or write videos for another one, which ends them itself when it is interrupted.

A worker that died of a signal first would make the parent fail instead of ending cleanly.
"""

import ctypes
import os
import platform
import signal
from typing import Any

# Of glibc's malloc.h: number of the setting, bytes. The second is the most that it takes.
KEPT, OWN_MAPPING = (-1, 256 * 2**20), (-3, 32 * 2**20)


def leave_signals_to_parent() -> None:
    """For the start of a worker of a pool: what Ctrl-C, or a SIGTERM to the group, sends to all is the parent's."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def leave_the_group(_: Any) -> None:
    """For the start of a loader's worker: signals to the group pass it by, and the parent can still terminate it.

    If the parent is killed, torch's watch in the worker notices within seconds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def keep_freed_memory() -> None:
    """For the start of a process that loads clips, on Linux: freed memory is used again, instead of going back at once.

    A clip is some megabytes, which glibc otherwise returns to the system after each one and takes anew, page by page.
    """
    if platform.libc_ver()[0] == "glibc":
        for setting in (KEPT, OWN_MAPPING):
            ctypes.CDLL(None).mallopt(*setting)


def start_loading(worker: Any) -> None:
    """For the start of a loader's worker."""
    leave_the_group(worker)
    keep_freed_memory()
