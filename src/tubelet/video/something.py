"""Something-Something v2 (Goyal et al. 2017) and Jester (Materzynska et al. 2019), of one origin and alike in layout.

All videos lie in one folder under their number: `<id>.webm`, or a folder `<id>` of frames.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tubelet.video.annotations import Catalogue, Video
from tubelet.video.disk import (
    find_file,
    folders_in,
    has_own_test,
    list_videos,
    locate,
    read_lines,
    read_text,
    video_home,
)

GET = "{} is at www.qualcomm.com/developer/software/{}: unpack its videos and its labels there"
GET_SSV2 = GET.format("Something-Something v2", "something-something-v-2-dataset")
GET_JESTER = GET.format("Jester", "jester-dataset")
PARTS = ("train", "validation")
Rows = list[tuple[str, str]]  # id, class name


def read_ssv2(root: str, test: str, videos: str | None = None) -> Catalogue:
    """Something-Something v2, by the old names of its files or the new ones; classes in the order of labels.json.

    root: holds labels.json, train.json and validation.json, with or without something-something-v2- before them, in it
        or in a folder such as labels; and the videos, in it or in folders such as 20bn-something-something-v2
    test: the split of the test figures, val as in published ones, or test, with its answers in test-answers.csv
    videos: the folder of root that holds the videos; None looks for them in root and in all of its folders

    Raises FileNotFoundError or ValueError.
    """
    names = (f"{name}.json" for name in ("labels", *PARTS))
    labels, train, val = (_file(root, name, "something-something-v2-", GET_SSV2) for name in names)
    answers = _file(root, "test-answers.csv", "something-something-v2-", GET_SSV2) if has_own_test(test) else None
    return _locate(parse_ssv2(labels, train, val, answers), root, videos, ".webm", GET_SSV2)


def read_jester(root: str, test: str, videos: str | None = None) -> Catalogue:
    """Jester, by its old lists (`id;label`) or the newer ones (with a header); each sample is a folder of frames.

    root: holds jester-v1-labels.csv, jester-v1-train.csv and jester-v1-validation.csv, or Train.csv and Validation.csv,
        in it or in a folder; and the samples, in it or in folders such as 20bn-jester-v1 or Train and Validation
    test, videos: as for Something-Something v2; the old test list has no labels

    Classes are in the order of the list of labels, or of the column label_id where there is no such list. Raises
    FileNotFoundError or ValueError.
    """
    labels = find_file(Path(root), ["jester-v1-labels.csv", "labels.csv"])
    train, val = (_file(root, f"{name}.csv", "jester-v1-", GET_JESTER) for name in PARTS)
    asked = _file(root, "test.csv", "jester-v1-", GET_JESTER) if has_own_test(test) else None
    return _locate(parse_jester(labels, train, val, asked), root, videos, "", GET_JESTER)


def _file(root: str, name: str, old: str, hint: str) -> Path:
    """By its old name, or by the new one, which Jester writes with a capital."""
    file = find_file(Path(root), [f"{old}{name}", name, name.capitalize()])
    if file is None:
        raise FileNotFoundError(f"data.root={root}: no {name} or {old}{name} in it or in a folder of it. {hint}")
    return file


def _locate(listed: Catalogue, root: str, videos: str | None, ending: str, source: str) -> Catalogue:
    """ending: that of the official videos, none where they are folders of frames"""
    home = video_home(root, videos)
    # A folder that is a number is a sample, whose frames are not looked through.
    found = list_videos([home, *(folder for folder in folders_in(home) if not folder.name.isdecimal())])
    return locate(
        listed,
        find=found.get,
        expected=lambda name: os.path.join(home, f"{name}{ending}"),
        source=source,
    )


def parse_ssv2(labels: Path, train: Path, val: Path, answers: Path | None = None) -> Catalogue:
    """The official files -> videos by their ids. Without the answers to the test, val is the test too."""
    numbered = {str(number): _bare(name) for name, number in _json(labels).items()}  # "3" in the official file
    rows = [(file, [(str(row["id"]), _bare(row.get("template", ""))) for row in _json(file)]) for file in (train, val)]
    if answers:
        rows.append((answers, [(video, _bare(name)) for video, name, _ in _table(answers)]))
    return _numbered(_in_order(numbered, labels), rows)


def _bare(template: str) -> str:
    """A template without the brackets around its placeholders, as labels.json has it."""
    return template.replace("[", "").replace("]", "")


def _json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error


def parse_jester(labels: Path | None, train: Path, val: Path, test: Path | None = None) -> Catalogue:
    """The official files -> samples by their ids. Without a test file, val is the test too."""
    tables = [(file, _table(file)) for file in (train, val, test) if file]
    numbered = {number: name for _, name, number in tables[0][1]}
    if labels is None and "" in numbered:
        raise FileNotFoundError(
            f"{train} does not number its classes; jester-v1-labels.csv, which does, is lacking beside it. {GET_JESTER}"
        )
    classes = read_lines(labels) if labels else _in_order(numbered, train)
    return _numbered(classes, [(file, [(video, name) for video, name, _ in table]) for file, table in tables])


def _table(file: Path) -> list[tuple[str, str, str]]:
    """(id, class name, class number) of lines `id;name`, without a number, or of columns that a header names."""
    lines = read_lines(file)
    if "," not in lines[0] or ";" in lines[0]:
        return [(words[0], words[1] if len(words) > 1 else "", "") for words in csv.reader(lines, delimiter=";")]
    rows = csv.DictReader(lines)
    names = list(rows.fieldnames or ())
    key = next((name for name in ("video_id", "id") if name in names), None)
    if key is None or "label" not in names:
        raise ValueError(f"{file}: its header {lines[0]!r} does not name the columns video_id and label")
    return [(row[key], row["label"] or "", row.get("label_id") or "") for row in rows]


def _in_order(numbered: Mapping[str, str], file: Path) -> list[str]:
    """Number, as text -> class name; gives the names by number. Raises ValueError where they do not count from 0."""
    lacking = next((i for i in range(len(numbered)) if str(i) not in numbered), None)
    if lacking is not None or len(set(numbered.values())) < len(numbered):
        raise ValueError(f"{file}: its class numbers are not one for each class, from 0 to {len(numbered) - 1}")
    return [numbered[str(i)] for i in range(len(numbered))]


def _numbered(classes: list[str], rows: Sequence[tuple[Path, Rows]]) -> Catalogue:
    """rows: of the training, validation and, if there is one, test file, each with its file"""
    numbers = {name: i for i, name in enumerate(classes)}
    parts = []
    for file, found in rows:
        for video, name in found:
            if name not in numbers:
                what = f"{name!r} is not one of the {len(classes)} classes" if name else "it has no label"
                raise ValueError(f"{file}: video {video}: {what}")
        parts.append([Video(video, numbers[name]) for video, name in found])
    return Catalogue(classes, parts[0], parts[1], parts[-1])
