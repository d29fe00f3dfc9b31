"""The order of the videos: every one in its turn, the same videos in a step whatever the number of ranks."""

from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.video.order import Draw, EvaluationOrder, TrainingOrder

repeatable = settings(deadline=None, derandomize=True)


def training_indices(
    num_videos: int, step: int, rank: int = 0, world_size: int = 1, seed: int = 0, epoch: int = 0
) -> list:
    order = TrainingOrder(num_videos, seed, step, rank, world_size)
    order.set_epoch(epoch)
    draws = list(order)
    assert len(order) == len(draws)
    assert all(draw.epoch == epoch for draw in draws)
    return [draw.video for draw in draws]


@repeatable
@given(num_videos=st.integers(1, 200), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation_of_all_videos(num_videos: int, seed: int, epoch: int):
    assert sorted(training_indices(num_videos, 1, seed=seed, epoch=epoch)) == list(range(num_videos))


@repeatable
@given(
    num_videos=st.integers(1, 200),
    batch=st.integers(1, 5),
    accumulated=st.integers(1, 3),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_a_step_of_all_ranks_holds_the_videos_of_the_same_step_of_one_rank(
    num_videos: int, batch: int, accumulated: int, world_size: int, epoch: int
):
    of_rank = batch * accumulated  # videos of one rank in one optimiser step
    step = of_rank * world_size
    alone = training_indices(num_videos, step, epoch=epoch)
    ranks = [training_indices(num_videos, step, rank, world_size, epoch=epoch) for rank in range(world_size)]
    assert len(alone) == num_videos // step * step
    for k in range(num_videos // step):
        together = list(chain.from_iterable(rank[k * of_rank : (k + 1) * of_rank] for rank in ranks))
        assert len(together) == step
        assert set(together) == set(alone[k * step : (k + 1) * step])
    assert {len(rank) for rank in ranks} == {num_videos // step * of_rank}


def test_two_ranks_share_ten_videos_in_steps_of_four_by_turns():
    alone = training_indices(10, 4, seed=3, epoch=2)
    assert len(alone) == 8  # two whole steps; two videos wait for another epoch
    assert training_indices(10, 4, rank=0, world_size=2, seed=3, epoch=2) == alone[0::2]
    assert training_indices(10, 4, rank=1, world_size=2, seed=3, epoch=2) == alone[1::2]


def test_the_videos_left_over_are_others_in_another_epoch():
    left = {frozenset(range(10)) - frozenset(training_indices(10, 4, epoch=epoch)) for epoch in range(20)}
    assert all(len(pair) == 2 for pair in left)
    assert frozenset().union(*left) == frozenset(range(10))


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    first = training_indices(50, 1, seed=1, epoch=4)
    assert training_indices(50, 1, seed=1, epoch=4) == first
    others = [training_indices(50, 1, seed=seed, epoch=epoch) for seed, epoch in ((1, 5), (2, 4), (4, 1), (0, 5))]
    assert all(other != first for other in others)
    assert len({tuple(other) for other in others}) == 4


def test_fewer_videos_than_one_step_give_an_empty_epoch():
    assert training_indices(3, 4) == []


def test_fifteen_videos_on_two_ranks_are_each_evaluated_once():
    ranks = [EvaluationOrder(15, rank, 2) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [8, 7]
    assert list(ranks[0]) == [Draw(0, index) for index in (0, 2, 4, 6, 8, 10, 12, 14)]
    assert list(ranks[1]) == [Draw(0, index) for index in (1, 3, 5, 7, 9, 11, 13)]


@repeatable
@given(num_videos=st.integers(0, 100), world_size=st.integers(1, 9))
def test_evaluation_covers_every_video_exactly_once_at_any_number_of_ranks(num_videos: int, world_size: int):
    ranks = [EvaluationOrder(num_videos, rank, world_size) for rank in range(world_size)]
    draws = list(chain.from_iterable(ranks))
    assert sorted(draws) == [Draw(0, index) for index in range(num_videos)]
    assert sum(len(rank) for rank in ranks) == num_videos
