"""Some of the classes, and a share of the training videos, of any data set."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tubelet.video.annotations import Catalogue, Video
from tubelet.video.subset import class_list, take_classes, take_fraction

SIZES = {"jump": 40, "run": 10, "walk": 1}
TRAIN = [Video(f"root/{name}/{name}_{i}.mp4", k) for k, (name, n) in enumerate(SIZES.items()) for i in range(n)]
CATALOGUE = Catalogue(
    list(SIZES),
    TRAIN,
    [Video("v0", 0), Video("v1", 1), Video("v2", 2)],
    [Video("t2", 2), Video("t0", 0)],
    twins={0: 2, 2: 0},
    missing=frozenset({"v1"}),
    source="there",
)


def test_classes_are_taken_alone_and_numbered_in_the_order_asked_for():
    taken = take_classes(CATALOGUE, ["walk", "jump"])
    assert taken.classes == ["walk", "jump"]
    assert [video.label for video in taken.train] == [1] * 40 + [0]
    assert taken.val == [Video("v0", 1), Video("v2", 0)]
    assert taken.test == [Video("t2", 0), Video("t0", 1)]
    assert (taken.missing, taken.source) == (frozenset({"v1"}), "there")


def test_twins_stay_twins_where_both_are_taken():
    assert take_classes(CATALOGUE, ["walk", "run", "jump"]).twins == {0: 2, 2: 0}
    assert take_classes(CATALOGUE, ["run", "walk"]).twins == {}


def test_a_class_that_is_not_there_is_an_error_with_the_nearest():
    with pytest.raises(ValueError, match=r"data.classes: 'jmp' is not one of the 3 classes; did you mean 'jump'\?"):
        take_classes(CATALOGUE, ["run", "jmp"])
    with pytest.raises(ValueError, match=r"there are jump, run, walk"):
        take_classes(CATALOGUE, ["swimming"])


def test_numbers_may_be_names_of_classes_and_none_means_all():
    assert class_list([3, "run"]) == ["3", "run"]
    assert class_list(None) is None


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ("names.txt", r"data.classes=names.txt is not a list.*data.names"),
        ([], r"data.classes=\[\] is not a list"),
        (3, "data.classes=3 is not a list"),
        (["run", "run"], "names 'run' twice"),
    ],
)
def test_what_is_no_list_of_classes_is_an_error(classes, told):
    with pytest.raises(ValueError, match=told):
        class_list(classes)


def per_class(catalogue: Catalogue) -> list[int]:
    return [sum(video.label == label for video in catalogue.train) for label in range(3)]


@pytest.mark.parametrize(
    ("fraction", "left"), [(0.25, [10, 2, 1]), (0.1, [4, 1, 1]), (0.001, [1, 1, 1]), (1, [40, 10, 1])]
)
def test_a_share_of_each_class_is_kept_and_at_least_one_video(fraction, left):
    taken = take_fraction(CATALOGUE, fraction, 0)
    assert per_class(taken) == left
    assert (taken.val, taken.test) == (CATALOGUE.val, CATALOGUE.test)
    assert taken.train == [video for video in TRAIN if video in taken.train]  # in their order


def test_a_larger_share_holds_the_smaller_of_the_same_seed():
    shares = [set(take_fraction(CATALOGUE, share / 20, 3).train) for share in range(1, 21)]
    assert all(smaller <= larger for smaller, larger in pairwise(shares))
    assert len(shares[0]) < len(shares[9]) < len(shares[19]) == 51


def test_the_choice_depends_on_the_seed_and_on_the_names_alone():
    first = take_fraction(CATALOGUE, 0.25, 0).train
    moved = replace(CATALOGUE, train=[Video(f"else/{video.path}", video.label) for video in reversed(TRAIN)])
    again = take_fraction(moved, 0.25, 0).train
    assert {video.path.removeprefix("else/") for video in again} == {video.path for video in first}
    assert take_fraction(CATALOGUE, 0.25, 1).train != first
    # In every process and on every machine: of `printf 0/run_N.mp4 | sha256sum`, those of 9 and 5 are the smallest.
    assert [video.path for video in first if video.label == 1] == ["root/run/run_5.mp4", "root/run/run_9.mp4"]


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, True, None, "half", float("nan")])
def test_a_share_that_is_not_above_0_and_up_to_1_is_an_error(fraction):
    with pytest.raises(ValueError, match=rf"data.fraction={fraction} is not a share"):
        take_fraction(CATALOGUE, fraction, 0)


@pytest.mark.parametrize("seed", [None, 0.5, "x"])
def test_a_seed_that_is_no_whole_number_is_an_error(seed):
    with pytest.raises(ValueError, match=rf"data.fraction_seed={seed} is not a whole number"):
        take_fraction(CATALOGUE, 0.5, seed)
