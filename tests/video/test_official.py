"""The official annotation files, where TUBELET_ASSETS names a folder that holds them; they may not be passed on."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tubelet.video.disk import read_lines, spelling
from tubelet.video.flips import flip_twins
from tubelet.video.hmdb51 import parse_hmdb51
from tubelet.video.kinetics import parse_kinetics
from tubelet.video.lists import parse_ucf101
from tubelet.video.something import parse_ssv2

ASSETS = Path(os.environ.get("TUBELET_ASSETS", "nowhere"))
pytestmark = pytest.mark.skipif(not ASSETS.is_dir(), reason="TUBELET_ASSETS names no folder of official annotations")


@pytest.mark.parametrize(("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_ucf101(split, train, test):
    listed = parse_ucf101(ASSETS / "ucf101/annotations", split)
    assert (len(listed.classes), len(listed.train), len(listed.test)) == (101, train, test)
    assert not set(listed.train) & set(listed.test)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_hmdb51(split):
    folder = ASSETS / "annotations/hmdb51"
    listed = parse_hmdb51(folder / "testTrainMulti_7030_splits", split)
    assert (len(listed.train), len(listed.test)) == (3570, 1530)
    assert listed.classes == read_lines(folder / "label_map.txt")
    assert set(Counter(video.label for video in listed.train).values()) == {70}
    names = [Path(video.path).name for video in listed.train + listed.test]
    assert len(set(names)) == len(names)  # a name is enough to find its file


def test_ssv2():
    folder = ASSETS / "annotations/ssv2"
    validation, answers = folder / "validation.json", folder / "test-answers.csv"
    listed = parse_ssv2(folder / "labels.json", validation, validation, answers)
    assert (len(listed.classes), len(listed.val), len(listed.test)) == (174, 24777, 27157)
    assert listed.classes == read_lines(folder / "mmaction2_label_map.txt")
    assert {video.path for video in listed.test} == {
        row["id"] for row in json.loads((folder / "test.json").read_text())
    }


def test_kinetics():
    folder = ASSETS / "annotations/tiny_kinetics400"
    listed = parse_kinetics(folder / "tiny_train.csv", folder / "tiny_val.csv")
    assert (len(listed.classes), len(listed.train), len(listed.val)) == (400, 400, 400)
    assert listed.classes == read_lines(ASSETS / "annotations/kinetics400/label_map_k400.txt")
    assert listed.val[0].path == "val/-3B32lodo2M_000059_000069"


@pytest.mark.parametrize("edition", [400, 600])
def test_no_two_classes_of_kinetics_have_one_spelling(edition):
    names = read_lines(ASSETS / f"annotations/kinetics400/label_map_k{edition}.txt")
    assert names == sorted(names)
    assert len({spelling(name) for name in names}) == len(names) == edition


def test_flips_swap_three_pairs_of_ssv2_three_of_jester_and_none_of_kinetics_or_hmdb51():
    labels = json.loads((ASSETS / "annotations/ssv2/labels.json").read_text())
    ssv2 = sorted(labels, key=lambda name: int(labels[name]))
    # The pairs that mmaction2's flip_label_map lists too.
    assert flip_twins(ssv2) == ({86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}, [])
    jester = (ASSETS / "annotations/jester/label_map.txt").read_text().splitlines()
    twins, alone = flip_twins(jester)
    assert {frozenset((jester[a], jester[b])) for a, b in twins.items()} == {
        frozenset(("Swiping Left", "Swiping Right")),
        frozenset(("Sliding Two Fingers Left", "Sliding Two Fingers Right")),
        frozenset(("Turning Hand Clockwise", "Turning Hand Counterclockwise")),
    }
    assert alone == []
    for file in ("kinetics400/label_map_k400.txt", "kinetics400/label_map_k600.txt", "hmdb51/label_map.txt"):
        assert flip_twins((ASSETS / "annotations" / file).read_text().splitlines()) == ({}, [])
