"""Processes that decode or write videos for another one."""

import signal
from typing import Any


def leave_signals_to_parent(*_: Any) -> None:
    """For the start of a worker: Ctrl-C and SIGTERM reach the whole group, and the parent ends its workers itself.

    A worker that died first would make the parent fail instead of ending cleanly.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
