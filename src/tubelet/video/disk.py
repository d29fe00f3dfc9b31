"""What lies on disk: annotation files as text, the videos in folders, and which of the listed ones are missing."""

import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tubelet.video.annotations import Catalogue, Video, is_there, is_video

log = logging.getLogger(__name__)
LEFT_OUT = "they are left out", "goes on without them"  # what is done with missing videos, and would be with `skip`
COUNTED = "they stay in the count, as answered wrongly", "goes on and counts them as answered wrongly"


def read_text(file: Path) -> str:
    """Of a text file in UTF-8, with or without a byte order mark. Raises ValueError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file in UTF-8: {error}") from error


def read_lines(file: Path) -> list[str]:
    """Lines that are not empty, whatever ends them: many official files have CRLF. Raises ValueError where none is."""
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{file} is empty")
    return lines


def spelling(name: str) -> str:
    """What all spellings of a class have in common: `shooting goal (soccer)`, `shooting_goal_soccer`."""
    return "".join(letter for letter in composed(name).casefold() if letter.isalnum())


def composed(name: str) -> str:
    """With letters and their accents in one, as lists have them: macOS writes them into file names one by one."""
    return unicodedata.normalize("NFC", name)


def folders_in(folder: Path) -> list[Path]:
    """By name, without hidden ones."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))]


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that lies in `root`, or else in a folder of it."""
    if not root.is_dir():
        return None
    places = (folder / name for folder in (root, *folders_in(root)) for name in names)
    return next((place for place in places if place.is_file()), None)


def has_own_test(test: str) -> bool:
    """Whether data.test names the test split, and not the validation videos. Raises ValueError for anything else."""
    if test not in ("val", "test"):
        raise ValueError(f"data.test={test} is neither val nor test")
    return test == "test"


def video_home(root: str, videos: str | None) -> Path:
    """The folder in which videos are looked for: root, or `videos` in it."""
    home = Path(root, videos or "")
    if not home.is_dir():
        raise FileNotFoundError(f"data.videos={videos}: there is no folder {home}")
    return home


def class_folders(bases: Iterable[Path], classes: Sequence[str]) -> list[Path]:
    """The bases, and in each of them the folders that are named like a class, however they spell it."""
    keys = {spelling(name) for name in classes}
    return [
        folder
        for base in bases
        for folder in (base, *(inner for inner in folders_in(base) if spelling(inner.name) in keys))
    ]


def list_videos(folders: Iterable[Path]) -> dict[str, str]:
    """Name without its ending, `composed` -> path, of the video files and folders of frames directly in these folders.

    Each folder is listed once; asking for every file by itself takes minutes where there are 240,000 on a file server.
    Of several of one name, a file is taken before a folder, then the one in the earlier of the folders; files of one
    name are told. A link that leads nowhere is not there.
    """
    found = []
    for place, folder in enumerate(folders):
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_video(entry.name) and is_there(entry):
                    found.append((False, place, entry.path, os.path.splitext(entry.name)[0]))
                elif entry.is_dir() and not entry.name.startswith("."):
                    found.append((True, place, entry.path, entry.name))
    taken = {composed(name): path for _, _, path, name in sorted(found, reverse=True)}
    others = sorted({path for is_folder, _, path, _ in found if not is_folder}.difference(taken.values()))
    if others:
        told = "%d videos are left aside for others of the same name, such as %s for %s"
        log.warning(told, len(others), others[0], taken[composed(os.path.splitext(os.path.basename(others[0]))[0])])
    return taken


class Listing:
    """Whether files exist, from one listing of each folder that is asked about."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._names:
            self._names[folder] = _names_in(folder or ".")
        return name in self._names[folder]


def _names_in(folder: str) -> set[str]:
    if not os.path.isdir(folder):
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if is_there(entry)}


def locate(
    listed: Catalogue, find: Callable[[str], str | None], expected: Callable[[str], str], source: str
) -> Catalogue:
    """A catalogue of names as annotations have them -> one of paths, which remembers what is not on disk.

    find: name, `composed` -> path, None where it is not on disk; expected: name -> the path where it could have been
    source: where to get the data
    """
    missing = set()

    def on_disk(video: Video) -> Video:
        path = find(composed(video.path))
        if path is None:
            path = expected(video.path)
            missing.add(path)
        return Video(path, video.label)

    train, val, test = ([on_disk(video) for video in part] for part in (listed.train, listed.val, listed.test))
    return Catalogue(listed.classes, train, val, test, missing=frozenset(missing), source=source)


def leave_out_missing(
    catalogue: Catalogue,
    needed: Sequence[str],
    on_error: str,
    root: str | None,
    trained_on: Sequence[str] = ("train",),
) -> Catalogue:
    """What to do about listed videos that are not on disk: `raise`, or `skip`, which counts and names them.

    needed: the splits that will be read; what the others lack is no matter
    trained_on: the splits that are then without them; in all others they stay, so that they count as answered wrongly
    Raises FileNotFoundError, also with `skip` where a whole split is missing.
    """
    told: list[list[Video]] = []
    for split in needed:
        videos = getattr(catalogue, split)
        lacking = [video.path for video in videos if video.path in catalogue.missing]
        if not lacking or videos in told:  # test videos that are those of validation
            continue
        told.append(videos)
        named = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        if len(lacking) == len(videos):
            where = f"data.root={root}: none of {len(videos)} listed {split} videos is on disk: {named}"
            raise FileNotFoundError(f"{where}. {catalogue.source}" if catalogue.source else where)
        done, offered = LEFT_OUT if split in trained_on else COUNTED
        number = f"{len(lacking)} of {len(videos)} listed {split} videos are not on disk: {named}"
        if on_error != "skip":
            raise FileNotFoundError(f"{number}; data.on_error=skip {offered}")
        log.warning("%s; %s", number, done)
    on_disk: dict[str, Any] = {
        split: [video for video in getattr(catalogue, split) if video.path not in catalogue.missing]
        for split in trained_on
    }
    return replace(catalogue, **on_disk)
