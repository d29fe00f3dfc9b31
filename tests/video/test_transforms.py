"""What normalisation and scale jitter give."""

from collections import Counter

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from tubelet.video.transforms import Normalise, ShortSideJitter


def test_normalise_by_hand():
    # Channel by channel: (p / 255 - mean) / std. float32 keeps about 7 digits, hence the tolerance.
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(2, 3, 4, 5, 3)  # (B, C, T, H, W)
    shown = Normalise(mean=[0.5, 0.0, 0.2], std=[0.25, 1.0, 0.5])(video)
    assert shown.shape == video.shape
    assert shown.dtype == torch.float32
    expected = torch.tensor([[-2.0, -1.2, 2.0], [0.0, 0.2, 1.0], [-0.4, 0.0, 1.6]])  # (C, W)
    torch.testing.assert_close(shown, expected[None, :, None, None].expand(2, 3, 4, 5, 3), rtol=1e-6, atol=1e-6)


def test_normalisation_is_undone_by_hand_and_cut_off_at_0_and_255():
    shown = torch.tensor([-2.0, -1.2, 2.0, 9.0, -9.0]).expand(2, 1, 4, 3, 5)  # (B, C, T, H, W)
    pixels = Normalise(mean=[0.5], std=[0.25]).undone(shown)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.tensor([0, 51, 255, 255, 0], dtype=torch.uint8).expand(2, 1, 4, 3, 5))


def test_normalising_leaves_the_video_that_it_is_given_as_it_is():
    video = torch.full((2, 3, 4, 5, 6), 7.0)
    Normalise([0.5, 0.4, 0.3], [0.2, 0.3, 0.1])(video)
    assert video.equal(torch.full((2, 3, 4, 5, 6), 7.0))


def test_normalise_takes_a_clip_without_a_batch_and_adds_nothing_to_a_checkpoint():
    normalise = Normalise([0.45, 0.45, 0.45], [0.225, 0.225, 0.225])
    video = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalise(video[1]), normalise(video)[1])
    assert normalise.state_dict() == {}


def test_scale_jitter_draws_each_length_of_the_short_side_equally_often():
    jitter = ShortSideJitter(20, [1.0, 1.25])
    frames = torch.zeros(1, 3, 16, 32, dtype=torch.uint8)  # (T, C, H, W)
    torch.manual_seed(0)
    sides = Counter(jitter(frames).shape[-2:] for _ in range(600))
    assert set(sides) == {(side, 2 * side) for side in range(20, 26)}
    assert all(60 < number < 140 for number in sides.values())  # 100 +- 9


def test_scale_jitter_resizes_as_torchvision_does_all_frames_alike():
    frames = torch.randint(0, 256, (3, 3, 17, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shown = ShortSideJitter(10, [0.8, 0.8])(frames)
    assert torch.equal(shown, F.resize(frames, [8], antialias=True))


def test_an_inverse_draw_takes_short_sides_more_often():
    # 1 / side is uniform: of sides from 20 to 40 half are below 1 / (mean of 1/20 and 1/40) = 26.7.
    jitter = ShortSideJitter(20, [1.0, 2.0], inverse=True)
    frames = torch.zeros(1, 3, 16, 32, dtype=torch.uint8)
    torch.manual_seed(0)
    sides = torch.tensor([jitter(frames).shape[-2] for _ in range(1000)])
    assert (int(sides.min()), int(sides.max())) == (20, 40)
    assert 430 < int((sides <= 26).sum()) < 530  # 1/26.5 is the 0.491 quantile from the end of 1/20: 491 +- 16


@pytest.mark.parametrize("scale", [[1.25, 1.0], [0.0, 1.0], [1.0], [1.0, 1.1, 1.2]])
def test_scales_that_are_no_range_are_refused(scale: list[float]):
    with pytest.raises(ValueError, match="is not two positive numbers, the smaller first"):
        ShortSideJitter(10, scale)
