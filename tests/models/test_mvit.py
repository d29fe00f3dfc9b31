"""MViT and MViTv2 against torchvision's class: the same weights give the same logits and the same gradients.

Their models are built with random weights; nothing is fetched. Letters: B clips, C channels, T frames, H W pixels.
"""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.video import MViT as TorchvisionMViT
from torchvision.models.video import mvit_v1_b, mvit_v2_s
from torchvision.models.video.mvit import MSBlockConfig

from tubelet.layers.embed import clip_size
from tubelet.layers.pooling import PoolingAttention
from tubelet.layers.position import SpaceTime
from tubelet.models.mvit import MViT, block_widths
from tubelet.weights.mvit import from_torchvision

V1 = dict(attention=PoolingAttention, position=SpaceTime, widen_in_mlp=True)
# Settings of ours; the rest is as published. Sizes along t, h and w differ where theirs allow it.
CASES = {
    "v2": dict(num_frames=6, crop=64, depths=(1, 2, 1, 1)),
    # Grids of 7, 4 and 2, where theirs counts 7, 3 and 1 for the tables, and resamples them.
    "v2_ragged": dict(num_frames=10, crop=28, depths=(2, 1, 2), heads=2),
    # Keys at every second time, queries pooled in the first stage, and keys finer than queries in the second.
    "v2_strides": dict(
        num_frames=8,
        crop=32,
        depths=(1, 2),
        q_strides=((1, 2, 2), (1, 4, 4)),
        kv_strides=((2, 4, 4), (2, 1, 1)),
        patch_kernel=(1, 5, 5),
        patch_stride=(1, 2, 2),
    ),
    "v1": dict(num_frames=6, crop=(28, 36), depths=(2, 1, 2), heads=2, **V1),
    "v1_strides": dict(
        num_frames=8,
        crop=(16, 24),
        depths=(1, 2),
        q_strides=((2, 2, 2), (1, 2, 2)),
        kv_strides=((4, 2, 4), (2, 2, 1)),
        patch_kernel=(3, 5, 5),
        patch_stride=(1, 2, 2),
        **V1,
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
versions = pytest.mark.parametrize(("theirs", "version"), [(mvit_v1_b, V1), (mvit_v2_s, {})], ids=["v1_b", "v2_s"])


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randomise(model, seed):
    """Fill every parameter, zero-initialised ones and norms too, with values that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 and "rel_pos" not in name else 4
            parameter.normal_(std=fan_in**-0.5, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)


def settings(num_frames, crop, depths, dim=12, heads=1, q_strides=None, kv_strides=None, **rest):
    """Arguments of ours, with the published strides of as many stages as there are depths."""
    q_strides = q_strides or ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2))[: len(depths)]
    kv_strides = kv_strides or ((1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1))[: len(depths)]
    return dict(
        num_classes=7, num_frames=num_frames, crop=crop, dim=dim, heads=heads, depths=depths, q_strides=q_strides,
        kv_strides=kv_strides, drop_path=0.0, head_dropout=0.0, **rest,
    )  # fmt: skip


def torchvision_of(num_frames, crop, depths, q_strides, kv_strides, dim, heads, patch_kernel=(3, 7, 7), **rest):
    """Their model for settings of ours: a list of blocks instead of stages."""
    v2, blocks = "position" not in rest, []
    widths = block_widths(dim, depths, in_mlp=not v2)
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = list(q_strides[stage]) if i == 0 else [1, 1, 1]
            before, _, after = widths[len(blocks)]
            kernel, stride = ([3] * 3, stride) if v2 or max(stride) > 1 else ([], [])  # v1 pools no other queries
            blocks.append(
                MSBlockConfig(heads * 2**stage, before, after, kernel, [3] * 3, stride, list(kv_strides[stage]))
            )
    return TorchvisionMViT(
        clip_size(num_frames, crop)[1:], num_frames, blocks, residual_pool=v2, residual_with_cls_embed=False,
        rel_pos_embed=v2, proj_after_attn=v2, dropout=0.0, num_classes=7, patch_embed_kernel=patch_kernel,
        patch_embed_stride=rest.get("patch_stride", (2, 4, 4)),
        patch_embed_padding=tuple(size // 2 for size in patch_kernel),
    )  # fmt: skip


def pair(case, dtype):
    """(theirs, ours) with the same weights, in training mode, where nothing is dropped."""
    arguments = settings(**case)
    theirs, ours = torchvision_of(**arguments).to(dtype), MViT(**arguments).to(dtype)
    randomise(theirs, seed=1)
    ours.load_state_dict(from_torchvision(theirs.state_dict()), strict=True)
    return theirs, ours


def clips(case, dtype):
    """Two clips (B, C, T, H, W)."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, *clip_size(case["num_frames"], case["crop"]), dtype=dtype, generator=generator)


def gradients(model, video, label):
    """(logits, gradients by name) of the cross entropy."""
    logits = model(video)
    F.cross_entropy(logits, label).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@versions
@torch.no_grad()
def test_logits_equal_those_of_torchvisions_published_model_at_its_size(theirs, version):
    reference = theirs(weights=None).eval()
    randomise(reference, seed=1)
    ours = MViT(num_classes=400, num_frames=16, crop=224, **version).eval()
    ours.load_state_dict(from_torchvision(reference.state_dict()), strict=True)
    video = clips(dict(num_frames=16, crop=224), torch.float32)[:1]
    expected = reference(video)
    assert expected.std() > 0.1  # logits of no size would agree by being small
    # float32 on sums over 25,088 tokens, sixteen blocks deep.
    torch.testing.assert_close(ours(video), expected, rtol=0, atol=1e-4)


@versions
def test_gradients_equal_those_of_torchvision_at_the_published_depth_and_width(theirs, version):
    """On clips of 64 pixels: the size of the grid is no part of a gradient's formula."""
    case = dict(num_frames=4, crop=64, dim=96, depths=(1, 2, 11, 2), **version)
    reference, ours = pair(case, torch.float32)
    video, label = clips(case, torch.float32), torch.tensor([2, 5])
    expected, of_parameters = gradients(reference, video, label)
    mine, of_mine = gradients(ours, video, label)
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-4)  # as above
    torch.testing.assert_close(of_mine, from_torchvision(of_parameters), rtol=0, atol=1e-4)


@cases
@torch.no_grad()
def test_logits_in_float32_equal_those_of_torchvision(case):
    theirs, ours = pair(case, torch.float32)
    mine, reference = ours.eval()(clips(case, torch.float32)), theirs.eval()(clips(case, torch.float32))
    assert reference.std() > 0.1
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-4)


