"""What is known of each video file before it is read: the index that `tubelet scan` writes and training uses.

A JSON line a file, so that a scan that was interrupted goes on where it stopped. An entry holds as long as the size
and the time of the last change of its file are what they were; without an index everything works, and is as exact.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One video file, or one folder of frames. Frames are numbered from 0 in the order in which they are shown.

    num_bytes, changed: of the file, the second in nanoseconds; of a folder its number of files and its own time
    digest: of the file's bytes, to find copies
    stage, reason: of the DecodeError, where no frame can be read; empty otherwise
    damaged: what a decoder complained about, where frames can be read all the same; empty otherwise
    num_frames, fps, height, width: as linear reading gives them, after rotation
    rotation: degrees, counterclockwise
    key_frames: numbers of the frames at which decoding can begin
    exact: reader -> whether its random access gave the frames of linear reading
    """

    path: str
    num_bytes: int
    changed: int
    digest: str = ""
    stage: str = ""
    reason: str = ""
    damaged: str = ""
    num_frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    rotation: int = 0
    container: str = ""
    codec: str = ""
    key_frames: tuple[int, ...] = ()
    exact: Mapping[str, bool] = field(default_factory=dict)

    def is_current(self) -> bool:
        """Whether the file is still the one that was looked at."""
        return state_of(self.path) == (self.num_bytes, self.changed)


def state_of(path: str) -> tuple[int, int]:
    """(num_bytes, changed) of an entry. Raises OSError."""
    state = os.stat(path)
    return (len(os.listdir(path)) if os.path.isdir(path) else state.st_size), state.st_mtime_ns


def read_index(file: Path) -> dict[str, Entry]:
    """By path; of two entries of one file the later. A last line that was cut is left out."""
    entries = {}
    lines = file.read_text(encoding="utf-8").split("\n") if file.exists() else [""]
    for line in lines[:-1]:
        found = json.loads(line)
        entries[found["path"]] = Entry(**{**found, "key_frames": tuple(found["key_frames"])})
    return entries


def append_entries(file: Path, entries: Iterable[Entry]) -> None:
    """Add lines to the index, whole ones only where the process is killed between two calls."""
    with open(file, "a", encoding="utf-8") as opened:
        opened.write("".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries))
