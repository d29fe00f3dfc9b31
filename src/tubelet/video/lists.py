"""Annotations that come as text files: UCF101's official lists, and people's own lists of paths and labels."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from tubelet.video.annotations import Catalogue, Video

log = logging.getLogger(__name__)

GET_UCF101 = (
    "UCF101 is at www.crcv.ucf.edu/data/UCF101.php: unpack its videos and its TrainTestSplits-RecognitionTask there; "
    "without any data: python train.py experiment=demo"
)


COUNTED = "they stay in the count, as answered wrongly"


def read_ucf101(root: str, split: int, on_error: str) -> Catalogue:
    """UCF101 (Soomro et al. 2012) as it is distributed; the official test list serves as validation too.

    root: holds classInd.txt, trainlist0N.txt and testlist0N.txt, directly or in a folder such as ucfTrainTestlist or
        annotations, and the videos in UCF-101/<Class>/ or all in one folder
    split: N, 1 to 3 for the official splits
    on_error: raise, or skip: what to do about videos that the lists name and the disk does not hold

    Raises FileNotFoundError or ValueError.
    """
    top = Path(root)
    lists = next((file.parent for file in sorted([*top.glob("classInd.txt"), *top.glob("*/classInd.txt")])), None)
    if lists is None:
        raise FileNotFoundError(f"data.root={root}: no classInd.txt in it or in a folder of it. {GET_UCF101}")
    classes = _class_names(lists / "classInd.txt")
    videos = {}
    for part in ("train", "test"):
        file = lists / f"{part}list{split:02d}.txt"
        if not file.exists():
            raise FileNotFoundError(f"data.split={split}: there is no {file}")
        videos[part] = [_ucf101_video(top, line.split()[0], classes, file) for line in _lines(file)]
    train = _present(videos["train"], on_error, root, "they are left out", f". {GET_UCF101}")
    _present(videos["test"], on_error, root, COUNTED, f". {GET_UCF101}")
    test = videos["test"]  # all of them: what is not on disk counts as answered wrongly
    return Catalogue(classes, train, test, test)


def _lines(file: Path) -> list[str]:
    """Lines that are not empty, whatever ends them: the official files have CRLF."""
    return [line.strip() for line in _text(file).splitlines() if line.strip()]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file in UTF-8: {error}") from error


def _class_names(file: Path) -> list[str]:
    """Of lines `<number> <class>`, which count from 1."""
    numbered = [line.split() for line in _lines(file)]
    for i, words in enumerate(numbered, start=1):
        if len(words) != 2 or words[0] != str(i):
            raise ValueError(f"{file}: expected '{i} <class>' as class {i}, found {' '.join(words)!r}")
    return [name for _, name in numbered]


def _ucf101_video(top: Path, name: str, classes: Sequence[str], file: Path) -> Video:
    """`Class/v_Class_g01_c01.avi` of a list -> the video in one of the layouts people keep it in."""
    class_name = name.split("/")[0]
    if class_name not in classes:
        raise ValueError(f"{file}: {name} is of class {class_name!r}, which classInd.txt does not name")
    flat = name.split("/")[-1]
    places = [top / "UCF-101" / name, top / name, top / "UCF-101" / flat, top / "videos" / flat, top / flat]
    path = next((place for place in places if place.exists()), places[0])
    return Video(str(path), classes.index(class_name))


def _present(videos: list[Video], on_error: str, root: str, consequence: str, hint: str = "") -> list[Video]:
    """The videos that exist; what lacks is counted and named, and stops the run unless `on_error` is skip."""
    present = [video for video in videos if Path(video.path).exists()]
    lacking = [video.path for video in videos if not Path(video.path).exists()]
    if lacking:
        named = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        told = f"{len(lacking)} of {len(videos)} listed videos are not on disk: {named}"
        if not present:
            raise FileNotFoundError(f"data.root={root}: none of {len(videos)} listed videos is on disk: {named}{hint}")
        if on_error != "skip":
            raise FileNotFoundError(f"{told}; data.on_error=skip goes on without them")
        log.warning("%s; %s", told, consequence)
    return present


def read_list(train: str, val: str, test: str | None, root: str, classes: str | None, on_error: str) -> Catalogue:
    """Your own lists: a video and its label on each line, as `path label`, `path,label` or `path<TAB>label`.

    train, val, test: the list files; without a test list, the validation videos are the test
    root: folder that paths in the lists are relative to
    classes: a file with one class name a line; labels are then its names, or numbers from 0. Without it labels are
        numbers from 0, or names, numbered in the order of the alphabet
    on_error: raise, or skip, for videos that are not on disk

    A path may hold spaces: the label is what follows the last separator. Raises ValueError with file and line.
    """
    files = {"train": train, "val": val} | ({"test": test} if test else {})
    rows = {part: _rows(Path(file)) for part, file in files.items()}
    paths = {part: {path for _, path, _ in found} for part, found in rows.items()}
    for part in set(paths) - {"train"}:
        both = len(paths["train"] & paths[part])
        if both:
            log.warning("%d videos of %s are training videos too: figures on them say nothing", both, files[part])
    names = _lines(Path(classes)) if classes else _names([row for found in rows.values() for row in found])
    numbers = {name: i for i, name in enumerate(names)}
    videos = {}
    for part, found in rows.items():
        listed = [Video(str(Path(root, path)), _label(label, numbers, place)) for place, path, label in found]
        present = _present(listed, on_error, root, "they are left out" if part == "train" else COUNTED)
        videos[part] = present if part == "train" else listed  # what is not on disk counts as answered wrongly
    return Catalogue(names, videos["train"], videos["val"], videos.get("test", videos["val"]))


def _rows(file: Path) -> list[tuple[str, str, str]]:
    """(file:line, path, label) of each line. The separator is the one that the first line has: tab, comma, or space."""
    if not file.exists():
        raise FileNotFoundError(f"the list {file} does not exist")
    lines = _text(file).splitlines()
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
    """Class names where no file gives them: the numbers themselves, up to the largest, or the sorted names."""
    numbers = {label for _, _, label in rows if label.lstrip("-").isdigit()}
    for place, _, label in rows:
        if numbers and (label not in numbers or label.startswith("-")):
            raise ValueError(f"{place}: label {label!r} is not a number from 0, as the labels of other lines are")
    if not numbers:
        return sorted({label for _, _, label in rows})
    names = [str(i) for i in range(max(map(int, numbers)) + 1)]
    unused = [name for name in names if name not in numbers]
    if unused:
        log.warning("no video has label %s, though labels go up to %s", ", ".join(unused[:10]), names[-1])
    return names


def _label(label: str, numbers: dict[str, int], place: str) -> int:
    if label in numbers:
        return numbers[label]
    if label.isdigit() and int(label) < len(numbers):
        return int(label)
    rule = (
        f"the labels are 0 to {len(numbers) - 1}" if label.lstrip("-").isdigit() else "it is not one of the class names"
    )
    raise ValueError(f"{place}: label {label!r}: {rule}; labels count from 0")
