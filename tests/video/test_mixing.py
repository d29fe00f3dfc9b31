"""Erasing and mixing of batches, by hand and against torchvision and timm."""

import pytest
import torch
from timm.data.mixup import mixup_target
from torch import Tensor
from torchvision.transforms import v2

from tubelet.video.mixing import Mix, RandomErasing

N, K = 3, 5
SHOWN = torch.eye(K)[[4, 0, 2]]  # (N, K)


def flat(values: list[float], height: int = 6, width: int = 8) -> Tensor:
    """(N, C, T, H, W) of one value a clip."""
    return torch.tensor(values).view(-1, 1, 1, 1, 1).expand(-1, 3, 2, height, width).clone()


def test_mixup_blends_each_clip_with_the_one_before_and_tells_the_shares():
    torch.manual_seed(0)
    mixed, shown = Mix(mixup=0.8, cutmix=0.0)(flat([10.0, 20.0, 40.0]), SHOWN)
    share = shown[0, 4].item()
    assert 0 < share < 1
    expected = flat([10 * share + 40 * (1 - share), 20 * share + 10 * (1 - share), 40 * share + 20 * (1 - share)])
    torch.testing.assert_close(mixed, expected)
    by_hand = torch.zeros(N, K)
    by_hand[0, 4], by_hand[0, 2] = share, 1 - share
    by_hand[1, 0], by_hand[1, 4] = share, 1 - share
    by_hand[2, 2], by_hand[2, 0] = share, 1 - share
    torch.testing.assert_close(shown, by_hand)


def test_cutmix_pastes_one_box_into_all_frames_and_tells_its_area():
    torch.manual_seed(1)
    mixed, shown = Mix(mixup=0.0, cutmix=1.0)(flat([10.0, 20.0, 40.0]), SHOWN)
    pasted = mixed[0] == 40.0  # (C, T, H, W)
    assert torch.equal(pasted, pasted[:1, :1].expand_as(pasted))  # the same in all channels and frames
    rows, columns = pasted[0, 0].any(1), pasted[0, 0].any(0)
    assert torch.equal(pasted[0, 0], rows[:, None] & columns)  # a box
    area = int(pasted[0, 0].sum()) / (6 * 8)
    assert 0 < area < 1
    torch.testing.assert_close(shown[0], torch.tensor([0, 0, area, 0, 1 - area]))
    assert torch.equal(mixed[0] == 10.0, ~pasted)
    assert torch.equal(mixed[1] == 10.0, pasted)
    assert torch.equal(mixed[2] == 20.0, pasted)


def test_mixing_equals_torchvisions_on_single_frames():
    clips = torch.randn(N, 3, 1, 6, 8)
    labels = torch.tensor([4, 0, 2])
    for ours, theirs in [
        (Mix(0.8, 0.0), v2.MixUp(alpha=0.8, num_classes=K)),
        (Mix(0.0, 1.0), v2.CutMix(alpha=1.0, num_classes=K)),
    ]:
        torch.manual_seed(7)
        torch.rand(2)  # whether to mix, and how
        frames, shares = theirs(clips[:, :, 0], labels)
        torch.manual_seed(7)
        mixed, shown = ours(clips, SHOWN)
        torch.testing.assert_close(mixed[:, :, 0], frames)
        torch.testing.assert_close(shown, shares)


def test_shares_with_label_smoothing_are_those_of_timm():
    # The loss smooths what is shown; timm smooths before it mixes, each clip with the one from the other end.
    share, smoothing = 0.3, 0.1
    theirs = mixup_target(torch.tensor([4, 2]), K, share, smoothing)
    ours = share * torch.eye(K)[[4, 2]] + (1 - share) * torch.eye(K)[[2, 4]]
    torch.testing.assert_close((1 - smoothing) * ours + smoothing / K, theirs)
    logits = torch.randn(2, K)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, ours)
    torch.testing.assert_close(loss, -(theirs * logits.log_softmax(-1)).sum(-1).mean())


