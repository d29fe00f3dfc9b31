"""Bringing an index up to date: every file that it does not know as it lies on disk is looked at."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from tubelet.video.alone import alone
from tubelet.video.annotations import is_video
from tubelet.video.frames import is_picture
from tubelet.video.guarded import Outcome, in_children
from tubelet.video.index import Entry, append_entries, check_writable, read_index, state_of
from tubelet.video.open import DEFAULTS, ReadOptions
from tubelet.video.probe import Task, look_at, untried

log = logging.getLogger(__name__)
SECONDS_PER_MB = 3  # many times what decoding a megabyte of film takes


def files_below(folder: str) -> list[str]:
    """All video files in a folder and below, without hidden ones."""
    return sorted(os.path.join(place, name) for place, names in _walk(folder) for name in names if is_video(name))


def frame_folders_below(folder: str) -> list[str]:
    """A folder, and all below it, as far as they hold pictures with a number; without hidden ones."""
    return sorted(place for place, names in _walk(folder) if any(map(is_picture, names)))


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield place, names


def update_index(
    file: Path,
    paths: Sequence[str],
    num_workers: int,
    seconds: float,
    again: bool = False,
    options: ReadOptions = DEFAULTS,
) -> dict[str, Entry]:
    """Look at the files of which the index has no current entry. Absolute path -> entry; a missing file has none.

    An entry is in the index as soon as its file has been looked at, so an interrupted call is taken up by the next.

    seconds: that a step of decoding a file may take, and SECONDS_PER_MB more for each megabyte of it
    again: look at all files
    options: of which the names of frames count; folders that were looked at with others are looked at again
    Raises OSError where the index cannot be written, also since another scan is writing it.
    """
    check_writable(file)
    with alone(file, f"another scan is writing the index {file}; wait for it, or set data.index=FILE"):
        return _update(file, paths, num_workers, seconds, again, options)


def _update(
    file: Path, paths: Sequence[str], num_workers: int, seconds: float, again: bool, options: ReadOptions
) -> dict[str, Entry]:
    known = read_index(file)  # also where all is looked at again: a file that is no index must not be added to
    known = {} if again else known  # what could not be read may have been the machine's fault: once more
    there = [path for path in dict.fromkeys(map(os.path.abspath, paths)) if os.path.exists(path)]
    entries = {path: known[path] for path in there if path in known and _holds(known[path], options)}
    new = [Task(path, options, entries.get(path)) for path in there if path not in entries or _lacks(entries[path])]
    pause = 0.5 if sys.stderr.isatty() else 10.0  # seconds between two updates of the bar: a log file wants few
    with tqdm(desc="looking at videos", total=len(there), initial=len(there) - len(new), mininterval=pause) as bar:
        for outcome in in_children(look_at, new, num_workers, lambda task: seconds_for(task.path, seconds)):
            entry = _entry(outcome)
            if entry is not None:
                append_entries(file, [entry])
                entries[entry.path] = entry
            bar.update()
    return {path: entries[path] for path in there if path in entries}


def _holds(entry: Entry, options: ReadOptions) -> bool:
    names = (entry.frame_names, entry.first_frame)
    same = not os.path.isdir(entry.path) or names == (options.frame_names, options.first_frame)
    finished = entry.container == "frames" or entry.versions
    return bool(same and finished) and not entry.stage and entry.is_current()


def _lacks(entry: Entry) -> bool:
    """Whether a reader is installed that was not tried, or in another version."""
    return entry.container != "frames" and bool(untried(entry))


def seconds_for(path: str, seconds: float) -> float:
    """That a step of decoding this file may take."""
    try:
        return seconds + SECONDS_PER_MB * state_of(path)[0] / 2**20
    except OSError:
        return seconds


def _entry(outcome: Outcome) -> Entry | None:
    """None where the file has gone since it was listed."""
    (path, _, known), found, failure = outcome
    if not failure:
        return found
    if found is not None:  # it can be read linearly; the reader that was being tried stands as not exact
        new = [name for name in found.exact if known is None or name in untried(known)]
        tried = new[-1] if new else "PyAV, a second time"
        log.warning("%s: %s while %s read it, which counts as not exact", path, failure, tried)
        return found
    try:
        return Entry(path, *state_of(path), stage="decode", reason=failure)
    except OSError:
        return None