@cases
def test_logits_and_every_gradient_in_float64_equal_those_of_torchvision(case):
    """A float64 run leaves only mistakes: rounding is 1e-15."""
    theirs, ours = pair(case, torch.float64)
    video, same, label = clips(case, torch.float64), clips(case, torch.float64), torch.tensor([2, 5])
    expected, of_parameters = gradients(theirs, video.requires_grad_(), label)
    mine, of_mine = gradients(ours, same.requires_grad_(), label)
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(same.grad, video.grad, rtol=0, atol=1e-9)
    torch.testing.assert_close(of_mine, from_torchvision(of_parameters), rtol=0, atol=1e-9)


@torch.no_grad()
def test_queries_pooled_in_time_need_fewer_rows_in_time_and_then_equal_torchvision():
    """Theirs has 2 t - 1 rows for the block's t times, whatever its strides, and resamples them at each forward."""
    case = dict(
        num_frames=12, crop=16, depths=(1, 2), q_strides=((1, 1, 1), (2, 2, 2)), kv_strides=((3, 4, 4), (2, 2, 2))
    )
    theirs, ours = torchvision_of(**settings(**case)).double().eval(), MViT(**settings(**case)).double().eval()
    randomise(theirs, seed=1)
    weights, name = from_torchvision(theirs.state_dict()), "blocks.1.attn.rel_pos_t"
    assert weights[name].shape == (11, 12)  # six times
    assert ours.state_dict()[name].shape == (5, 12)  # three
    weights[name] = F.interpolate(weights[name].T[None], size=5, mode="linear")[0].T
    ours.load_state_dict(weights, strict=True)
    video = clips(case, torch.float64)
    torch.testing.assert_close(ours(video), theirs(video), rtol=0, atol=1e-9)


@versions
def test_the_rates_of_drop_path_are_those_of_torchvision(theirs, version):
    with torch.device("meta"):
        reference, ours = theirs(weights=None), MViT(400, 16, 224, **version)
    rates = [block.drop_path.rate for block in ours.blocks]
    assert rates == pytest.approx([block.stochastic_depth.p for block in reference.blocks])
    assert (rates[0], rates[-1]) == (0.0, pytest.approx(0.2))
