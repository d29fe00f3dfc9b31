"""Which frames and which pixels the views of a video hold."""

import pytest
import torch
from torch import Generator, Tensor, nn
from torchvision.transforms import v2

from tubelet.video.flips import LabelledFlip
from tubelet.video.sampling import Dense, FirstOfEachPart, FirstToLast, Segments
from tubelet.video.views import TestViews, TrainingView

DENSE = Dense(num_frames=4, stride=3, fps=None)


def views(resize: int, crop: int, num_crops: int, num_clips: int = 1) -> TestViews:
    return TestViews(DENSE, resize, crop, num_clips, num_crops, FirstToLast())


def training(augment: dict[str, nn.Module]) -> TrainingView:
    return TrainingView(DENSE, augment)


def shown(view: TrainingView, frames: Tensor) -> Tensor:
    """uint8 (T, C, H, W) -> uint8 (1, T, C, h, w)."""
    return view.transform(frames, 0)[0]


def coordinates(height: int, width: int, num_frames: int = 2) -> Tensor:
    """uint8 (T, 3, H, W) whose channels are the row, the column and the number of the frame."""
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = [torch.stack([down, across, torch.full_like(down, t)]) for t in range(num_frames)]
    return torch.stack(frames).to(torch.uint8)


def corners(shown: Tensor) -> list[tuple[int, int]]:
    """(V, T, C, h, w) of `coordinates` -> row and column of the first pixel of each view; checks all other pixels."""
    found = []
    for view in shown:
        top, left = int(view[0, 0, 0, 0]), int(view[0, 1, 0, 0])
        side = view.shape[-1]
        whole = coordinates(top + side, left + side, len(view))
        assert torch.equal(view, whole[:, :, top:, left:])
        found.append((top, left))
    return found


@pytest.mark.parametrize(
    ("height", "width", "num_crops", "expected"),
    [
        (6, 14, 1, [(1, 5)]),
        (6, 14, 3, [(1, 0), (1, 5), (1, 10)]),  # wide: along the width, in the middle of the height
        (14, 6, 1, [(5, 1)]),
        (14, 6, 3, [(0, 1), (5, 1), (10, 1)]),  # tall: along the height
        (6, 6, 1, [(1, 1)]),
        (6, 6, 3, [(1, 0), (1, 1), (1, 2)]),  # square: along the width, as in SlowFast
    ],
)
def test_crops_are_cut_at_these_corners(height: int, width: int, num_crops: int, expected: list[tuple[int, int]]):
    # The short side is already `resize` pixels long, so no pixel is resampled.
    shown = views(6, 4, num_crops).crops(coordinates(height, width))
    assert shown.shape == (num_crops, 2, 3, 4, 4)
    assert shown.dtype == torch.uint8
    assert corners(shown) == expected


def test_one_crop_is_the_middle_one_of_three():
    frames = coordinates(8, 20)
    assert torch.equal(views(8, 6, 1).crops(frames)[0], views(8, 6, 3).crops(frames)[1])


def test_a_middle_between_two_pixels_is_rounded_up_as_in_slowfast():
    # SlowFast's uniform_crop: ceil((side - crop) / 2).
    assert corners(views(7, 4, 3).crops(coordinates(7, 15))) == [(2, 0), (2, 6), (2, 11)]
    assert corners(views(7, 4, 1).crops(coordinates(7, 15))) == [(2, 6)]


def test_a_crop_as_large_as_the_short_side_takes_all_of_it():
    assert corners(views(5, 5, 3).crops(coordinates(5, 11))) == [(0, 0), (0, 3), (0, 6)]


def test_the_short_side_is_resized_and_the_long_side_keeps_its_proportion():
    # A ramp of 4 grey levels a column, halved: a step of 8 a pixel, where the edge is not in reach of the filter.
    ramp = (torch.arange(40) * 4).to(torch.uint8).expand(2, 3, 20, 40)
    left, middle, right = views(10, 10, 3).crops(ramp)[:, 0, 0, 0].int()  # (10,) each
    assert (left[2:].diff() == 8).all()
    assert (middle[2:] - left[2:] == 5 * 8).all()  # corners at columns 0, 5 and 10 of 20
    assert (right[:-2] - middle[:-2] == 5 * 8).all()


def test_test_views_sample_evenly_spread_clips_and_draw_nothing():
    # 20 frames, a clip of 4 frames with stride 3 spans 10: starts 0..10.
    generator = Generator().manual_seed(0)
    before = generator.get_state()
    clips = views(6, 4, 3, num_clips=3).sample(20, 25.0, generator)
    assert clips.tolist() == [[0, 3, 6, 9], [5, 8, 11, 14], [10, 13, 16, 19]]
    assert torch.equal(generator.get_state(), before)


def test_a_training_view_samples_one_random_clip_from_the_generator():
    clips = [training({}).sample(20, 25.0, Generator().manual_seed(seed)) for seed in range(100)]
    assert {clip.shape for clip in clips} == {(1, 4)}
    assert {tuple(clip[0].diff().tolist()) for clip in clips} == {(3, 3, 3)}
    assert {int(clip[0, 0]) for clip in clips} == set(range(11))  # each missed with probability (10 / 11) ** 100 < 1e-4


