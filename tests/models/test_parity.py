"""Our models against those of transformers 5: the same weights give the same logits and the same gradients.

Their models are built from a config with random weights; nothing is fetched. Letters: B clips, C channels, T frames,
H W pixels.
"""

import pytest
import torch
from torch import nn
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
)
from transformers.models.timesformer.modeling_timesformer import TimesformerDropPath

from tubelet.models.timesformer import Divided
from tubelet.models.vivit import Joint

# A float64 run leaves only mistakes: rounding is 1e-15, and transformers' gelu_fast, a constant of ten digits, costs
# 1e-12. float32 is what people run; it rounds at 1e-6.
PRECISIONS = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])

# Their names and ours, replaced in this order.
VIVIT_NAMES = {
    "vivit.embeddings.cls_token": "encoder.cls_token",
    "vivit.embeddings.position_embeddings": "encoder.pos_embed.table",
    "vivit.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "vivit.layernorm.": "encoder.norm.",
    "vivit.layers.": "encoder.blocks.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".attention.o_proj.": ".attn.proj.",
    "classifier.": "head.",
}
TIMESFORMER_NAMES = {
    "timesformer.embeddings.cls_token": "cls_token",
    "timesformer.embeddings.position_embeddings": "pos_embed.space",
    "timesformer.embeddings.time_embeddings": "pos_embed.time",
    "timesformer.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "timesformer.layernorm.": "norm.",
    "timesformer.encoder.layer.": "blocks.",
    ".temporal_layernorm.": ".temporal_norm1.",
    ".temporal_attention.attention.qkv.": ".temporal_attn.qkv.",
    ".temporal_attention.output.dense.": ".temporal_attn.proj.",
    ".temporal_dense.": ".temporal_fc.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".attention.attention.qkv.": ".attn.qkv.",
    ".attention.output.dense.": ".attn.proj.",
    ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
    "classifier.": "head.",
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rename(theirs, names):
    """A dict with our names. Raises AssertionError where two of theirs become one."""
    ours = {}
    for name, value in theirs.items():
        for old, new in names.items():
            name = name.replace(old, new)
        assert name not in ours, f"two parameters become {name}"
        ours[name] = value
    return ours


def from_vivit(theirs):
    """Their state dict, or gradients by the same names -> ours: renamed, with q, k and v stacked into one matrix."""
    ours = rename(theirs, VIVIT_NAMES)
    for name in [name for name in ours if ".attention.q_proj." in name]:
        parts = [ours.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        ours[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return ours


def from_timesformer(theirs):
    """Their state dict, or gradients by the same names -> ours: renamed, with a frame axis for the patch's kernel."""
    ours = rename(theirs, TIMESFORMER_NAMES)
    ours["patch_embed.proj.weight"] = ours["patch_embed.proj.weight"].unsqueeze(2)  # (D, C, 1, p, p)
    return ours


def randomise(model, seed):
    """Fill every parameter, zero-initialised ones and norms too, with values that keep activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.25, generator=generator)
            if "layernorm" in name and name.endswith("weight"):
                parameter.add_(1.0)


def vivit_pair(num_frames, depth, dtype):
    """(theirs, ours) with the same weights; tokens (num_frames / 2, 3, 3)."""
    shape = dict(num_hidden_layers=depth, hidden_size=20, num_attention_heads=4, intermediate_size=50)
    config = VivitConfig(num_frames=num_frames, image_size=12, tubelet_size=[2, 4, 4], num_labels=7, **shape)
    theirs = VivitForVideoClassification(config).to(dtype).eval()
    randomise(theirs, seed=1)
    ours = Joint(7, num_frames, 12, tubelet=(2, 4, 4), dim=20, depth=depth, heads=4, mlp_ratio=2.5).to(dtype).eval()
    ours.load_state_dict(from_vivit(theirs.state_dict()), strict=True)
    return theirs, ours


def timesformer_pair(num_frames, depth, dtype):
    """(theirs, ours) with the same weights; tokens (num_frames, 3, 3)."""
    shape = dict(num_hidden_layers=depth, hidden_size=20, num_attention_heads=4, intermediate_size=50)
    config = TimesformerConfig(
        num_frames=num_frames, image_size=12, patch_size=4, num_labels=7, attention_type="divided_space_time", **shape
    )
    theirs = TimesformerForVideoClassification(config).to(dtype).eval()
    randomise(theirs, seed=1)
    ours = Divided(7, num_frames, 12, patch=4, dim=20, depth=depth, heads=4, mlp_ratio=2.5).to(dtype).eval()
    ours.load_state_dict(from_timesformer(theirs.state_dict()), strict=True)
    return theirs, ours


def clips(num_frames, dtype):
    """Two clips (B, C, T, H, W)."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, num_frames, 12, 12, dtype=dtype, generator=generator).requires_grad_()


MODELS = pytest.mark.parametrize(
    ("pair", "convert"),
    [
        pytest.param(vivit_pair, from_vivit, id="vivit"),
        pytest.param(timesformer_pair, from_timesformer, id="timesformer"),
    ],
)
SIZES = pytest.mark.parametrize(("num_frames", "depth"), [(4, 1), (10, 3)])


@PRECISIONS
@SIZES
@MODELS
def test_logits_equal_those_of_transformers(pair, convert, num_frames, depth, dtype, atol):
    theirs, ours = pair(num_frames, depth, dtype)
    video = clips(num_frames, dtype)
    with torch.no_grad():
        mine, reference = ours(video), theirs(video.transpose(1, 2)).logits
    assert reference.shape == (2, 7)
    assert reference.std() > 0.1  # logits of no size would agree by being small
    torch.testing.assert_close(mine, reference, rtol=0, atol=atol)


@SIZES
@MODELS
def test_gradients_of_the_clip_and_of_every_parameter_equal_those_of_transformers(pair, convert, num_frames, depth):
    theirs, ours = pair(num_frames, depth, torch.float64)
    video = clips(num_frames, torch.float64)
    label = torch.tensor([2, 5])

    nn.functional.cross_entropy(theirs(video.transpose(1, 2)).logits, label).backward()
    of_video, video.grad = video.grad, None
    of_parameters = convert({name: parameter.grad for name, parameter in theirs.named_parameters()})
    nn.functional.cross_entropy(ours(video), label).backward()

    # As for the logits in float64.
    torch.testing.assert_close(video.grad, of_video, rtol=0, atol=1e-9)
    mine = {name: parameter.grad for name, parameter in ours.named_parameters()}
    torch.testing.assert_close(mine, of_parameters, rtol=0, atol=1e-9)
    assert all(grad.abs().max() > 1e-4 for grad in mine.values())  # nothing agrees by being zero


def test_timesformer_drops_the_paths_that_transformers_drops():
    """From one seed both draw the same numbers, if ours draws per place, then per frame, then per clip, as theirs."""
    theirs, ours = timesformer_pair(6, 3, torch.float32)
    for block, layer, rate in zip(ours.blocks, theirs.timesformer.encoder.layer, [0.0, 0.25, 0.5], strict=True):
        block.drop_path.rate = block.drop_part.rate = rate
        layer.drop_path = TimesformerDropPath(rate)  # their config takes whole numbers only
    video = clips(6, torch.float32)
    with torch.no_grad():
        undropped = ours(video)
        torch.manual_seed(3)
        mine = ours.train()(video)
        torch.manual_seed(3)
        reference = theirs.train()(video.transpose(1, 2)).logits
    assert (mine - undropped).abs().max() > 0.1
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5)  # float32 rounds at 1e-6
