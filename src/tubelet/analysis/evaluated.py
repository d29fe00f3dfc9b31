"""Evaluations on disk: predictions.csv with its protocol, and whether two of them are of the same videos."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

Answered = tuple[str, str]  # path and label of a video; the path alone may come with several labels


@dataclass(frozen=True)
class Evaluation:
    """One model's answers.

    protocol: that of metrics.json; None for a file without one beside it
    root: data.root of config.yaml, the folder of the videos; None for a file without one beside it
    right: whether each video was answered with its label, in the order of the file
    unreadable: those that could not be read, which count as wrong
    """

    path: Path
    protocol: str | None
    root: str | None
    right: dict[Answered, bool]
    unreadable: frozenset[Answered]

    def below(self, root: str | None) -> "Evaluation":
        """The same with the paths of videos below `root` seen from there; other paths, and all without one, stay."""
        if root is None:
            return self
        right = {(_seen_from(root, path), label): answer for (path, label), answer in self.right.items()}
        unreadable = frozenset((_seen_from(root, path), label) for path, label in self.unreadable)
        return replace(self, right=right, unreadable=unreadable)


def _seen_from(root: str, path: str) -> str:
    return os.path.normpath(path).removeprefix(os.path.join(os.path.normpath(root), ""))


def read_evaluation(path: Path) -> Evaluation:
    """From the folder of a run or of an evaluation, or its predictions.csv.

    Raises ValueError where it has not finished, or is no such file.
    """
    file = path / "predictions.csv" if path.is_dir() else path
    named = file.name == "predictions.csv"  # what lies beside a file of another name need not be of it
    protocol = _protocol(file.with_name("metrics.json")) if named else None
    root = _root(file.with_name("config.yaml")) if named else None
    if not file.exists():
        raise ValueError(f"{file}: there is no such file; give a run that has been tested, or a predictions.csv")
    right: dict[Answered, bool] = {}
    unreadable = set()
    with open(file, newline="", encoding="utf-8", errors="surrogateescape") as lines:
        rows = csv.DictReader(lines)
        lacking = {"video", "label", "predicted", "correct"} - set(rows.fieldnames or ())
        if lacking:
            raise ValueError(f"{file} is no predictions.csv: it has no column {', '.join(sorted(lacking))}")
        for row in rows:
            video = (row["video"], row["label"])
            if row["correct"] not in ("0", "1"):
                raise ValueError(f"{file}, line {rows.line_num}: correct={row['correct']} is neither 0 nor 1")
            if video in right:
                raise ValueError(f"{file}, line {rows.line_num}: {video[0]} stands there twice")
            right[video] = row["correct"] == "1"
            if not row["predicted"]:
                unreadable.add(video)
    if not right:
        raise ValueError(f"{file} holds no videos")
    return Evaluation(path, protocol, root, right, frozenset(unreadable))


def _protocol(record: Path) -> str | None:
    """Raises ValueError for a run that has not finished: its predictions.csv may be that of an earlier part."""
    if not record.exists():
        return None
    try:
        content = json.loads(record.read_text())
    except ValueError as error:
        raise ValueError(f"{record}: {error}") from None
    if not isinstance(content, dict) or content.get("status") != "finished":
        status = content.get("status") if isinstance(content, dict) else None
        raise ValueError(f"{record}: status={status} is not finished, so there is no test to compare")
    tests = [content[subset] for subset in ("test", "val", "train") if isinstance(content.get(subset), dict)]
    return next((test["protocol"] for test in tests if "protocol" in test), None)


def _root(config: Path) -> str | None:
    try:
        content = yaml.safe_load(config.read_text()) if config.exists() else None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{config}: {' '.join(str(error).split())}") from None
    data = content.get("data") if isinstance(content, dict) else None
    root = data.get("root") if isinstance(data, dict) else None
    return None if root is None else str(root)


def below_roots(a: Evaluation, b: Evaluation) -> tuple[Evaluation, Evaluation]:
    """Both with their videos named as seen from their data.root, which lies elsewhere on another machine.

    A file that tells none has that of the other one.
    """
    return a.below(a.root or b.root), b.below(b.root or a.root)


def check_comparable(a: Evaluation, b: Evaluation, protocols_may_differ: bool) -> None:
    """Raises ValueError that names the difference, where the two are not of the same videos in the same way."""
    protocols = [_without_root(one) for one in (a, b)]
    if "" not in protocols and protocols[0] != protocols[1] and not protocols_may_differ:
        told = " against ".join(protocol_difference(*protocols))
        raise ValueError(
            f"the protocols differ: {told}; evaluate both in the same way with eval.py, or take the difference "
            f"as part of what is compared with --protocols-may-differ"
        )
    if a.right.keys() == b.right.keys():
        return
    labels_a, labels_b = _labels(a), _labels(b)
    for video in sorted(labels_a.keys() & labels_b.keys()):
        if labels_a[video] != labels_b[video]:
            told = " and ".join(", ".join(labels[video]) for labels in (labels_a, labels_b))
            raise ValueError(f"the labels differ: {video} is {told}")
    alone = [sorted(one.keys() - other.keys()) for one, other in ((labels_a, labels_b), (labels_b, labels_a))]
    told = "; ".join(f"{len(x)} only in {one.path}, such as {x[0]}" for x, one in zip(alone, (a, b), strict=True) if x)
    raise ValueError(f"the videos differ: {told}")


def _without_root(evaluation: Evaluation) -> str:
    """Its protocol but for where the videos lie; empty where it is not known."""
    return (evaluation.protocol or "").replace(f" of {evaluation.root}, ", ", ", 1)


def protocol_difference(a: str, b: str) -> tuple[str, str]:
    """What each of two protocols has and the other has not."""
    parts_a, parts_b = a.split(", "), b.split(", ")
    return _without(parts_a, parts_b) or a, _without(parts_b, parts_a) or b


def _without(parts: Sequence[str], others: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part not in others)


def _labels(evaluation: Evaluation) -> dict[str, list[str]]:
    labels: dict[str, list[str]] = {}
    for video, label in sorted(evaluation.right):
        labels.setdefault(video, []).append(label)
    return labels
