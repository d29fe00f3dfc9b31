"""Letters: B clips, t s tokens in time and space, N tokens of a sequence, D width. All sizes differ."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tubelet.layers.block import Block, DropPath, Mlp, drop_path_rates

B, t, s, D = 2, 3, 5, 12


class Reverse(nn.Module):
    """Stands in for attention: mixes the tokens in a way that is easy to write down."""

    def forward(self, x):
        """(..., N, D) -> (..., N, D)."""
        return x.flip(-2)


def randomise(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


def norm_by_hand(norm, x):
    """(..., D) -> (..., D), with the 1e-6 of ViT's official code."""
    deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias


@pytest.mark.parametrize("scale", [1.0, 1e-3])  # at 1e-3 the variance is the norm's 1e-6, so a wrong one shows
@pytest.mark.parametrize("shape", [(B, s, D), (B, t, s, D)])
def test_block_is_pre_norm_attention_then_pre_norm_mlp(shape, scale):
    torch.manual_seed(0)
    block = Block(D, Reverse(), nn.Tanh(), mlp_ratio=2.5).double()
    randomise(block)
    x = torch.randn(shape, dtype=torch.float64) * scale

    y = x + norm_by_hand(block.norm1, x).flip(-2)
    hidden = torch.tanh(norm_by_hand(block.norm2, y) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
    expected = y + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias

    # In float64 only the order of the additions differs, on values up to 10.
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_mlp_ratio_is_the_hidden_width_over_the_width():
    block = Block(D, Reverse(), nn.GELU(), mlp_ratio=2.5)
    assert block.mlp.fc1.weight.shape == (30, 12)
    assert block.mlp.fc2.weight.shape == (12, 30)


def test_mlp_applies_the_activation_it_is_given():
    torch.manual_seed(0)
    exact, tanh = Mlp(D, 30, nn.GELU()), Mlp(D, 30, nn.GELU(approximate="tanh"))
    randomise(exact)
    tanh.load_state_dict(exact.state_dict())
    x = torch.randn(B, s, D)
    hidden = exact.fc1(x)
    torch.testing.assert_close(exact(x), exact.fc2(F.gelu(hidden)), rtol=0, atol=0)
    torch.testing.assert_close(tanh(x), exact.fc2(F.gelu(hidden, approximate="tanh")), rtol=0, atol=0)
    # The two forms differ by up to 5e-4 a unit, far above float32's rounding.
    assert (exact(x) - tanh(x)).abs().max() > 1e-4


def test_drop_path_is_the_identity_in_evaluation():
    x = torch.randn(B, s, D)
    assert torch.equal(DropPath(0.9).eval()(x), x)


def test_drop_path_of_rate_zero_is_the_identity_in_training():
    x = torch.randn(B, s, D)
    assert torch.equal(DropPath(0.0).train()(x), x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lead", [(1000,), (100, 10)])
def test_drop_path_zeroes_whole_sequences_and_scales_the_others(lead, rate):
    torch.manual_seed(0)
    x = torch.randn(*lead, s, D)
    out = DropPath(rate, axes=len(lead)).train()(x)
    kept = (out != 0).flatten(-2).any(-1)  # (*lead)
    assert torch.equal(out[kept], x[kept] / (1 - rate))
    assert torch.equal(out[~kept], torch.zeros_like(x[~kept]))
    # 1000 draws: the share of dropped ones has a deviation of at most 0.016; five of them.
    assert (~kept).double().mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 1000) ** 0.5)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_drop_path_keeps_the_mean_in_training(rate):
    torch.manual_seed(0)
    draws = 10_000
    mean = DropPath(rate).train()(torch.ones(draws, 1, 1)).mean().item()
    # One draw has mean 1 and variance rate / (1 - rate): five deviations of the mean of all draws.
    assert mean == pytest.approx(1.0, abs=5 * (rate / (1 - rate) / draws) ** 0.5)


def test_drop_path_draws_for_every_index_of_its_axes_on_its_own():
    torch.manual_seed(0)
    num_clips, num_frames = 1000, t
    out = DropPath(0.5, axes=2).train()(torch.ones(num_clips, num_frames, s, D))
    kept = out[..., 0, 0] != 0  # (clips, frames)
    patterns = (kept * torch.tensor([1, 2, 4])).sum(1).bincount(minlength=8) / num_clips
    # Three fair coins: each of the 8 patterns has share 1/8 with deviation 0.0105; five of them.
    # One draw a clip would give only two patterns, one draw a frame for the whole batch only one.
    torch.testing.assert_close(patterns, torch.full((8,), 1 / 8), rtol=0, atol=0.053)


def test_drop_path_passes_the_gradient_of_what_it_kept():
    torch.manual_seed(0)
    x = torch.randn(100, s, D, requires_grad=True)
    out = DropPath(0.5).train()(x)
    out.sum().backward()
    kept = out.detach()[:, 0, 0] != 0
    assert torch.equal(x.grad, (kept[:, None, None] * torch.ones_like(x)) / 0.5)


def test_drop_path_keeps_bfloat16():
    assert DropPath(0.5).train()(torch.ones(B, s, D, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_drop_path_rate_outside_zero_to_one_is_an_error(rate):
    with pytest.raises(ValueError, match=rf"^model: drop_path={rate} is not in \[0, 1\)$"):
        drop_path_rates(rate, depth=1)


def test_drop_path_drops_both_branches_of_a_block():
    block = Block(D, Reverse(), nn.GELU(), drop_path=0.5).train()
    randomise(block)
    torch.manual_seed(0)
    x = torch.randn(400, s, D)
    with torch.no_grad():
        out = block(x)
        # Kept branches count twice at rate 0.5, so a sequence ends in one of four ways.
        mid = x + 2 * block.attn(block.norm1(x))
        ends = [x, x + 2 * block.mlp(block.norm2(x)), mid, mid + 2 * block.mlp(block.norm2(mid))]
    near = torch.stack(
        [(out - end).abs().amax((1, 2)) < 1e-4 for end in ends]
    )  # (4, sequences); float32 on values of 50
    assert torch.equal(near.sum(0), torch.ones(400, dtype=torch.long))
    # Four equal shares of 400 sequences: 100 with deviation 8.7; five of them.
    assert near.sum(1).tolist() == pytest.approx([100] * 4, abs=43)


@pytest.mark.parametrize(
    ("last", "depth", "expected"),
    [
        (0.3, 4, [0.0, 0.1, 0.2, 0.3]),
        (0.2, 2, [0.0, 0.2]),
        (0.0, 3, [0.0, 0.0, 0.0]),
        (0.2, 1, [0.0]),  # the first block is never dropped, as in torch.linspace(0, 0.2, 1)
    ],
)
def test_drop_path_rates_grow_linearly_from_zero_to_the_last(last, depth, expected):
    assert drop_path_rates(last, depth) == pytest.approx(expected)
