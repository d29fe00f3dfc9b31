"""Letters: B clips, t s tokens in time and space, N tokens of a sequence, D width. All sizes differ."""

import pytest
import torch

from tubelet.layers.attention import Attention, SplitHeadAttention, TimeAttention

B, t, s, D, HEADS = 2, 3, 5, 12, 4

frame = torch.arange(t).repeat_interleave(s)  # (t * s,): the frame of each token, time slowest
place = torch.arange(s).repeat(t)  # (t * s,): its place
EVERYTHING = torch.ones(HEADS, t * s, t * s, dtype=torch.bool)
SAME_FRAME = (frame[:, None] == frame).expand(HEADS, -1, -1)
SAME_PLACE = (place[:, None] == place).expand(HEADS, -1, -1)
HALVES = torch.cat([SAME_PLACE[: HEADS // 2], SAME_FRAME[: HEADS // 2]])


@pytest.fixture
def attn(request):
    """Of the class that a test names, else over the last axis but one."""
    torch.manual_seed(0)
    attn = getattr(request, "param", Attention)(D, HEADS).double()
    # Sharpened, so that attention is far from a plain mean and a wrong scale or mask shows.
    torch.nn.init.normal_(attn.qkv.weight, std=0.5)
    torch.nn.init.normal_(attn.qkv.bias, std=0.5)
    return attn


@pytest.fixture
def grid():
    return torch.randn(B, t, s, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def jointly(attn, grid):
    """(B, t, s, D) -> the same."""
    return attn(grid.flatten(1, 2)).view(grid.shape)


def on_grid(attn, grid):
    """(B, t, s, D) -> the same."""
    return attn(grid)


def joint_by_hand(attn, x, sees):
    """(B, N, D), (heads, N, N) of who sees whom -> (B, N, D): equation 1 of Vaswani et al., head by head."""
    q, k, v = (x @ attn.qkv.weight.T + attn.qkv.bias).chunk(3, dim=-1)
    d = D // HEADS
    out = []
    for head in range(HEADS):
        of = slice(head * d, (head + 1) * d)
        scores = torch.einsum("bid,bjd->bij", q[..., of], k[..., of]) / d**0.5
        weights = scores.masked_fill(~sees[head], float("-inf")).softmax(-1)
        out.append(torch.einsum("bij,bjd->bid", weights, v[..., of]))
    return torch.cat(out, dim=-1) @ attn.proj.weight.T + attn.proj.bias


AXES = pytest.mark.parametrize(
    ("attn", "attend", "sees"),
    [
        pytest.param(Attention, jointly, EVERYTHING, id="joint"),
        pytest.param(Attention, on_grid, SAME_FRAME, id="space"),
        pytest.param(TimeAttention, on_grid, SAME_PLACE, id="time"),
        pytest.param(SplitHeadAttention, on_grid, HALVES, id="split heads"),
    ],
    indirect=["attn"],
)


@AXES
def test_axial_and_split_head_attention_are_joint_attention_under_a_mask(attn, grid, attend, sees):
    expected = joint_by_hand(attn, grid.flatten(1, 2), sees).view(grid.shape)
    # In float64 only the order of the additions differs, which costs about 1e-15.
    torch.testing.assert_close(attend(attn, grid), expected, rtol=0, atol=1e-12)


@AXES
def test_their_gradients_are_those_of_joint_attention_under_a_mask(attn, grid, attend, sees):
    grid.requires_grad_()
    of = [grid, *attn.parameters()]
    ours = torch.autograd.grad(attend(attn, grid).square().sum(), of)
    by_hand = torch.autograd.grad(joint_by_hand(attn, grid.flatten(1, 2), sees).square().sum(), of)
    for mine, reference in zip(ours, by_hand, strict=True):
        # Gradients sum over 30 tokens, values up to 100; float64 leaves about 1e-13.
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("attn", "attend", "reached"),
    [
        pytest.param(Attention, jointly, (1, slice(None), slice(None)), id="joint"),
        pytest.param(Attention, on_grid, (1, 2, slice(None)), id="space"),
        pytest.param(TimeAttention, on_grid, (1, slice(None), 3), id="time"),
    ],
    indirect=["attn"],
)
def test_a_changed_token_reaches_its_own_sequence_and_no_other(attn, grid, attend, reached):
    before = attend(attn, grid)
    grid[1, 2, 3] += 1.0
    changed = (attend(attn, grid) - before).abs().amax(-1) > 1e-9  # (B, t, s); float64 rounds at 1e-15
    expected = torch.zeros(B, t, s, dtype=torch.bool)
    expected[reached] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("lead", [(1,), (2,), (2, 3), (2, 3, 4)])
def test_every_axis_before_the_last_two_is_a_batch_of_sequences(attn, lead):
    x = torch.randn(*lead, s, D, dtype=torch.float64)
    one_by_one = [attn(sequence[None])[0] for sequence in x.view(-1, s, D)]
    torch.testing.assert_close(attn(x), torch.stack(one_by_one).view(x.shape), rtol=0, atol=1e-12)


def test_attention_has_no_order_of_its_own(attn, grid):
    order = [4, 1, 0, 3, 2]
    torch.testing.assert_close(attn(grid[:, :, order]), attn(grid)[:, :, order], rtol=0, atol=1e-12)


def test_attention_names_its_parameters_as_timm_does(attn):
    shapes = {name: tuple(value.shape) for name, value in attn.state_dict().items()}
    assert shapes == {"qkv.weight": (36, 12), "qkv.bias": (36,), "proj.weight": (12, 12), "proj.bias": (12,)}


def test_a_width_that_the_heads_do_not_divide_is_an_error_with_both_numbers():
    with pytest.raises(ValueError, match=r"^model: dim=10 is not a multiple of heads=4$"):
        Attention(10, heads=4)