def test_views_sample_as_the_sampling_and_the_starts_that_they_are_given_say():
    generator = Generator().manual_seed(0)
    parts = TestViews(DENSE, 6, 4, num_clips=2, num_crops=1, starts=FirstOfEachPart())
    assert parts.sample(20, 25.0, generator).tolist() == [[0, 3, 6, 9], [5, 8, 11, 14]]
    segments = Segments(num_frames=4, stride=3, fps=None)
    test = TestViews(segments, 6, 4, num_clips=1, num_crops=1, starts=FirstToLast())
    assert test.sample(20, 25.0, generator).tolist() == [[2, 7, 12, 17]]
    (clip,) = TrainingView(segments, {}).sample(20, 25.0, generator)
    assert (clip // 5).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("num_crops", [0, 2, 5])
def test_a_number_of_crops_other_than_1_or_3_is_an_error(num_crops: int):
    with pytest.raises(ValueError, match=rf"views\.crops={num_crops} is not 1"):
        views(8, 6, num_crops)


@pytest.mark.parametrize("num_clips", [0, -1])
def test_fewer_than_one_clip_is_an_error(num_clips: int):
    with pytest.raises(ValueError, match=rf"views\.clips={num_clips} is not a positive number"):
        views(8, 6, 1, num_clips)


def test_a_crop_larger_than_the_short_side_is_an_error():
    with pytest.raises(ValueError, match=r"clip\.crop=9 is larger than clip\.resize=8"):
        views(8, 9, 1)


def test_a_training_view_draws_one_crop_and_one_flip_for_all_frames():
    frames = coordinates(12, 20)[:1].expand(5, 3, 12, 20)
    augment = training({"crop": v2.RandomCrop(7), "flip": v2.RandomHorizontalFlip()})
    torch.manual_seed(0)
    drawn = [shown(augment, frames) for _ in range(40)]
    places = set()
    for view in drawn:
        assert view.shape == (1, 5, 3, 7, 7)
        assert view.dtype == torch.uint8
        assert (view[0] == view[0, 0]).all()  # the same pixels in every frame
        places.add(
            (int(view[0, 0, 0, 0, 0]), int(view[0, 0, 1].min()), bool(view[0, 0, 1, 0, 0] > view[0, 0, 1, 0, 6]))
        )
    assert len(places) > 20  # of 6 * 14 * 2, drawn anew for every clip
    assert {flipped for _, _, flipped in places} == {True, False}


def test_a_training_view_draws_the_resized_crop_once_for_all_frames():
    frames = coordinates(24, 40)[:1].expand(4, 3, 24, 40)
    torch.manual_seed(0)
    view = shown(training({"crop": v2.RandomResizedCrop(9, antialias=True)}), frames)
    assert view.shape == (1, 4, 3, 9, 9)
    assert (view[0] == view[0, 0]).all()


class Times(nn.Module):
    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, frames: Tensor) -> Tensor:
        return frames * self.factor


class Plus(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames + 1


def test_a_training_view_applies_its_transforms_in_the_order_of_the_config():
    frames = torch.full((2, 3, 4, 5), 10, dtype=torch.uint8)
    assert (shown(training({"double": Times(2), "plus": Plus()}), frames) == 21).all()
    assert (shown(training({"plus": Plus(), "double": Times(2)}), frames) == 22).all()


def test_no_transforms_leave_the_frames_as_they_are():
    frames = coordinates(4, 5)
    assert torch.equal(shown(training({}), frames), frames[None])


def test_repeats_are_views_of_one_clip_each_with_draws_of_its_own():
    frames = coordinates(20, 30)
    torch.manual_seed(0)
    views, labels = TrainingView(DENSE, {"crop": v2.RandomCrop(7)}, repeats=3).transform(frames, 5)
    assert views.shape == (3, 2, 3, 7, 7)
    assert labels == [5, 5, 5]
    assert len(set(corners(views))) == 3
    torch.manual_seed(0)
    once = shown(training({"crop": v2.RandomCrop(7)}), frames)
    assert torch.equal(views[:1], once)


def test_each_repeat_has_the_label_of_its_own_flip():
    frames = coordinates(6, 8)
    view = TrainingView(DENSE, {"flip": LabelledFlip(0.5, {1: 2, 2: 1})}, repeats=30)
    torch.manual_seed(0)
    views, labels = view.transform(frames, 1)
    assert labels == [2 if torch.equal(one, frames.flip(3)) else 1 for one in views]
    assert {1, 2} == set(labels)


def test_test_views_keep_the_label():
    crops, labels = views(6, 4, 3).transform(coordinates(6, 14), 2)
    assert labels == [2, 2, 2]
    assert torch.equal(crops, views(6, 4, 3).crops(coordinates(6, 14)))


@pytest.mark.parametrize("repeats", [0, -1, 1.5])
def test_repeats_that_are_no_number_of_clips_are_refused(repeats: float):
    with pytest.raises(ValueError, match=f"data.repeats={repeats} is not a whole number of at least 1"):
        TrainingView(DENSE, {}, repeats)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            v2.ToDtype(torch.float32, scale=True),
            r"augment.mine gives torch.float32 of shape .*; a transform of a clip gives",
        ),
        (
            v2.Normalize([0.5] * 3, [0.2] * 3),
            r"augment.mine, of clips in uint8 \(T, C, H, W\): Input tensor should be a float",
        ),
        (v2.RandomCrop(64), r"augment.mine, of clips in uint8 \(T, C, H, W\): Required crop size \(64, 64\) is larger"),
        (v2.Lambda(lambda frames: frames[0]), r"augment.mine gives torch.uint8 of shape \(3, 6, 8\)"),
    ],
)
def test_a_transform_that_does_not_fit_is_named(transform: nn.Module, message: str):
    with pytest.raises(ValueError, match=message):
        training({"mine": transform}).transform(coordinates(6, 8), 0)
