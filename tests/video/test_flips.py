"""When a horizontal flip would make a label untrue, and which label makes it true again."""

import logging

import pytest
import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

from tubelet.video.flips import LabelledFlip, flip_twins, with_true_labels
from tubelet.video.motion import CLASSES

FRAMES = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)  # (T, C, H, W)
PAIRS = [
    ("moves_right", "moves_left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
    ("turns clockwise", "turns anti-clockwise"),
    ("spin_counter_clockwise", "spin_clockwise"),
    ("SwipeLeft", "SwipeRight"),
    ("TurnCounterClockwise", "TurnClockwise"),
    ("leftwards", "rightwards"),
    ("turnRight2", "turnLeft2"),
    ("LEFT", "right"),
]
UNSIDED = [
    *("leftovers", "bright", "cooking leftovers", "frightened", "upright", "cleft", "moves_up", "clockwork", "grows"),
    "Plugging something into something but pulling it right out as you remove your hand",
    "gets up right after falling",
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_that_differ_in_their_sides_are_twins(one: str, other: str):
    assert flip_twins(["jumps", one, "runs", other]) == ({1: 3, 3: 1}, [])


@pytest.mark.parametrize("name", [name for pair in PAIRS for name in pair])
def test_a_name_that_speaks_of_a_side_without_a_twin_is_told(name: str):
    assert flip_twins(["jumps", name]) == ({}, [name])


def test_a_class_that_is_its_own_mirror_image_by_its_words_is_not_taken_for_its_own_twin():
    assert flip_twins(["left, right", "right, left"]) == ({0: 1, 1: 0}, [])
    assert flip_twins(["goes left or right"]) == ({}, ["goes left or right"])


@pytest.mark.parametrize("name", UNSIDED)
def test_a_name_that_only_contains_such_letters_or_words_is_not_sided(name: str):
    assert flip_twins(["jumps", name]) == ({}, [])


def test_of_motion_only_the_pair_that_moves_sideways_is_mirrored():
    assert flip_twins(CLASSES) == ({0: 1, 1: 0}, [])
    assert CLASSES[:2] == ["moves_right", "moves_left"]


def test_a_flip_swaps_the_label_with_its_twin_and_only_then():
    flip = LabelledFlip(0.5, {1: 2, 2: 1})
    torch.manual_seed(0)
    drawn = [flip(FRAMES, label) for label in [0, 1, 2] * 20]
    flipped = [torch.equal(frames, FRAMES.flip(3)) for frames, _ in drawn]
    assert all(turned or torch.equal(frames, FRAMES) for turned, (frames, _) in zip(flipped, drawn, strict=True))
    mirrored = {0: 0, 1: 2, 2: 1}
    expected = [mirrored[label] if turned else label for turned, label in zip(flipped, [0, 1, 2] * 20, strict=True)]
    assert [label for _, label in drawn] == expected
    assert 15 < sum(flipped) < 45


@pytest.mark.parametrize(("p", "turned"), [(0.0, False), (1.0, True)])
def test_p_is_the_probability_of_a_flip(p: float, turned: bool):
    for _ in range(20):
        frames, label = LabelledFlip(p, {0: 3})(FRAMES, 0)
        assert torch.equal(frames, FRAMES.flip(3) if turned else FRAMES)
        assert label == (3 if turned else 0)


def test_a_flip_of_torchvision_is_given_the_labels_and_stays_in_its_place(caplog: pytest.LogCaptureFixture):
    augment = {"crop": v2.CenterCrop(4), "flip": v2.RandomHorizontalFlip(0.3), "gray": v2.Grayscale()}
    with caplog.at_level(logging.INFO):
        kept = with_true_labels(augment, ["jumps", "moves_left", "moves_right"])
    assert list(kept) == ["crop", "flip", "gray"]
    assert (kept["crop"], kept["gray"]) == (augment["crop"], augment["gray"])
    assert (kept["flip"].p, kept["flip"].twins) == (0.3, {1: 2, 2: 1})
    assert caplog.messages == ["flip: swaps the labels of moves_left <-> moves_right"]


def test_a_class_without_a_twin_turns_flips_off_and_is_named(caplog: pytest.LogCaptureFixture):
    augment = {"crop": v2.CenterCrop(4), "flip": v2.RandomHorizontalFlip(), "gray": v2.Grayscale()}
    kept = with_true_labels(augment, ["jumps", "moves_left", "moves_right", "left-hand"])
    assert list(kept.items()) == [("crop", augment["crop"]), ("gray", augment["gray"])]
    assert caplog.messages == ["flip: off, since flipped videos of these classes have none: 'left-hand'"]


def test_classes_without_sides_are_flipped_and_nothing_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        kept = with_true_labels({"flip": v2.RandomHorizontalFlip(1.0)}, ["jumps", "upright"])
    frames, label = kept["flip"](FRAMES, 1)
    assert torch.equal(frames, FRAMES.flip(3))
    assert label == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    "hidden",
    [
        v2.RandomApply([v2.RandomHorizontalFlip()]),
        v2.Compose([v2.CenterCrop(4), v2.RandomHorizontalFlip()]),
        v2.RandomChoice([v2.Identity(), v2.Compose([v2.RandomHorizontalFlip()])]),
        nn.Sequential(nn.Identity(), v2.RandomHorizontalFlip()),
    ],
)
def test_a_flip_within_another_transform_is_refused_where_a_class_is_sided(hidden: nn.Module):
    with pytest.raises(ValueError, match=r"augment.mine flips videos, .* a class is named 'moves_left'"):
        with_true_labels({"mine": hidden}, ["moves_left", "moves_right"])
    assert with_true_labels({"mine": hidden}, ["jumps", "runs"]) == {"mine": hidden}


@pytest.mark.parametrize("name", ["moves_up", "Turning Hand Clockwise", "Picking something up", "Sliding Down"])
def test_videos_of_classes_with_an_up_and_a_down_are_not_turned_upside_down(name: str):
    for flip in (v2.RandomVerticalFlip(0.1), transforms.RandomVerticalFlip(0.1)):
        with pytest.raises(
            ValueError, match=f"augment.over turns videos upside down, of which '{name}' stops being true"
        ):
            with_true_labels({"over": flip}, ["jumps", name])


@pytest.mark.parametrize("turn", [v2.RandomRotation([180, 180]), v2.RandomAffine(100), transforms.RandomRotation(91)])
def test_turns_by_more_than_a_right_angle_are_refused_where_a_class_has_a_side(turn: nn.Module):
    for name in ("moves_left", "moves_up"):
        with pytest.raises(ValueError, match=f"augment.turn turns videos by more than 90 degrees, of which '{name}'"):
            with_true_labels({"turn": turn}, ["jumps", name])
    assert with_true_labels({"turn": turn}, ["jumps", "runs"]) == {"turn": turn}
    assert list(with_true_labels({"turn": v2.RandomRotation(30)}, ["jumps", "moves_up"])) == ["turn"]


def test_vertical_flips_stay_where_no_class_has_an_up_or_a_down():
    augment = {"upside_down": v2.RandomVerticalFlip()}
    assert with_true_labels(augment, ["moves_left", "moves_right", "erupts"]) == augment


def test_the_older_flip_of_torchvision_is_given_the_labels_too():
    kept = with_true_labels({"flip": transforms.RandomHorizontalFlip(1.0)}, ["moves_left", "moves_right"])
    assert kept["flip"](FRAMES, 0)[1] == 1
    hidden = transforms.RandomApply([transforms.RandomHorizontalFlip()])
    with pytest.raises(ValueError, match=r"augment.mine flips videos"):
        with_true_labels({"mine": hidden}, ["moves_left", "moves_right"])


def test_names_that_are_spelled_alike_are_nobodys_twins():
    assert flip_twins(["moves left", "Moves_Left", "moves right"]) == ({}, ["moves left", "Moves_Left", "moves right"])
