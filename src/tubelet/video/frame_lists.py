"""SlowFast's lists of extracted frames: a line for each frame, `original_vido_id video_id frame_id path labels`."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tubelet.video.annotations import NO_LABEL, Catalogue, Video
from tubelet.video.disk import read_lines
from tubelet.video.frames import NUMBER

HEADER = ["original_vido_id", "video_id", "frame_id", "path", "labels"]  # their spelling


@dataclass
class Listed:
    """One video of a list: place is file:line of its first frame, folder and numbers are those of its pictures."""

    place: str
    folder: str
    label: str
    numbers: list[int]


def read_frame_list(train: str, val: str, test: str | None, root: str, names: str | None) -> Catalogue:
    """Lists of frames as SlowFast has them for Something-Something and Charades, with one label a video.

    train, val, test: the csv files, separated by spaces; without a test list, the validation videos are the test
    root: folder that the paths in the lists are relative to
    names: a file with one class name a line; None: the labels are the names

    A video is the folder of its frames, which must all be listed. A label that is none of the classes is kept as
    NO_LABEL. Raises ValueError with file and line.
    """
    found = {part: list(_listed(Path(file))) for part, file in (("train", train), ("val", val), ("test", test)) if file}
    classes = read_lines(Path(names)) if names else _classes([one.label for listed in found.values() for one in listed])
    videos: dict[str, list[Video]] = {}
    missing, unlabelled = set(), {}
    for part, listed in found.items():
        videos[part] = []
        for one in listed:
            is_class = one.label.isdecimal() and int(one.label) < len(classes)
            video = Video(str(Path(root, one.folder)), int(one.label) if is_class else NO_LABEL)
            videos[part].append(video)
            if not is_class:
                rule = f"a video has one label here, a number from 0 to {len(classes) - 1}"
                unlabelled[video] = f"{one.place}: label {one.label!r}: {rule}"
            if not _on_disk(one, root):
                missing.add(video.path)
    parts = videos["train"], videos["val"], videos.get("test", videos["val"])
    return Catalogue(classes, *parts, missing=frozenset(missing), unlabelled=unlabelled)


def _classes(labels: list[str]) -> list[str]:
    """The numbers up to the largest label."""
    return [str(label) for label in range(max((int(label) for label in labels if label.isdecimal()), default=-1) + 1)]


def _listed(file: Path) -> Iterator[Listed]:
    if not file.exists():
        raise FileNotFoundError(f"the list {file} does not exist")
    video, current = "", None
    with open(file, encoding="utf-8-sig", newline="") as opened:
        rows = csv.reader(opened, delimiter=" ")
        if next(rows, None) != HEADER:
            raise ValueError(f"{file}:1: expected the header '{' '.join(HEADER)}'")
        for row in rows:
            place = f"{file}:{rows.line_num}"
            if len(row) != len(HEADER):
                raise ValueError(f"{place}: expected {len(HEADER)} words separated by one space, found {len(row)}")
            folder, number, label = _frame(place, row)
            if current is None or row[0] != video:
                if current is not None:
                    yield current
                video, current = row[0], Listed(place, folder, label, [])
            if (folder, label) != (current.folder, current.label):
                raise ValueError(f"{place}: frames of {video} are in two folders or have two labels")
            if current.numbers and number != current.numbers[-1] + 1:
                raise ValueError(f"{place}: frame {number} of {video} follows {current.numbers[-1]}")
            current.numbers.append(number)
    if current is None:
        raise ValueError(f"the list {file} holds no frame")
    yield current


def _frame(place: str, row: list[str]) -> tuple[str, int, str]:
    """Folder, number and label of a line."""
    *_, path, label = row
    folder, _, name = path.rpartition("/")
    match = NUMBER.match(name)
    if not match:
        raise ValueError(f"{place}: there is no number in the file name of {path}")
    return folder, int(match[2]), label


def _on_disk(listed: Listed, root: str) -> bool:
    """Raises ValueError where the folder holds other pictures too: they would be taken for frames of the video."""
    folder = Path(root, listed.folder)
    if not folder.is_dir():
        return False
    num_files = sum(NUMBER.match(name) is not None for name in os.listdir(folder))
    if num_files != len(listed.numbers):
        raise ValueError(f"{listed.place}: {len(listed.numbers)} frames are listed, and {folder} holds {num_files}")
    return True
