"""The variants of MViT: by mathematics, by hand, and what must hold for every one.

Letters: B clips, C channels, T frames, H W pixels, t h w tokens along each axis, D width.
"""

from functools import partial

import pytest
import torch
from torch import nn

from tubelet.layers.attention import Attention
from tubelet.layers.block import stack
from tubelet.layers.grids import near_windows
from tubelet.layers.pooling import (
    Average,
    Depthwise,
    Largest,
    PoolFirstAttention,
    PoolingAttention,
    RelativePoolingAttention,
    pool_tokens,
)
from tubelet.layers.position import OneTable, SpaceTime
from tubelet.layers.readout import ClassToken, Mean, NormedMeanOfPatches
from tubelet.models.mvit import ClassTokenBlock, MViT

V1 = dict(attention=PoolingAttention, position=SpaceTime, widen_in_mlp=True)
VARIANTS = {
    "v1": V1,
    "v1_one_table": dict(V1, position=OneTable),
    "v1_no_class_token": dict(V1, readout=Mean),
    "v1_pool_first_max": dict(V1, attention=partial(PoolFirstAttention, pool=Largest)),
    "v1_pool_first": dict(V1, attention=PoolFirstAttention),
    "v1_average": dict(V1, attention=partial(PoolingAttention, pool=Average)),
    "v2": {},
    "v2_no_class_token": dict(readout=Mean),
    "v2_max": dict(attention=partial(RelativePoolingAttention, pool=Largest)),
    "v2_with_positions": dict(position=SpaceTime),
    "maskfeat": dict(widen_in_mlp=True, readout=NormedMeanOfPatches),
    "kv_only": dict(q_strides=((1, 1, 1), (1, 1, 1)), kv_strides=((1, 2, 2), (2, 2, 2))),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
SIZE = (6, (16, 24))  # tokens 3 x 4 x 6, then 3 x 2 x 3


@pytest.fixture(autouse=True)
def one_thread_and_a_fixed_seed():
    """Tensors this small are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def tiny(num_frames=SIZE[0], crop=SIZE[1], **variant):
    """Random values everywhere, in evaluation mode."""
    stages = dict(depths=(1, 2), q_strides=((1, 1, 1), (1, 2, 2)), kv_strides=((1, 2, 2), (1, 1, 1)))
    net = MViT(7, num_frames, crop, dim=12, heads=3, **(stages | variant)).eval()
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.3)
    return net


def clips(num_clips=2):
    """(B, C, T, H, W)."""
    frames, (height, width) = SIZE
    return torch.randn(num_clips, 3, frames, height, width)


@every_variant
def test_backward_reaches_all_but_what_the_logits_cannot_depend_on(variant):
    """A bias that all keys share changes no softmax; a class token that alone is read has no pooled, placed query."""
    net, video = tiny(**variant), clips().requires_grad_()
    nn.functional.cross_entropy(net(video), torch.tensor([2, 5])).backward()
    unreached = {name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6}
    of_keys = {name for name in unreached if name.endswith("norm_k.bias")}
    last = [f"blocks.2.attn.{x}" for x in ("pool_q.weight", "rel_pos_t", "rel_pos_h", "rel_pos_w")]
    read = () if not isinstance(net.readout, ClassToken) else last
    assert unreached - of_keys == {name for name, _ in net.named_parameters() if name in read}
    assert (video.grad != 0).all()


@every_variant
@torch.no_grad()
def test_every_variant_compiles_without_a_graph_break(variant):
    torch._dynamo.reset()
    net, video = tiny(**variant), clips()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(video), net(video), rtol=0, atol=1e-5)  # float32 on logits of size 1


@every_variant
def test_every_variant_trains_in_bfloat16_autocast(variant):
    net, video = tiny(**variant).train(), clips()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(net(video), torch.tensor([2, 5]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or (p.grad.isfinite().all() and p.grad.dtype == torch.float32) for p in net.parameters())


@every_variant
@torch.no_grad()
def test_turned_clips_and_turned_weights_give_the_same_logits(variant):
    """A crop of 16 x 24 is one of 24 x 16 on its side, where height and width change places in every weight."""
    net, turned = tiny(**variant), tiny(crop=(24, 16), **variant)
    weights = {}
    for name, value in net.state_dict().items():
        if value.ndim == 5:  # a convolution
            value = value.transpose(3, 4)
        if name in ("pos_embed.space", "pos_embed.table"):
            of_class, grid = value.split([value.shape[1] % 24, value.shape[1] // 24 * 24], dim=1)
            grid = grid.unflatten(1, (-1, 4, 6)).transpose(2, 3).flatten(1, 3)  # of 4 x 6 places at each time
            value = torch.cat([of_class, grid], dim=1)
        other = {"rel_pos_h": "rel_pos_w", "rel_pos_w": "rel_pos_h"}.get(name.split(".")[-1])
        weights[name if other is None else name.rsplit(".", 1)[0] + "." + other] = value
    turned.load_state_dict(weights)
    video = clips()
    # The same sums in another order: float32 on logits of size 1.
    torch.testing.assert_close(turned(video.transpose(3, 4)), net(video), rtol=0, atol=1e-5)


@pytest.mark.parametrize("widen_in_mlp", [True, False])
@pytest.mark.parametrize("depths", [(1, 2), (2, 1)])  # whether the last block is also the first of its stage
@pytest.mark.parametrize("pool", [Depthwise, Largest])
@pytest.mark.parametrize("attention", [PoolingAttention, RelativePoolingAttention, PoolFirstAttention])
def test_a_last_block_for_the_class_token_gives_what_the_whole_block_gives(attention, pool, depths, widen_in_mlp):
    """And the same gradients: zero for what only other queries meet, and none missing, for DistributedDataParallel."""
    if attention is PoolFirstAttention and not widen_in_mlp:
        return  # it keeps the width
    net = tiny(depths=depths, widen_in_mlp=widen_in_mlp, attention=partial(attention, pool=pool)).double()
    video, last = clips().double(), net.blocks[-1]
    assert isinstance(last, ClassTokenBlock)
    outputs = []
    for last.in_full in (True, False):
        net.zero_grad()
        logits = net(video)
        logits.square().sum().backward()
        outputs.append((logits.detach(), {name: p.grad for name, p in net.named_parameters()}))
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)


class Nothing(nn.Identity):
    """A pooling of no token."""

    def __init__(self, dim, stride):
        super().__init__()


class EveryOther(nn.Module):
    """A pooling that only strides: each channel and each token for itself, so it commutes with a projection."""

    def __init__(self, dim, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        t, h, w = self.stride
        return x[:, :, ::t, ::h, ::w]


@torch.no_grad()
def test_without_pooling_mvit_is_a_vision_transformer():
    attention = partial(PoolingAttention, pool=Nothing)
    one_stage = dict(depths=(3,), q_strides=((1, 1, 1),), kv_strides=((1, 1, 1),), readout=NormedMeanOfPatches)
    net = tiny(attention=attention, **one_stage).double()
    plain = nn.Sequential(*stack(12, [Attention(12, 3) for _ in range(3)], nn.GELU(), 4.0, [0.0] * 3)).double()
    plain.load_state_dict(net.blocks.state_dict())
    x = torch.randn(2, 1 + 3 * 4 * 6, 12, dtype=torch.float64)
    torch.testing.assert_close(net.blocks(x), plain(x), rtol=0, atol=1e-12)  # float64 rounds at 1e-15


@torch.no_grad()
def test_pooling_first_equals_pooling_last_where_pooling_only_selects():
    of_input = tiny(**dict(V1, attention=partial(PoolFirstAttention, pool=EveryOther))).double()
    of_projected = tiny(**dict(V1, attention=partial(PoolingAttention, pool=EveryOther))).double()
    of_projected.load_state_dict(of_input.state_dict())
    video = clips().double()
    torch.testing.assert_close(of_projected(video), of_input(video), rtol=0, atol=1e-12)  # float64 rounds at 1e-15


@torch.no_grad()
def test_poolings_by_hand():
    """Windows of 3 around every second place of 4 6 1 3 5, edges beyond which is nothing, or zeros for the mean."""
    x = torch.tensor([4.0, 6.0, 1.0, 3.0, 5.0]).view(1, 1, 1, 1, 5)
    depthwise = Depthwise(1, (1, 1, 2))
    depthwise.weight.zero_()[0, 0, 1, 1] = torch.tensor([1.0, 10.0, 100.0])
    assert depthwise(x).flatten().tolist() == [640, 316, 53]
    assert Largest(1, (1, 1, 2))(x).flatten().tolist() == [6, 6, 5]
    assert (Average(1, (1, 1, 2))(x) * 27).flatten().tolist() == pytest.approx([10, 10, 8])


@torch.no_grad()
def test_pooling_leaves_a_class_token_alone_and_does_without_one():
    grid = (2, 3, 4)
    x = torch.randn(2, 1 + 2 * 3 * 4, 6)
    pool = Largest(6, (1, 2, 2))
    with_token, without = pool_tokens(x, grid, pool), pool_tokens(x[:, 1:], grid, pool)
    assert with_token.shape == (2, 1 + 2 * 2 * 2, 6)
    assert torch.equal(with_token[:, 0], x[:, 0])
    assert torch.equal(with_token[:, 1:], without)
    channels_first = x[1, 1:].T.view(1, 6, *grid)  # one clip
    assert torch.equal(without[1], pool(channels_first)[0].flatten(1).T)


@pytest.mark.parametrize("pool", [Depthwise, Largest, Average])
@pytest.mark.parametrize("stride", [(1, 4, 8), (5, 2, 3), (4, 1, 7)])
def test_windows_hold_the_same_where_places_that_none_reaches_are_left_out(pool, stride):
    """Also where the last window of an axis is cut off: 6, 9 and 17 places."""
    grid, channels = (6, 9, 17), 2
    near, fewer = near_windows(grid, stride)
    assert 0 < len(near) == fewer[0] * fewer[1] * fewer[2] < 6 * 9 * 17
    of_all, of_near = pool(channels, stride), pool(channels, tuple(min(step, 3) for step in stride))
    of_near.load_state_dict(of_all.state_dict())
    x = torch.randn(3, 6 * 9 * 17, channels, requires_grad=True)
    expected = pool_tokens(x, grid, of_all)
    torch.testing.assert_close(pool_tokens(x[:, near], fewer, of_near), expected, rtol=0, atol=1e-6)
    (reached,) = torch.autograd.grad(expected.abs().sum(), x)
    if pool is not Largest:
        assert reached.abs().amax((0, 2)).nonzero().flatten().tolist() == near


def test_mvit_v1_b_has_the_stages_of_its_paper():
    """Widths double at the end of a stage, in the MLP, and heads one block later: d = 96 throughout."""
    with torch.device("meta"):
        net = MViT(400, 16, 224, **V1)
    assert [block.attn.qkv.in_features for block in net.blocks] == [96] + [192] * 2 + [384] * 11 + [768] * 2
    assert [block.mlp.fc2.out_features for block in net.blocks] == [192] * 2 + [384] * 11 + [768] * 3
    assert [block.attn.heads for block in net.blocks] == [1] + [2] * 2 + [4] * 11 + [8] * 2
    pooled = [i for i, block in enumerate(net.blocks) if isinstance(block.attn.pool_q, nn.Conv3d)]
    assert pooled == [1, 3, 14]


def test_positions_start_as_in_slowfast():
    net = MViT(7, 8, (32, 40), dim=96, depths=(1,), q_strides=((1, 1, 1),), kv_strides=((1, 1, 1),), **V1)
    for table in (net.pos_embed.space, net.pos_embed.time, net.cls_token):
        assert table.std().item() == pytest.approx(0.02, rel=5 / (2 * table.numel()) ** 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(attention=PoolFirstAttention),
            "model: PoolFirstAttention keeps the width, and was given 12 and 24; set widen_in_mlp=True",
        ),
        (dict(q_strides=((1, 1, 1), (1, 0, 2))), "model: (1, 0, 2) in q_strides is not three positive numbers"),
        (dict(kv_strides=((2, 2), (1, 1, 1))), "model: (2, 2) in kv_strides is not three positive numbers"),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_rule(change, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        tiny(**change)
    assert str(error.value).startswith(message)
