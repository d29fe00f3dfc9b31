"""Annotations that come as text files: UCF101's official lists, and people's own lists of paths and labels."""

import csv
import logging
import os
from pathlib import Path

from tubelet.video.annotations import NO_LABEL, Catalogue, Video
from tubelet.video.disk import (
    Listing,
    class_folders,
    find_file,
    folders_in,
    list_videos,
    locate,
    read_lines,
    read_text,
    video_home,
)

log = logging.getLogger(__name__)

GET_UCF101 = (
    "UCF101 is at www.crcv.ucf.edu/data/UCF101.php: unpack its videos and its TrainTestSplits-RecognitionTask there; "
    "without any data: python train.py experiment=demo"
)


def read_ucf101(root: str, split: int, videos: str | None = None) -> Catalogue:
    """UCF101 (Soomro et al. 2012) as it is distributed; the official test list serves as validation too.

    root: holds classInd.txt, trainlist0N.txt and testlist0N.txt, directly or in a folder such as ucfTrainTestlist or
        annotations, and the videos in UCF-101/<Class>/ or all in one folder
    split: N, 1 to 3 for the official splits
    videos: the folder of root that holds the videos; None looks for them in root and in all of its folders

    Raises FileNotFoundError or ValueError.
    """
    names = find_file(Path(root), ["classInd.txt"])
    if names is None:
        raise FileNotFoundError(f"data.root={root}: no classInd.txt in it or in a folder of it. {GET_UCF101}")
    listed = parse_ucf101(names.parent, split)
    home = video_home(root, videos)
    found = list_videos(class_folders([home, *folders_in(home)], listed.classes))
    return locate(
        listed,
        find=lambda name: found.get(os.path.splitext(os.path.basename(name))[0]),
        expected=lambda name: os.path.join(root, videos or "UCF-101", name),
        source=GET_UCF101,
    )


def parse_ucf101(folder: Path, split: int) -> Catalogue:
    """The official lists in a folder -> videos as they name them, `Class/v_Class_g01_c01.avi`."""
    classes = _class_names(folder / "classInd.txt")
    numbers = {name: i for i, name in enumerate(classes)}
    videos: dict[str, list[Video]] = {"train": [], "test": []}
    for part, found in videos.items():
        file = folder / f"{part}list{split:02d}.txt"
        if not file.exists():
            raise FileNotFoundError(f"data.split={split}: there is no {file}")
        for line in read_lines(file):
            name, *label = line.split()  # the training lists have a label behind it, the test lists none
            class_name = name.split("/")[0]
            if class_name not in numbers:
                raise ValueError(f"{file}: {name} is of class {class_name!r}, which classInd.txt does not name")
            number = numbers[class_name]
            if label and label != [str(number + 1)]:
                raise ValueError(f"{file}: {line!r}: {class_name} is number {number + 1} in classInd.txt")
            found.append(Video(name, number))
    return Catalogue(classes, videos["train"], videos["test"], videos["test"])


def _class_names(file: Path) -> list[str]:
    """Of lines `<number> <class>`, which count from 1."""
    numbered = [line.split() for line in read_lines(file)]
    for i, words in enumerate(numbered, start=1):
        if len(words) != 2 or words[0] != str(i):
            raise ValueError(f"{file}: expected '{i} <class>' as class {i}, found {' '.join(words)!r}")
    return [name for _, name in numbered]


def read_list(train: str, val: str, test: str | None, root: str, names: str | None) -> Catalogue:
    """Your own lists: a video and its label on each line, as `path label`, `path,label` or `path<TAB>label`.

    train, val, test: the list files; without a test list, the validation videos are the test
    root: folder that paths in the lists are relative to
    names: a file with one class name a line; labels are then its names, or numbers from 0. Without it labels are
        numbers from 0, or names, numbered in the order of the alphabet

    A path may hold spaces: the label is what follows the last separator. A label that is none of the classes is kept as
    NO_LABEL. Raises ValueError with file and line.
    """
    files = {"train": train, "val": val} | ({"test": test} if test else {})
    rows = {part: _rows(Path(file)) for part, file in files.items()}
    classes = read_lines(Path(names)) if names else _names([row for found in rows.values() for row in found])
    numbers = {name: i for i, name in enumerate(classes)}
    videos: dict[str, list[Video]] = {}
    unlabelled: dict[Video, str] = {}
    for part, found in rows.items():
        videos[part] = []
        for place, path, label in found:
            video = Video(str(Path(root, path)), _label(label, numbers))
            videos[part].append(video)
            if video.label == NO_LABEL:
                unlabelled.setdefault(video, f"{place}: label {label!r}: {_rule(label, classes, names)}")
    disk = Listing()
    missing = frozenset(video.path for listed in videos.values() for video in listed if video.path not in disk)
    parts = videos["train"], videos["val"], videos.get("test", videos["val"])
    return Catalogue(classes, *parts, missing=missing, unlabelled=unlabelled)


def _rows(file: Path) -> list[tuple[str, str, str]]:
    """(file:line, path, label) of each line. The separator is the one that the first line has: tab, comma, or space."""
    if not file.exists():
        raise FileNotFoundError(f"the list {file} does not exist")
    lines = read_text(file).splitlines()
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"the list {file} is empty")
    separator = next((mark for mark in ("\t", ",", " ") if mark in first.strip()), None)
    if separator is None:
        raise ValueError(f"{file}:1: no tab, comma or space separates a path from a label in {first!r}")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, found, label = line.strip().rpartition(separator)
        path = next(csv.reader([path]))[0] if path.startswith('"') else path
        if not (found and path.strip() and label.strip()):
            raise ValueError(f"{file}:{number}: expected a path, {separator!r} and a label, found {line.strip()!r}")
        rows.append((f"{file}:{number}", path.strip(), label.strip()))
    repeated = len(rows) - len({path for _, path, _ in rows})
    if repeated:
        log.warning("%s: %d of %d lines repeat a video; each counts as one of its own", file, repeated, len(rows))
    return rows


def _names(rows: list[tuple[str, str, str]]) -> list[str]:
    """Class names where no file gives them: the numbers up to the largest, if any label is one, or the sorted names."""
    labels = {label for _, _, label in rows}
    if not any(map(_is_number, labels)):
        return sorted(labels)
    numbers = {label for label in labels if label.isdecimal()}
    if not numbers:
        place, _, label = rows[0]
        raise ValueError(f"{place}: label {label!r}, and no line has a label from 0 on")
    return [str(i) for i in range(max(map(int, numbers)) + 1)]


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _label(label: str, numbers: dict[str, int]) -> int:
    if label in numbers:
        return numbers[label]
    return int(label) if label.isdecimal() and int(label) < len(numbers) else NO_LABEL


def _rule(label: str, classes: list[str], names: str | None) -> str:
    """That a label breaks, which is none of the classes."""
    if not names:
        return "it is not a number from 0, as the labels of other lines are"
    if _is_number(label):
        return f"the labels are 0 to {len(classes) - 1}; labels count from 0"
    return f"it is not one of the class names in {names}"
