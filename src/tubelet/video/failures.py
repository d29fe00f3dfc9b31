"""What is said of a reader that reads nothing at all."""

import os
from collections import Counter
from collections.abc import Sequence

from tubelet.video.open import READERS
from tubelet.video.reader import DecodeError


def error_of(failure: str) -> DecodeError:
    """The error whose text this is."""
    return DecodeError(f"DecodeError: {failure}")


def nothing_read(reader: str, errors: Sequence[DecodeError]) -> DecodeError:
    """One error for a reader that failed on every video it was given: the first, and what they have in common."""
    first = errors[0]
    reason, times = Counter(error.reason for error in errors).most_common(1)[0]
    return DecodeError(
        first.path,
        first.stage,
        f"data.reader={reader} failed on all {len(errors)} videos it was given, on {times} of them for this: {reason}"
        f"{_advice(reader, first.path, reason)}",
    )


def _advice(reader: str, path: str, reason: str) -> str:
    """Empty where the reason says itself what to do."""
    if "data.reader=" in reason:
        return ""
    fitting = READERS if os.path.isdir(path) else [name for name in READERS if name != "frames"]
    others = "|".join(name for name in fitting if name != reader)
    return (
        f". Are these videos, and data.root right? If so, try data.reader={others}, or install the decoders anew: "
        "pip install --force-reinstall av decord"
    )
