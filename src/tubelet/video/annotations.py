"""Which videos there are, and their classes: readers of annotations as they lie on disk."""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)
SUFFIXES = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".gif"}


NO_LABEL = -1  # of a video whose label, as it is listed, is none of the classes


class Video(NamedTuple):
    path: str
    label: int  # 0-based, a place in Catalogue.classes


@dataclass(frozen=True)
class Catalogue:
    """A data set: its class names, in the order of the labels, and the videos of each split, as they are listed."""

    classes: list[str]
    train: list[Video]
    val: list[Video]
    test: list[Video]
    twins: dict[int, int] = field(default_factory=dict)  # label -> the label of the same motion backwards
    missing: frozenset[str] = frozenset()  # paths of listed videos that are not on disk
    source: str = ""  # where to get the data, for whom it is missing
    unlabelled: Mapping[Video, str] = field(default_factory=dict)  # of NO_LABEL -> where it is listed, and as what

    def wrong_labels(self) -> dict[str, str]:
        """Path of a video whose label is out of range -> what is wrong with it."""
        most = len(self.classes) - 1
        wrong = [video for video in (*self.train, *self.val, *self.test) if not 0 <= video.label <= most]
        return {one.path: self.unlabelled.get(one, f"label {one.label}: the labels are 0 to {most}") for one in wrong}


def read_folder(
    root: str, val: float = 0.2, classes: Sequence[str] | None = None, group: str | None = None
) -> Catalogue:
    """Class folders of videos: `root/<class>/<video>`, or `root/{train,val,test}/<class>/<video>`.

    root: the folder; classes are sorted by name
    val: share of each class kept for validation where the folder has no splits of its own, between 0 and 1
    classes: only these, in this order; None takes every folder that holds videos
    group: a regular expression; videos in whose file name it matches the same text (such as `_(g\\d+)_`) were cut
        from one recording and stay on one side of the split

    Without a test split of its own, the validation videos are the test. Raises ValueError or FileNotFoundError.
    """
    top = Path(root)
    if not top.is_dir():
        raise FileNotFoundError(f"data.root={root} is not a folder; class folders of videos are looked for in it")
    if (top / "train").is_dir():
        names = list(classes or _classes_in(top / "train"))
        train = list_class_folders(top / "train", names)
        kept = next((top / name for name in ("val", "validation", "valid") if (top / name).is_dir()), top / "test")
        if not kept.is_dir():
            raise FileNotFoundError(f"{root}: there is a train folder, but neither val nor test beside it")
        val_videos = list_class_folders(kept, names)
        test = list_class_folders(top / "test", names) if (top / "test").is_dir() else val_videos
        return Catalogue(names, train, val_videos, test)
    if not 0 < val < 1:
        raise ValueError(f"data.val={val} is not a share between 0 and 1")
    names = list(classes or _classes_in(top))
    try:
        re.compile(group or "")
    except re.error as error:
        raise ValueError(f"data.group={group} is not a regular expression: {error}") from error
    videos = list_class_folders(top, names)
    if group and not any(re.search(group, os.path.basename(video.path)) for video in videos):
        raise ValueError(f"data.group={group} matches no file name in {root}, so it would keep nothing together")
    train, val_videos = _split(videos, names, val, group)
    return Catalogue(names, train, val_videos, val_videos)


def list_class_folders(folder: Path, classes: Sequence[str]) -> list[Video]:
    """The videos in `folder/<class>/`, by class and then by name. Raises where a class has none.

    Links that lead nowhere are left out, and told.
    """
    videos, nowhere = [], []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"{folder}: there is no folder for class {name!r}")
        entries = [entry for entry in os.scandir(folder / name) if is_video(entry.name)]
        nowhere += [entry.path for entry in entries if not is_there(entry)]
        found = sorted(entry.path for entry in entries if is_there(entry))
        if not found:
            raise ValueError(f"{folder / name}: no video file; the endings looked for are {' '.join(sorted(SUFFIXES))}")
        videos += [Video(path, label) for path in found]
    if nowhere:
        log.warning("%d links lead nowhere, and are left out, such as %s", len(nowhere), min(nowhere))
    return videos


def is_video(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def is_there(entry: os.DirEntry) -> bool:
    """Whether a link leads anywhere. What is no link is not asked for: a listing has said that it is there."""
    return not entry.is_symlink() or os.path.exists(entry.path)


def _classes_in(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    loose = sorted(name for name in os.listdir(folder) if is_video(name))
    if loose:
        log.warning("%s: %d videos are left out, since they lie in no class folder: %s", folder, len(loose), loose[0])
    firsts = {name: _first_videos(folder / name) for name in names}
    deeper = [deep for _, deep in firsts.values() if deep]
    if deeper:
        told = "videos of %d classes are left out, since they lie in a folder of their class folder, such as %s"
        log.warning(told, len(deeper), deeper[0])
    empty = [str(folder / name) for name, found in firsts.items() if not any(found)]
    if empty:
        log.warning("left out, since they hold no video file: %s", ", ".join(empty))
    names = [name for name, (direct, _) in firsts.items() if direct]
    if len(names) < 2:
        raise ValueError(f"{folder}: needs at least two folders of videos, one a class; found {names or 'none'}")
    return names


def _first_videos(folder: Path) -> tuple[str | None, str | None]:
    """The path of a video directly in a folder, and that of one below it."""
    found: dict[bool, str] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        first = next((name for name in names if is_video(name)), None)
        if first:
            found.setdefault(place == str(folder), os.path.join(place, first))
            if False in found:
                break
    return found.get(True), found.get(False)


def _split(videos: list[Video], classes: Sequence[str], share: float, group: str | None) -> tuple[list, list]:
    """Into training and validation: per class, whole groups, in the order of a hash of their names."""
    train, val = [], []
    for label, name in enumerate(classes):
        groups: dict[str, list[Video]] = {}
        for video in videos:
            if video.label == label:
                groups.setdefault(_group_of(video.path, group), []).append(video)
        if len(groups) < 2:
            raise ValueError(
                f"class {name!r} has one video or one group, which cannot be split; leave it out or add more"
            )
        ordered = sorted(groups, key=lambda key: hashlib.sha256(key.encode()).digest())
        kept = min(max(round(share * len(groups)), 1), len(groups) - 1)
        val += [video for key in ordered[:kept] for video in groups[key]]
        train += [video for key in ordered[kept:] for video in groups[key]]
    return sorted(train), sorted(val)


def _group_of(path: str, pattern: str | None) -> str:
    name = os.path.basename(path)
    match = re.search(pattern, name) if pattern else None
    return match.group(match.lastindex or 0) if match else name
