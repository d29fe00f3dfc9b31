"""Processes that decode or write videos for another one, which ends them itself when it is interrupted.

A worker that died of a signal first would make the parent fail instead of ending cleanly.
"""

import os
import signal
from typing import Any


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
