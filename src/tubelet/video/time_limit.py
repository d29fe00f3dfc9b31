"""An end to decoding that never comes back."""

import threading
from collections.abc import Callable
from typing import TypeVar

from tubelet.video.reader import DecodeError

Result = TypeVar("Result")


def within(seconds: float, path: str, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises; DecodeError if it takes longer.

    It runs in a thread of its own. A thread that hangs in a decoder cannot be ended from outside, so it is left behind:
    as a daemon, it ends with its process. PyAV, decord and torchcodec let other threads run while they decode; a
    decoder that did not would hold up this one too.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # whatever it is, it is raised where the answer is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name=f"reads {path}")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise DecodeError(path, "decode", f"no answer within {seconds:g} s")
    return results[0]
