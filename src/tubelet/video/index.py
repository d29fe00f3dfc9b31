"""What is known of each video file before it is read: the index that `tubelet scan` writes and training uses.

A JSON line a file, so that a scan that was interrupted goes on where it stopped. An entry holds as long as the size
and the time of the last change of its file are what they were; without an index everything works, and is as exact.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any, BinaryIO, NamedTuple

BEGINNING = '{"path": '  # of every line
INDEX_NAME = ".tubelet_index.jsonl"  # of the index in the folder of its videos, where data.index names no other


@dataclass(frozen=True, slots=True)
class Entry:
    """One video file, or one folder of frames. Frames are numbered from 0 in the order in which they are shown.

    num_bytes, changed: of the file, the second in nanoseconds; of a folder the sum and the latest, see `state_of`
    digest: of the file's bytes, or of the pictures' in their order, to find copies
    stage, reason: of the DecodeError, where no frame can be read; empty otherwise
    damaged: what a decoder complained about, where frames can be read all the same; empty otherwise
    num_frames, fps, height, width: as linear reading gives them, after rotation
    rotation: degrees, counterclockwise
    key_frames: numbers of the frames at which decoding can begin
    untimed: frames are stored in another order than that in which they are shown, and without their times
    exact: reader -> whether its random access gave the frames of linear reading
    versions: reader -> the version of which `exact` tells
    frame_names, first_frame: of a folder, with which it was looked at, see `FramesReader`
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
    untimed: bool = False
    exact: Mapping[str, bool] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    frame_names: str | None = None
    first_frame: int | None = None

    def is_current(self) -> bool:
        """Whether the file is still the one that was looked at."""
        return _is_in_state(self.path, (self.num_bytes, self.changed))


class Known(NamedTuple):
    """What reading a file needs of its entry.

    has_keys: whether there is a key frame after the first
    exact: reader -> whether its random access is exact, as far as that is known of the version installed here
    """

    num_bytes: int
    changed: int
    num_frames: int
    fps: float
    has_keys: bool
    exact: Mapping[str, bool]

    def is_current(self, path: str) -> bool:
        """Whether the file is still the one that was looked at."""
        return _is_in_state(path, (self.num_bytes, self.changed))

    def tells_of(self, path: str) -> bool:
        """Whether the file is still the one that was looked at, and gave frames."""
        return self.num_frames > 0 and self.is_current(path)


def _is_in_state(path: str, state: tuple[int, int]) -> bool:
    try:
        return state_of(path) == state
    except OSError:
        return False


def state_of(path: str) -> tuple[int, int]:
    """(num_bytes, changed) of an entry; of a folder over the files in it, since its own time tells of new names only.

    Raises OSError.
    """
    states = [os.stat(path)]
    if os.path.isdir(path):
        with os.scandir(path) as files:
            states += [file.stat() for file in files if file.is_file()]
    sizes = [state.st_size for state in states if not S_ISDIR(state.st_mode)]  # a folder's own differs between systems
    return sum(sizes), max(state.st_mtime_ns for state in states)


def find_index(root: str, index: str | None) -> Path | None:
    """The file of entries to use: `index`, or the one in `root`, if `tubelet scan` has left one there.

    Raises FileNotFoundError where `index` names no file.
    """
    if index is not None and Path(index).is_dir():
        raise FileNotFoundError(f"data.index={index} is a folder; give the file in it, such as {index}/{INDEX_NAME}")
    if index is not None and not Path(index).is_file():
        raise FileNotFoundError(f"data.index={index}: there is no such file; tubelet scan data.index={index} writes it")
    file = Path(index or Path(root, INDEX_NAME))
    return file if file.is_file() else None


def read_index(file: Path) -> dict[str, Entry]:
    """By absolute path; of two entries of one file the later. Raises ValueError as `read_entries` does."""
    return {entry.path: entry for entry in read_entries(file)} if file.exists() else {}


def read_entries(file: Path) -> Iterator[Entry]:
    """In the order of the lines, without a last one that was cut. Raises ValueError at a line that is no entry."""
    home = os.path.abspath(file.parent)
    forms: set[tuple] = set()  # names and types of the lines, each form of which is checked once: there are few
    with open(file, encoding="utf-8", errors="surrogateescape", newline="\n") as opened:
        for number, line in enumerate(opened, start=1):
            if number == 1 and not BEGINNING.startswith(line[: len(BEGINNING)]):
                raise ValueError(f"{file} is no index: tubelet scan has not written it; name another with data.index")
            if not line.endswith("\n"):
                return
            try:
                found = json.loads(line)
                values = *found.values(), *found["exact"].values(), *found["versions"].values()
                form = *found, *map(type, values)
                if form not in forms:
                    _check_types(found)
                    forms.add(form)
                path = os.path.normpath(os.path.join(home, found["path"]))
                yield Entry(**{**found, "path": path, "key_frames": tuple(found["key_frames"])})
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"{file}:{number} is no entry of this version; delete the file and scan anew"
                ) from error


def _check_types(found: Mapping[str, Any]) -> None:
    """Of an entry as JSON gives it. Raises TypeError, and KeyError for a name that no entry has."""
    example = asdict(Entry("", 0, 0)) | {"key_frames": [], "frame_names": "", "first_frame": 0}
    for name, value in found.items():
        if type(value) is not type(example[name]) and not (value is None and name in ("frame_names", "first_frame")):
            raise TypeError(f"{name}: {value}")
    if not all(type(one) is bool for one in found["exact"].values()):
        raise TypeError(f"exact: {found['exact']}")
    if not all(type(one) is str for one in found["versions"].values()):
        raise TypeError(f"versions: {found['versions']}")


def check_writable(file: Path) -> None:
    """Makes an empty index where there is none. Raises OSError."""
    try:
        with open(file, "ab"):
            pass
    except OSError as error:
        elsewhere = "put it elsewhere: data.index=path/to/index.jsonl"
        raise OSError(f"cannot write the index {file}: {error.strerror or error}; {elsewhere}") from error


def append_entries(file: Path, entries: Iterable[Entry]) -> None:
    """Add lines to the index, whole ones only where the process is killed between two calls.

    The line that a kill within a call has cut is removed. Paths below the folder of the index are written relative to
    it, so that an index stays right when it is moved together with its videos.
    """
    home = os.path.abspath(file.parent)
    lines = []
    for entry in entries:
        path = os.path.abspath(entry.path)
        path = os.path.relpath(path, home) if path.startswith(os.path.join(home, "")) else path
        lines.append(json.dumps({**asdict(entry), "path": path}, ensure_ascii=False) + "\n")
    append_lines(file, lines)


def append_lines(file: Path, lines: Iterable[str]) -> None:
    """Whole lines, each with its end; what a kill has left of a line before them is removed."""
    with open(file, "ab+") as opened:
        _cut_after_last_line(opened)
        opened.write("".join(lines).encode(errors="surrogateescape"))


def _cut_after_last_line(opened: BinaryIO) -> None:
    if opened.seek(0, os.SEEK_END) == 0:
        return
    opened.seek(-1, os.SEEK_END)
    if opened.read(1) != b"\n":
        opened.seek(0)
        opened.truncate(opened.read().rfind(b"\n") + 1)
