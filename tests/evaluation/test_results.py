"""Figures by hand, on five videos of three classes: 0 and 1 are twins, 2 is its own."""

import csv

import pytest
import torch

from tubelet.evaluation.results import Answers, Results
from tubelet.video.annotations import Video

PROBABILITIES = torch.tensor(
    [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]], dtype=torch.float64
)
LABEL = torch.tensor([0, 0, 1, 2, 1])
NAMES = ["there", "back", "still"]


def results(failed=(False,) * 5, twins=None):
    videos = [Video(f"{i}.mp4", label) for i, label in enumerate(LABEL.tolist())]
    failures = [f"{i}.mp4: cannot open" for i, f in enumerate(failed) if f]
    return Results(videos, NAMES, LABEL, torch.tensor(failed), PROBABILITIES, twins or {}, failures)


def test_top_k_counts_videos_whose_label_is_among_the_k_most_probable():
    assert results().top(1) == pytest.approx(2 / 5)  # videos 0 and 3
    assert results().top(2) == pytest.approx(5 / 5)  # each label is first or second everywhere
    assert results().top(5) == 1.0  # of three classes, all


def test_a_video_that_could_not_be_read_counts_as_wrong_in_every_figure():
    broken = results(failed=(True, False, False, False, False))
    assert broken.top(1) == pytest.approx(1 / 5)
    assert broken.top(3) == pytest.approx(4 / 5)
    assert broken.predicted.tolist() == [-1, 1, 0, 2, 2]
    assert broken.metrics()["failures"] == 1
    assert broken.per_class()["there"] == {"videos": 2, "top1": 0.0}


def test_per_class_figures_are_the_share_of_each_class():
    assert results().per_class() == {
        "there": {"videos": 2, "top1": 0.5},
        "back": {"videos": 2, "top1": 0.0},
        "still": {"videos": 1, "top1": 1.0},
    }


def test_a_class_whose_twin_was_not_taken_is_answered_by_no_twin():
    # own class: 0 and 3; twin: 1 and 2; class 2, of video 3, has no twin
    figures = results(twins={0: 1, 1: 0}).twin_figures()
    assert figures == pytest.approx({"within_twins": 2 / 4, "answered_twin": 2 / 5})


def test_within_twins_is_the_share_of_own_class_among_answers_with_it_or_its_twin():
    figures = results(twins={0: 1, 1: 0, 2: 2}).twin_figures()
    # own class: 0, 3; twin: 1 and 2, and 3 again, since class 2 is its own twin
    assert figures == pytest.approx({"within_twins": 2 / 5, "answered_twin": 3 / 5})


def test_equal_probabilities_are_ranked_by_class_number_in_every_figure(tmp_path):
    same = torch.full((1, 3), 1 / 3)
    for label, right in ((0, 1.0), (1, 0.0)):
        tied = Results([Video("a.mp4", label)], NAMES, torch.tensor([label]), torch.tensor([False]), same)
        assert tied.top(1) == right
        assert tied.predicted.tolist() == [0]
        tied.write_predictions(str(tmp_path / "p.csv"))
        assert f"a.mp4,{NAMES[label]},there,{int(right)}" in (tmp_path / "p.csv").read_text()


def test_answers_that_are_not_numbers_are_an_error():
    broken = torch.full((1, 3), float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        Results([Video("a.mp4", 0)], NAMES, torch.tensor([0]), torch.tensor([False]), broken)


def test_predictions_hold_one_row_a_video_and_no_answer_for_a_failed_one(tmp_path):
    results(failed=(False, True, False, False, False)).write_predictions(str(tmp_path / "p.csv"))
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    first = {"video": "0.mp4", "label": "there", "predicted": "there", "correct": "1"}
    assert rows[0] == first | {"probability": "0.600000", "top5": "there|back|still"}
    failed = {"video": "1.mp4", "label": "there", "predicted": "", "correct": "0"}
    assert rows[1] == failed | {"probability": "", "top5": ""}
    assert [row["correct"] for row in rows] == ["1", "0", "0", "1", "0"]


def test_answers_come_back_in_the_order_of_the_index_however_they_were_batched():
    answers = Answers()
    for chosen in ([3, 1], [4], [0, 2]):
        index = torch.tensor(chosen)
        answers.update(index, LABEL[index], torch.zeros(len(chosen), dtype=torch.bool), PROBABILITIES[index])
    index, label, failed, probabilities = answers.compute()
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert label.equal(LABEL)
    assert not failed.any()
    assert probabilities.equal(PROBABILITIES)


def test_a_video_that_is_evaluated_twice_is_an_error():
    answers = Answers()
    for _ in range(2):
        answers.update(torch.tensor([1]), torch.tensor([0]), torch.tensor([False]), PROBABILITIES[:1])
    with pytest.raises(RuntimeError, match="evaluated twice"):
        answers.compute()
