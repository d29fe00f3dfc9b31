"""The ViViT family by mathematics: what one model is, where its options make it another.

Letters: B clips, t time tokens, h w tokens along the sides, s = h * w, D width; all different.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tubelet.layers.attention import Attention, SplitHeadAttention, TimeAttention
from tubelet.layers.position import SpaceTime
from tubelet.layers.readout import Mean
from tubelet.models.vivit import FactorisedAttention, FactorisedEncoder, FactorisedStaged, FrameMean, Joint
from tubelet.models.vivit_compressed import (
    Compressed,
    FewTokens,
    PoolTime,
    RegionTimeAttention,
    StrideTime,
    Tubelets,
)
from tubelet.models.vivit_hierarchical import Hierarchical, Merge, Pool, tokens_of_windows

B, t, h, w, D, HEADS = 2, 3, 2, 5, 12, 4
s = h * w
SHAPE = dict(dim=D, depth=2, heads=HEADS)
CLIP = (6, (8, 20))  # frames and pixels of (t, h, w) tubelets of 2x4x4
# Float64 rounds at 1e-16; the same sums in another order cost some 1e-15.
EXACT = dict(rtol=0, atol=1e-12)


def randomised(net):
    """In float64 and with random values everywhere, so that no part hides behind a zero."""
    torch.manual_seed(0)
    net = net.double().eval()
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    return net


def clips(num_frames=6):
    """(B, C, T, H, W) of t x h x w tubelets of 2x4x4."""
    return torch.randn(B, 3, num_frames, 8, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TIME, PLACE = torch.arange(t).repeat_interleave(s), torch.arange(s).repeat(t)  # of each token, time slowest


def test_split_heads_need_an_even_number():
    with pytest.raises(ValueError, match=r"^model: heads=3 is odd; half of them attend over time, half over space$"):
        SplitHeadAttention(D, 3)


def test_factorised_attention_with_one_frame_token_and_no_time_is_joint_attention():
    """With time attention that adds nothing, what is left is a ViT on each frame; with one frame, that is all."""
    factorised = randomised(FactorisedAttention(7, 2, (8, 20), (2, 4, 4), **SHAPE))
    joint = randomised(Joint(7, 2, (8, 20), (2, 4, 4), readout=Mean, **SHAPE))
    ours = joint.state_dict()
    for name, value in factorised.state_dict().items():
        if "_time" not in name:
            name = name.replace("norm_space", "norm1").replace("attn_space", "attn").replace("norm_mlp", "norm2")
            ours[name if name.startswith(("patch_embed", "head")) else f"encoder.{name}"] = value
    joint.load_state_dict(ours)
    for block in factorised.blocks:
        nn.init.zeros_(block.attn_time.proj.weight)
        nn.init.zeros_(block.attn_time.proj.bias)
    torch.testing.assert_close(factorised(clips(2)), joint(clips(2)), **EXACT)


def test_the_order_of_space_and_time_is_the_one_that_was_chosen():
    space_first = randomised(FactorisedAttention(7, *CLIP, (2, 4, 4), **SHAPE))
    time_first = FactorisedAttention(7, *CLIP, (2, 4, 4), time_first=True, **SHAPE).double().eval()
    time_first.load_state_dict(space_first.state_dict())
    x = torch.randn(B, t, s, D, dtype=torch.float64)
    for net, order in ((space_first, ("space", "time")), (time_first, ("time", "space"))):
        block, expected = net.blocks[0], x
        for axis in order:
            norm, attn = getattr(block, f"norm_{axis}"), getattr(block, f"attn_{axis}")
            expected = expected + attn(norm(expected))
        expected = expected + block.mlp(block.norm_mlp(expected))
        torch.testing.assert_close(block(x), expected, **EXACT)
    assert (space_first(clips()) - time_first(clips())).abs().max() > 1e-3


def test_staged_attention_is_all_over_space_and_then_all_over_time():
    net = FactorisedStaged(7, *CLIP, (2, 4, 4), dim=D, depth=3, time_depth=2, heads=HEADS)
    assert [type(block.attn) for block in net.blocks] == [Attention] * 3 + [TimeAttention] * 2


def test_the_factorised_encoder_without_attention_over_time_is_the_frame_mean():
    """A temporal encoder whose block adds nothing, its positions zero, its norm the identity of what is normed already,
    and the mean as readout: only the mean of the frames is left."""
    whole = randomised(FactorisedEncoder(7, *CLIP, (2, 4, 4), dim=D, depth=2, time_depth=1, heads=HEADS, readout=Mean))
    control = FrameMean(7, *CLIP, (2, 4, 4), readout=Mean, **SHAPE).double().eval()
    control.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("time.")})
    of_block = whole.time.blocks[0]
    for nothing in (whole.time.pos_embed, of_block.attn.proj, of_block.mlp.fc2):
        for parameter in nothing.parameters():
            nn.init.zeros_(parameter)
    whole.time.norm = nn.Identity()
    torch.testing.assert_close(whole(clips()), control(clips()), **EXACT)


def test_drop_path_of_the_factorised_encoder_grows_in_each_of_its_encoders():
    """As in scenic: layer / (layers - 1) * rate, in the one and in the other."""
    net = FactorisedEncoder(7, *CLIP, (2, 4, 4), dim=D, depth=4, time_depth=3, heads=HEADS, drop_path=0.3)
    rates = [[block.drop_path.rate for block in encoder.blocks] for encoder in (net.space, net.time)]
    assert rates == [pytest.approx([0.0, 0.1, 0.2, 0.3]), pytest.approx([0.0, 0.15, 0.3])]


@pytest.mark.parametrize(("model", "more"), [(FactorisedEncoder, {"time_depth": 1}), (FrameMean, {})])
@torch.no_grad()
def test_drop_path_over_space_drops_all_frames_of_a_clip_or_none(model, more):
    net = model(7, *CLIP, (2, 4, 4), **SHAPE, drop_path=0.5, **more).train()
    torch.manual_seed(0)
    dropping, num_clips = net.space.blocks[-1].drop_path, 400
    kept = dropping(torch.ones(num_clips * t, s, D)).unflatten(0, (num_clips, t))
    assert torch.equal(kept, kept[:, :1, :1, :1].expand_as(kept))
    # Fair coins, scaled by 2: the share of 400 clips that are kept is 0.5 with deviation 0.025; five of them.
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert kept.mean().item() / 2 == pytest.approx(0.5, abs=0.125)


@pytest.mark.parametrize("model", [FactorisedEncoder, FactorisedStaged])
@pytest.mark.parametrize(("depth", "time_depth"), [(0, 2), (2, 0), (2, -1)])
def test_no_block_over_space_or_over_time_is_an_error(model, depth, time_depth):
    with pytest.raises(ValueError, match=rf"^model: depth={depth} and time_depth={time_depth}: over space and over"):
        model(7, *CLIP, (2, 4, 4), dim=D, depth=depth, time_depth=time_depth, heads=HEADS)


def test_separable_positions_are_the_sum_of_a_place_and_a_time():
    table = randomised(SpaceTime(t, s, D, class_token=True))
    rows = table()[0]
    assert rows.shape == (1 + t * s, D)
    assert torch.equal(rows[0], table.space[0, 0])
    for i, (time, place) in enumerate(zip(TIME, PLACE, strict=True)):
        assert torch.equal(rows[1 + i], table.time[0, time] + table.space[0, 1 + place])


def test_joint_attention_takes_separable_positions_and_the_mean():
    net = randomised(Joint(7, *CLIP, (2, 4, 4), position=SpaceTime, readout=Mean, **SHAPE))
    same = randomised(Joint(7, *CLIP, (2, 4, 4), readout=Mean, **SHAPE))
    weights = {k: v for k, v in net.state_dict().items() if "pos_embed" not in k}
    same.load_state_dict(weights | {"encoder.pos_embed.table": net.encoder.pos_embed()})
    torch.testing.assert_close(net(clips()), same(clips()), **EXACT)


@pytest.mark.parametrize("model", [Joint, Tubelets])
def test_the_gelu_is_the_one_that_was_chosen(model):
    forms = [model(7, *CLIP, (2, 4, 4), **SHAPE, exact_gelu=exact).encoder.blocks[1].mlp.act for exact in (False, True)]
    assert [form.approximate for form in forms] == ["tanh", "none"]


@pytest.mark.parametrize("reduce", [PoolTime, StrideTime])
def test_compression_by_tau_1_is_joint_attention(reduce):
    compressed = randomised(Compressed(7, *CLIP, reduce, tau=1, tubelet=(2, 4, 4), **SHAPE))
    joint = Joint(7, *CLIP, (2, 4, 4), **SHAPE).double().eval()
    joint.load_state_dict(compressed.state_dict())
    assert torch.equal(compressed(clips()), joint(clips()))


def test_tubelets_of_one_frame_are_joint_attention_over_frames():
    tubelets = randomised(Tubelets(7, 3, (8, 20), (1, 4, 4), **SHAPE))
    joint = Joint(7, 3, (8, 20), (1, 4, 4), **SHAPE).double().eval()
    joint.load_state_dict(tubelets.state_dict())
    assert torch.equal(tubelets(clips(3)), joint(clips(3)))


def test_pooled_frames_are_tubelets_whose_kernel_is_the_same_in_every_frame():
    """The mean of tau embeddings is one embedding by a kernel of tau frames, each 1 / tau of the kernel."""
    pooled = randomised(Compressed(7, *CLIP, PoolTime, tau=2, tubelet=(1, 4, 4), **SHAPE))
    tubelets = Tubelets(7, *CLIP, (2, 4, 4), **SHAPE).double().eval()
    kernel = pooled.patch_embed.proj.weight.expand(-1, -1, 2, -1, -1) / 2
    tubelets.load_state_dict(pooled.state_dict() | {"patch_embed.proj.weight": kernel})
    torch.testing.assert_close(pooled(clips()), tubelets(clips()), **EXACT)


def test_strided_frames_see_the_central_frame_of_each_tau():
    grid = torch.arange(6.0).view(1, 6, 1, 1)
    assert StrideTime(3)(grid).flatten().tolist() == [1, 4]
    assert StrideTime(2)(grid).flatten().tolist() == [1, 3, 5]
    assert PoolTime(3)(grid).flatten().tolist() == [1, 4]
    assert PoolTime(2)(grid).flatten().tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize("tau", [0, 2, 4])
def test_a_tau_that_does_not_divide_is_an_error_with_those_that_do(tau):
    with pytest.raises(
        ValueError, match=rf"tau={tau} does not divide the 3 frames of tokens; those that do are \[1, 3\]"
    ):
        Compressed(7, *CLIP, tau=tau, tubelet=(2, 4, 4), **SHAPE)


def test_as_many_pooled_tokens_as_places_is_factorised_attention():
    few = randomised(FewTokens(7, *CLIP, regions=(h, w), tubelet=(2, 4, 4), **SHAPE))
    factorised = FactorisedAttention(7, *CLIP, (2, 4, 4), **SHAPE).double().eval()
    factorised.load_state_dict(few.state_dict())
    torch.testing.assert_close(few(clips()), factorised(clips()), **EXACT)


def test_one_pooled_token_a_frame_attends_over_t_tokens_and_gives_all_places_the_same():
    layer = randomised(RegionTimeAttention(D, HEADS, (h, w), (1, 1)))
    x, seen = torch.randn(B, t, s, D, dtype=torch.float64), []
    layer.proj.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    found = layer(x)
    assert seen == [(B, t, 1, D)]
    plain = Attention(D, HEADS).double()
    plain.load_state_dict(layer.state_dict())
    expected = plain(x.mean(2))  # (B, t, D)
    torch.testing.assert_close(found, expected[:, :, None].expand_as(x), **EXACT)


def test_pooled_tokens_are_the_means_of_their_regions_and_go_back_to_them():
    layer = randomised(RegionTimeAttention(D, HEADS, (h, w), (2, 1)))  # the two rows of five places
    x = torch.randn(B, t, s, D, dtype=torch.float64)
    rows = [RegionTimeAttention(D, HEADS, (1, w), (1, 1)).double() for _ in range(h)]
    for row in rows:
        row.load_state_dict(layer.state_dict())
    expected = torch.cat([row(x[:, :, i * w : (i + 1) * w]) for i, row in enumerate(rows)], dim=2)
    torch.testing.assert_close(layer(x), expected, **EXACT)


def test_regions_that_do_not_divide_the_frame_are_an_error():
    with pytest.raises(ValueError, match=r"regions=\(2, 2\): 5 columns of tokens divide into \[1, 5\]"):
        FewTokens(7, *CLIP, regions=(2, 2), tubelet=(2, 4, 4), **SHAPE)


def test_regions_that_are_not_two_are_an_error():
    with pytest.raises(ValueError, match=r"^model: regions=\[2\] is not two numbers: rows, columns$"):
        FewTokens(7, *CLIP, regions=[2], tubelet=(2, 4, 4), **SHAPE)


@pytest.mark.parametrize("merge", [Merge, Pool])
def test_a_hierarchy_of_one_stage_is_factorised_attention(merge):
    net = randomised(Hierarchical(7, *CLIP, (2, 4, 4), (D,), (2,), (HEADS,), windows=(), merge=merge))
    factorised = FactorisedAttention(7, *CLIP, (2, 4, 4), **SHAPE).double().eval()
    factorised.load_state_dict(net.state_dict())
    assert torch.equal(net(clips()), factorised(clips()))


def test_a_window_holds_the_tokens_next_to_each_other_in_time_and_in_space():
    grid = torch.arange(4 * 2 * 6).view(1, 4, 12, 1)  # t=4, h=2, w=6; a token's value is its number
    cut = tokens_of_windows(grid, (4, 2, 6), (2, 2, 3))
    assert cut.shape == (1, 2, 2, 12, 1)
    first, last = cut[0, 0, 0, :, 0].tolist(), cut[0, 1, 1, :, 0].tolist()
    assert first == [0, 1, 2, 6, 7, 8, 12, 13, 14, 18, 19, 20]
    assert last == [27, 28, 29, 33, 34, 35, 39, 40, 41, 45, 46, 47]


def test_pooling_without_widening_is_the_mean_of_each_window():
    x = torch.randn(B, 4, 2 * 6, D)
    pooled = Pool(D, D, (4, 2, 6), (2, 2, 3))(x)
    expected = F.avg_pool3d(x.unflatten(2, (2, 6)).permute(0, 4, 1, 2, 3), (2, 2, 3))  # (B, D, 2, 1, 2)
    torch.testing.assert_close(pooled, expected.permute(0, 2, 3, 4, 1).flatten(2, 3), rtol=0, atol=1e-6)


def test_merging_projects_the_normed_tokens_of_a_window_together():
    x, merge = torch.randn(B, 4, 12, D), Merge(D, 7, (4, 2, 6), (2, 2, 3))
    together = x[:, :2].unflatten(2, (2, 6))[:, :, :, :3].flatten(1)  # (B, 12 * D): the first window
    assert torch.equal(merge(x)[:, 0, 0], merge.reduction(merge.norm(together)))
    assert merge(x).shape == (B, 2, 2, 7)


def test_tokens_shrink_and_widen_from_stage_to_stage():
    net = Hierarchical(7, 8, 32, (2, 4, 4), (12, 24, 36), (1, 2, 1), (1, 2, 3), windows=((2, 2, 2), (1, 4, 2)))
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    net(torch.zeros(1, 3, 8, 32, 32))
    assert seen == [(4, 64, 12), *[(2, 16, 24)] * 3, *[(2, 2, 36)] * 2]


def test_a_window_that_does_not_divide_its_stage_is_an_error_with_the_nearest_sizes():
    message = r"before stage 3, the window's 2 does not divide 7 tokens \(rows\); the nearest is 6 or 8: change"
    with pytest.raises(ValueError, match=message):
        Hierarchical(7, 32, 224, tubelet=(2, 16, 16))


def test_a_window_that_is_not_along_three_axes_is_an_error():
    with pytest.raises(ValueError, match=r"^model: \[2, 2\] in windows is not three numbers: tokens along t, h and w$"):
        Hierarchical(7, 8, 32, (2, 4, 4), (12, 24), (1, 1), (1, 2), windows=([2, 2],))


def test_lists_of_other_lengths_are_an_error():
    with pytest.raises(
        ValueError, match=r"dims=\[12, 24\], depths=\[1\], heads=\[1, 2\] and 1 windows: one entry a stage"
    ):
        Hierarchical(7, 8, 32, (2, 4, 4), (12, 24), (1,), (1, 2), windows=((2, 2, 2),))
