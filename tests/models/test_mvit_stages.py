"""The stages, names, start and errors of MViT, by hand. Letters: B clips, C channels, T frames, H W pixels."""

from functools import partial

import pytest
import torch
from torch import nn

from tubelet.layers.readout import NormedMeanOfPatches
from tubelet.models.mvit import MViT

TINY = partial(
    MViT,
    num_classes=7,
    num_frames=4,
    crop=16,
    dim=12,
    depths=(1, 1),
    q_strides=((1, 1, 1), (1, 2, 2)),
    kv_strides=((1, 2, 2), (1, 1, 1)),
    drop_path=0.0,
)


@torch.no_grad()
def test_stages_have_fewer_and_wider_tokens_but_as_many_keys():
    """MViTv2-S: 8 x 56 x 56 tokens of width 96, and 8 x 7 x 7 keys, of a finer grid where queries are pooled."""
    with torch.device("meta"):
        net, video = MViT(400, 16, 224), torch.empty(1, 3, 16, 224, 224)
    seen, keys = [], []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
        block.attn.norm_k.register_forward_hook(lambda _, __, out: keys.append(tuple(out.shape[1:])))
    net(video)
    stages = [(1 + 8 * side * side, width) for side, width in [(56, 96), (28, 192), (14, 384), (7, 768)]]
    read = (1, 768)  # of the last block only the class token
    assert seen == [stages[0]] + [stages[1]] * 2 + [stages[2]] * 11 + [stages[3], read]
    assert {size for *_, size in keys} == {96}  # of a head
    assert [heads for _, heads, _ in keys] == [1] + [2] * 2 + [4] * 11 + [8] * 2
    few, more = 1 + 8 * 7 * 7, 1 + 8 * 14 * 14
    assert [number for number, *_ in keys] == [few, more, few, more, *[few] * 10, more, few]


def test_submodules_have_the_names_of_slowfast():
    net = TINY()
    of_a_block = {name.removeprefix("blocks.1.") for name in net.state_dict() if name.startswith("blocks.1.")}
    both = ("norm1", "norm2", "proj", "mlp.fc1", "mlp.fc2", "attn.qkv", "attn.proj", "attn.norm_q", "attn.norm_k")
    assert of_a_block == {
        *(f"{module}.{kind}" for module in (*both, "attn.norm_v") for kind in ("weight", "bias")),
        *("attn.pool_q.weight", "attn.pool_k.weight", "attn.pool_v.weight"),
        *("attn.rel_pos_t", "attn.rel_pos_h", "attn.rel_pos_w"),
    }
    assert {name for name in net.state_dict() if not name.startswith("blocks.")} == {
        *("cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias"),
        *("norm.weight", "norm.bias", "head.weight", "head.bias"),
    }


def test_weights_start_as_in_slowfast():
    net = TINY(dim=96)
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            assert (module.bias == 0.02).all(), name
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
    tables = torch.cat([p.flatten() for name, p in net.named_parameters() if "rel_pos" in name or name == "cls_token"])
    assert tables.std().item() == pytest.approx(0.02, rel=5 / (2 * tables.numel()) ** 0.5)  # five times its deviation


@pytest.mark.parametrize("stride", [(1, 3, 3), (3, 2, 5), (2, 1, 4)])
@torch.no_grad()
def test_queries_and_the_skip_path_keep_one_grid_for_every_stride(stride):
    """Also for odd ones, for which SlowFast's windows would give another grid to the skip path."""
    net = TINY(num_frames=12, crop=36, q_strides=((1, 1, 1), stride), readout=NormedMeanOfPatches).eval()
    t, h, w = (-(-size // step) for size, step in zip((6, 9, 9), stride, strict=True))
    seen = []
    net.blocks[1].register_forward_hook(lambda _, __, out: seen.append(out.shape))
    net(torch.randn(2, 3, 12, 36, 36))
    assert seen == [(2, 1 + t * h * w, 24)]


def test_dropout_before_the_head_acts_in_training_only():
    net = TINY(head_dropout=0.5)
    video = torch.randn(1, 3, 4, 16, 16)
    assert not torch.equal(net.train()(video), net(video))  # 24 values: that two draws agree has chance 2 ** -24
    assert torch.equal(net.eval()(video), net(video))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(crop=50), "clip: crop height=50 is not a multiple of patch_stride's 4; the nearest is 48 or 52"),
        (dict(num_frames=7), "clip: num_frames=7 is not a multiple of patch_stride's 2; the nearest is 6 or 8"),
        (dict(heads=5), "model: dim=12 is not a multiple of heads=5"),
        (
            dict(depths=(1, 2, 1)),
            "model: depths=[1, 2, 1] with 2 q_strides and 2 kv_strides: each needs one entry a stage, and each stage "
            "at least one block",
        ),
        (
            dict(depths=(0, 2)),
            "model: depths=[0, 2] with 2 q_strides and 2 kv_strides: each needs one entry a stage, and each stage "
            "at least one block",
        ),
        *(
            (
                dict(patch_kernel=kernel),
                f"model: patch_kernel={kernel} must be odd along each axis, and at least patch_stride=(2, 4, 4): "
                "a patch is centred on its token, and no pixel is left out",
            )
            for kernel in [(2, 7, 7), (3, 7, 3)]
        ),
    ],
)
def test_sizes_that_do_not_fit_are_an_error_with_the_rule(change, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        TINY(**change)
    assert str(error.value) == message
