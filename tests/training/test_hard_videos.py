"""Which wrong answers are shown at the end of a run, and how."""

import torch

from tubelet.evaluation.results import Results
from tubelet.training.hard_videos import confused, hardest, visible
from tubelet.video.annotations import Video

NAMES = ["up", "down", "left"]


def answered(*videos):
    """(label, probabilities) of each; None for one that could not be read."""
    labels, answers = zip(*videos, strict=True)
    return Results(
        videos=[Video(f"{i}.mp4", label) for i, label in enumerate(labels)],
        classes=NAMES,
        label=torch.tensor(labels),
        failed=torch.tensor([answer is None for answer in answers]),
        probabilities=torch.tensor([answer or (1.0, 0.0, 0.0) for answer in answers]),
    )


RESULTS = answered(
    (0, (0.2, 0.5, 0.3)),
    (0, (0.9, 0.1, 0.0)),  # right
    (1, None),
    (0, (0.1, 0.8, 0.1)),
    (2, (0.6, 0.1, 0.3)),
    (1, (0.4, 0.3, 0.3)),
    (0, (0.1, 0.2, 0.7)),
)


def test_the_hardest_are_wrong_answers_that_were_read_the_most_probable_first():
    assert hardest(RESULTS, 9) == [3, 6, 4, 0, 5]
    assert hardest(RESULTS, 2) == [3, 6]
    assert hardest(RESULTS, 0) == []


def test_confused_pairs_are_counted_with_their_share_of_the_labels_videos():
    pairs = confused(RESULTS, 9)
    assert pairs[0] == ["up", "down", 2, 2 / 4]
    assert sorted(pairs[1:]) == [["down", "up", 1, 1 / 2], ["left", "up", 1, 1.0], ["up", "left", 1, 1 / 4]]
    assert confused(RESULTS, 1) == pairs[:1]


def test_of_right_answers_alone_nothing_is_hard_or_confused():
    right = answered((1, (0.1, 0.8, 0.1)), (2, (0.0, 0.0, 1.0)))
    assert (hardest(right, 5), confused(right, 5)) == ([], [])


def test_small_frames_are_enlarged_in_whole_numbers_and_sides_are_even():
    clip = torch.arange(3 * 2 * 31 * 33).reshape(3, 2, 31, 33).remainder(251).to(torch.uint8)
    shown = visible(clip)
    assert shown.shape == (2, 4 * 31, 4 * 33, 3)  # 31 * 4 is the first of at least 96
    assert shown[1, 9, 13].equal(clip[:, 1, 9 // 4, 13 // 4])
    assert visible(torch.zeros(3, 5, 97, 131, dtype=torch.uint8)).shape == (5, 96, 130, 3)
