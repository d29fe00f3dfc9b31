"""What normalisation gives, and when a horizontal flip would make a label untrue."""

import logging

import pytest
import torch
from torchvision.transforms import v2

from tubelet.video.transforms import Normalise, without_untrue_flips


def test_normalise_by_hand():
    # Channel by channel: (p / 255 - mean) / std. float32 keeps about 7 digits, hence the tolerance.
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(2, 3, 4, 5, 3)  # (B, C, T, H, W)
    shown = Normalise(mean=[0.5, 0.0, 0.2], std=[0.25, 1.0, 0.5])(video)
    assert shown.shape == video.shape
    assert shown.dtype == torch.float32
    expected = torch.tensor([[-2.0, -1.2, 2.0], [0.0, 0.2, 1.0], [-0.4, 0.0, 1.6]])  # (C, W)
    torch.testing.assert_close(shown, expected[None, :, None, None].expand(2, 3, 4, 5, 3), rtol=1e-6, atol=1e-6)


def test_normalise_takes_a_clip_without_a_batch_and_adds_nothing_to_a_checkpoint():
    normalise = Normalise([0.45, 0.45, 0.45], [0.225, 0.225, 0.225])
    video = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalise(video[1]), normalise(video)[1])
    assert normalise.state_dict() == {}


SIDED = [
    "moves_right",
    "moves_left",
    "Turning the camera left while filming something",
    "Pushing something from left to right",
    "turns_clockwise",
    "turns_counterclockwise",
    "Turning Hand Counter-Clockwise",
    "anticlockwise",
    "Swiping Left",
    "left-hand",
    "RIGHT",
]
UNSIDED = [
    "leftovers",
    "bright",
    "cooking leftovers",
    "frightened",
    "upright",
    "cleft",
    "moves_up",
    "clockwork",
    "grows",
]


@pytest.mark.parametrize(
    "name",
    [*SIDED, "SwipeLeft", "turnRight2", "leftwards", "rightward"],
)
def test_a_class_name_that_speaks_of_a_side_turns_flips_off(name: str, caplog: pytest.LogCaptureFixture):
    augment = {"crop": v2.CenterCrop(4), "flip": v2.RandomHorizontalFlip(), "gray": v2.Grayscale()}
    with caplog.at_level(logging.INFO):
        kept = without_untrue_flips(augment, ["jumps", name])
    assert list(kept) == ["crop", "gray"]
    assert kept["crop"] is augment["crop"]
    assert name in caplog.text


@pytest.mark.parametrize("name", UNSIDED)
def test_a_class_name_that_only_contains_such_letters_keeps_flips(name: str):
    augment = {"flip": v2.RandomHorizontalFlip(), "crop": v2.CenterCrop(4)}
    kept = without_untrue_flips(augment, ["jumps", name])
    assert list(kept.items()) == list(augment.items())


def test_vertical_flips_stay():
    augment = {"upside_down": v2.RandomVerticalFlip()}
    assert without_untrue_flips(augment, ["moves_left"]) == augment