def test_both_are_drawn_with_the_probability_of_the_switch():
    mix = Mix(mixup=0.8, cutmix=1.0, p=1.0, switch=0.25)
    torch.manual_seed(0)
    clips = flat([1.0, 2.0, 4.0])
    cut = sum(set(mix(clips, SHOWN)[0].unique().tolist()) <= {1.0, 2.0, 4.0} for _ in range(200))
    assert 30 < cut < 75  # 50 +- 6, and a mixup of nothing now and then


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_a_batch_is_left_alone_with_probability_1_minus_p(p: float):
    torch.manual_seed(0)
    mix, clips = Mix(mixup=0.8, cutmix=0.0, p=p), flat([1.0, 2.0, 4.0])
    mixed = sum(not torch.equal(mix(clips, SHOWN)[0], clips) for _ in range(200))
    assert mixed == 0 if p == 0 else 30 < mixed < 75


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixup": 0.0, "cutmix": 0.0}, "mixup=0.0 cutmix=0.0 are not two numbers of at least 0"),
        ({"mixup": -0.1, "cutmix": 1.0}, "mixup=-0.1 cutmix=1.0 are not"),
        ({"mixup": 0.1, "cutmix": 1.0, "p": 1.5}, "p=1.5 is not a probability"),
        ({"mixup": 0.1, "cutmix": 1.0, "switch": -1}, "switch=-1 is not a probability"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Mix(**values)


def test_erasing_puts_noise_into_one_rectangle_the_same_in_all_frames():
    torch.manual_seed(0)
    for _ in range(30):
        clips = torch.full((1, 3, 4, 40, 50), 9.0)
        erased, shown = RandomErasing(1.0, (0.02, 0.3333), (0.3, 3.3333))(clips, SHOWN[:1])
        hole = erased[0] != 9.0  # (C, T, H, W)
        assert torch.equal(hole, hole[:1, :1].expand_as(hole))
        rows, columns = hole[0, 0].any(1), hole[0, 0].any(0)
        assert torch.equal(hole[0, 0], rows[:, None] & columns)
        height, width = int(rows.sum()), int(columns.sum())
        # Both limits, loosened by the rounding of sides to whole pixels.
        assert (height + 0.5) * (width + 0.5) >= 0.02 * 2000
        assert (height - 0.5) * (width - 0.5) <= 0.3333 * 2000
        assert (height + 0.5) / (width - 0.5) >= 0.3
        assert (height - 0.5) / (width + 0.5) <= 3.3333
        noise = erased[0][hole]
        assert abs(noise.mean()) < 5 / len(noise) ** 0.5
        assert len(noise.unique()) > 0.99 * len(noise)  # fresh in each frame
        assert torch.equal(shown, SHOWN[:1])


def test_each_clip_is_erased_by_itself_with_probability_p():
    torch.manual_seed(0)
    clips = torch.zeros(400, 1, 2, 10, 12)
    holes = RandomErasing(0.25, (0.02, 0.3333), (0.3, 3.3333))(clips, torch.ones(400, 1))[0][:, 0, 0] != 0  # (N, H, W)
    erased = holes.flatten(1).any(1)
    assert 70 < int(erased.sum()) < 130  # 100 +- 9
    assert len(holes[erased].unique(dim=0)) > 50


def test_the_rectangle_is_the_one_that_torchvision_draws():
    clip = torch.zeros(1, 3, 1, 20, 30)
    torch.manual_seed(3)
    torch.randint(2**62, ())  # for the noise
    torch.rand(1)  # whether to erase
    theirs = v2.RandomErasing(1.0, (0.1, 0.3), (0.5, 2.0), value=0.0).make_params([clip[0, :, 0]])
    torch.manual_seed(3)
    hole = RandomErasing(1.0, (0.1, 0.3), (0.5, 2.0))(clip, SHOWN[:1])[0][0, 0, 0] != 0  # (H, W)
    expected = torch.zeros(20, 30, dtype=torch.bool)
    expected[theirs["i"] : theirs["i"] + theirs["h"], theirs["j"] : theirs["j"] + theirs["w"]] = True
    assert torch.equal(hole, expected)


def test_noise_follows_from_the_global_generator_alone():
    erase, clips = RandomErasing(1.0, (0.1, 0.3), (0.5, 2.0)), torch.zeros(2, 3, 2, 20, 30)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(erase(clips.clone(), SHOWN[:2])[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
