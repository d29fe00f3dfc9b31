"""Kinetics-400, -600 and -700 (Kay et al. 2017; Carreira et al. 2018, 2019): the official csv files, and their videos.

A row names a clip by the id of its video on YouTube and its seconds, and its file is `<id>_<start>_<end>.mp4` with six
digits each. That name is unlike all others of an edition, so it is found in whatever folder it lies.
"""

import csv
import logging
import os
from pathlib import Path
from typing import NamedTuple

from tubelet.video.annotations import Catalogue, Video
from tubelet.video.disk import (
    class_folders,
    find_file,
    has_own_test,
    list_videos,
    locate,
    read_text,
    spelling,
    video_home,
)

log = logging.getLogger(__name__)
WORDS = {"train": ("train",), "val": ("val", "validate", "validation", "valid"), "test": ("test",)}
FOLDERS = ("{}", "videos/{}", "videos_{}", "{}_256")  # of the videos of a split
REPLACED = ("replacement/replacement_for_corrupted_k400", "replacement_for_corrupted_k400", "replacement")
ID_LETTERS = 11  # of a video on YouTube


def read_kinetics(root: str, edition: int, test: str, videos: str | None = None) -> Catalogue:
    """Kinetics as CVDF distributes it, flat or in class folders; classes are sorted by name.

    root: holds train.csv and val.csv (or validate.csv), directly or in a folder such as annotations
    edition: 400, 600 or 700
    test: the split of the test figures, val as in published ones, or test, where its csv has labels
    videos: the folder of root that holds the folders train, val and test; None is root itself

    Raises FileNotFoundError or ValueError.
    """
    if edition not in (400, 600, 700):
        raise ValueError(f"data.edition={edition} is not 400, 600 or 700")
    train, val = (_csv_file(Path(root), part, edition) for part in ("train", "val"))
    listed = parse_kinetics(train, val, _csv_file(Path(root), "test", edition) if has_own_test(test) else None)
    if len(listed.classes) != edition:
        log.warning("%s names %d classes, not the %d of Kinetics-%d", train, len(listed.classes), edition, edition)
    home = video_home(root, videos)
    found = list_videos(class_folders(_split_folders(home), listed.classes))
    replaced = {name[:ID_LETTERS]: path for name, path in list_videos(_folders(home, REPLACED)).items()}
    return locate(
        listed,
        find=lambda name: replaced.get(os.path.basename(name)[:ID_LETTERS]) or found.get(os.path.basename(name)),
        expected=lambda name: os.path.join(home, f"{name}.mp4"),
        source=_where_to_get(edition),
    )


def _where_to_get(edition: int) -> str:
    name = "k700_2020" if edition == 700 else f"k{edition}"
    return (
        f"Kinetics-{edition} is at github.com/cvdfoundation/kinetics-dataset: {name}_downloader.sh and "
        f"{name}_extractor.sh; data/README.md says how it may lie"
    )


def _csv_file(root: Path, part: str, edition: int) -> Path:
    before = ("", "kinetics_", f"kinetics-{edition}_", f"kinetics_{edition}_", f"kinetics{edition}_", f"k{edition}_")
    file = find_file(root, [f"{start}{word}.csv" for start in before for word in WORDS[part]])
    if file is None:
        named = " or ".join(f"{word}.csv" for word in WORDS[part])
        raise FileNotFoundError(f"data.root={root}: no {named} in it or in a folder of it. {_where_to_get(edition)}")
    return file


def parse_kinetics(train: Path, val: Path, test: Path | None = None) -> Catalogue:
    """The csv files -> videos by `<split>/<id>_<start>_<end>`. Without a test file, val is the test too."""
    rows = {part: _rows(file) for part, file in (("train", train), ("val", val), ("test", test)) if file}
    classes = sorted({row.label for row in rows["train"]})
    numbers = {spelling(name): i for i, name in enumerate(classes)}
    numbers |= {name: i for i, name in enumerate(classes)}
    videos: dict[str, list[Video]] = {}
    for part, found in rows.items():
        videos[part] = []
        for row in found:
            label = numbers.get(row.label, numbers.get(spelling(row.label)))
            if label is None:
                raise ValueError(f"{row.place}: class {row.label!r} is not one of the {len(classes)} of {train}")
            videos[part].append(Video(f"{part}/{row.name}", label))
    return Catalogue(classes, videos["train"], videos["val"], videos.get("test", videos["val"]))


class Row(NamedTuple):
    place: str  # file:line
    label: str
    name: str


def _rows(file: Path) -> list[Row]:
    """By the names in the header, since editions order their columns differently, and old test files have no label."""
    lines = csv.reader(read_text(file).splitlines())
    header = [name.strip() for name in next(lines, [])]
    columns = ("label", "youtube_id", "time_start", "time_end")
    lacking = [name for name in columns if name not in header]
    if lacking:
        without = "; without labels it cannot be tested on, data.test=val can" if lacking == ["label"] else ""
        raise ValueError(f"{file}: no column {lacking[0]} in its header {','.join(header)!r}{without}")
    at = [header.index(name) for name in columns]
    rows = []
    for words in lines:
        if words:
            place = f"{file}:{lines.line_num}"
            try:
                label, video, start, end = (words[i].strip() for i in at)
                name = f"{video}_{int(float(start)):06d}_{int(float(end)):06d}"  # some releases write 84.0
            except (IndexError, ValueError):
                raise ValueError(f"{place}: expected {','.join(header)}, found {','.join(words)!r}") from None
            rows.append(Row(place, label.strip('"'), name))
    return rows


def _split_folders(home: Path) -> list[Path]:
    """Where the videos of the splits lie; without folders for splits, all in one."""
    words = [word for part in WORDS.values() for word in part]
    return _folders(home, [name.format(word) for name in FOLDERS for word in words]) or _folders(home, ("videos", "."))


def _folders(home: Path, names: tuple[str, ...] | list[str]) -> list[Path]:
    return [home / name for name in names if (home / name).is_dir()]
