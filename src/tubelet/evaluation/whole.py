"""Files that a reader never sees half. Nothing heavy is imported here: launch.py needs it before torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives the path to write to, which takes the place of `path` at the end, also where the machine stops then. After
    an error `path` is as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        wait_for_disk(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def wait_for_disk(path: Path) -> None:
    """Until all that was written to the file is on it."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
