"""Our models against those of transformers 5: the same weights give the same logits and the same gradients.

Their models are built from a config with random weights and saved as their library saves them; ours read that folder
as a user's `model.pretrained=folder` does. Nothing is fetched. Letters: B clips, C channels, T frames, H W pixels.
"""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
)
from transformers.models.timesformer.modeling_timesformer import TimesformerDropPath

from tubelet.layers.readout import NormedMean
from tubelet.models.timesformer import Divided, JointSpaceTime, SpaceOnly
from tubelet.models.vivit import Joint
from tubelet.weights.pretrained import load_pretrained
from tubelet.weights.start import start_from
from tubelet.weights.understand import understand

# A float64 run leaves only mistakes: rounding is 1e-15, and transformers' gelu_fast, a constant of ten digits, costs
# 1e-12. float32 is what people run; it rounds at 1e-6.
PRECISIONS = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
KINETICS = {"mean": [0.45] * 3, "std": [0.225] * 3}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
WIDTH = dict(hidden_size=20, num_attention_heads=4, intermediate_size=50, num_labels=7)
OURS = dict(dim=20, heads=4, mlp_ratio=2.5)


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
            parameter.normal_(std=0.25, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)


def vivit(num_frames, size, depth):
    """(theirs, ours, the clip's normalisation); tokens (num_frames / 2, size / 4, size / 4)."""
    shape = dict(num_frames=num_frames, image_size=size, tubelet_size=[2, 4, 4], num_hidden_layers=depth)
    theirs = VivitForVideoClassification(VivitConfig(**shape, **WIDTH))
    return theirs, Joint(7, num_frames, size, tubelet=(2, 4, 4), depth=depth, **OURS), HALF


def videomae(num_frames, size, depth):
    """As above. Their norms have other eps (the last one 1e-5) than the official models, whose eps is ours."""
    shape = dict(num_frames=num_frames, image_size=size, tubelet_size=2, patch_size=4, num_hidden_layers=depth)
    theirs = VideoMAEForVideoClassification(VideoMAEConfig(**shape, **WIDTH, layer_norm_eps=1e-6))
    theirs.fc_norm.eps = 1e-6
    ours = Joint(7, num_frames, size, tubelet=(2, 4, 4), depth=depth, readout=NormedMean, exact_gelu=True, **OURS)
    return theirs, ours, IMAGENET


def timesformer(attention_type, target):
    """A function as above; tokens (num_frames, size / 4, size / 4)."""

    def pair(num_frames, size, depth):
        shape = dict(num_frames=num_frames, image_size=size, patch_size=4, num_hidden_layers=depth)
        config = TimesformerConfig(**shape, **WIDTH, attention_type=attention_type)
        return (
            TimesformerForVideoClassification(config),
            target(7, num_frames, size, (1, 4, 4), depth=depth, **OURS),
            KINETICS,
        )

    return pair


def started(pair, sizes, dtype, folder, accept=()):
    """(theirs, ours) with the same weights, which ours has read from the folder that theirs has saved."""
    theirs, ours, clip = pair(*sizes)
    theirs, ours = theirs.to(dtype).eval(), ours.to(dtype).eval()
    randomise(theirs, seed=1)
    theirs.save_pretrained(folder)
    account = load_pretrained(ours, {"pretrained": str(folder), "accept": accept}, clip)
    assert account.new == account.unused == account.resized == {} or pair is videomae
    return theirs, ours


def answer(theirs, video):
    """(B, C, T, H, W) -> logits (B, classes) of theirs.

    Of space-only attention their class gives logits for each frame. The official code averages the frames before the
    last norm, and so do we: tests/golden.
    """
    config = theirs.config
    if getattr(config, "attention_type", None) != "space_only":
        return theirs(video.transpose(1, 2)).logits
    parts = theirs.timesformer
    frames = parts.encoder(parts.embeddings(video.transpose(1, 2))).last_hidden_state[:, 0]  # (B * T, D)
    return theirs.classifier(parts.layernorm(frames.unflatten(0, (len(video), -1)).mean(1)))


def clips(num_frames, size, dtype):
    """Two clips (B, C, T, H, W)."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, num_frames, size, size, dtype=dtype, generator=generator).requires_grad_()


DIVIDED = timesformer("divided_space_time", Divided)
MODELS = pytest.mark.parametrize(
    "pair",
    [
        pytest.param(vivit, id="vivit"),
        pytest.param(videomae, id="videomae"),
        pytest.param(DIVIDED, id="timesformer-divided"),
        pytest.param(timesformer("joint_space_time", JointSpaceTime), id="timesformer-joint"),
        pytest.param(timesformer("space_only", SpaceOnly), id="timesformer-space-only"),
    ],
)
SIZES = pytest.mark.parametrize("sizes", [(4, 12, 1), (10, 8, 3)], ids=["4x12", "10x8"])


@PRECISIONS
@SIZES
@MODELS
def test_logits_equal_those_of_transformers(pair, sizes, dtype, atol, tmp_path):
    theirs, ours = started(pair, sizes, dtype, tmp_path)
    video = clips(*sizes[:2], dtype)
    with torch.no_grad():
        mine, reference = ours(video), answer(theirs, video)
    assert reference.shape == (2, 7)
    assert reference.std() > 0.1  # logits of no size would agree by being small
    torch.testing.assert_close(mine, reference, rtol=0, atol=atol)


@SIZES
@MODELS
def test_gradients_of_the_clip_and_of_every_parameter_equal_those_of_transformers(pair, sizes, tmp_path):
    theirs, ours = started(pair, sizes, torch.float64, tmp_path)
    video = clips(*sizes[:2], torch.float64)
    label = torch.tensor([2, 5])

    nn.functional.cross_entropy(answer(theirs, video), label).backward()
    of_video, video.grad = video.grad, None
    expected = copy.deepcopy(ours)  # holds their gradients as if they were weights, so the converter names them
    gradients = understand({name: p.grad for name, p in theirs.named_parameters() if p.grad is not None})
    start_from(expected, gradients, accept=("frames", "crop"))
    nn.functional.cross_entropy(ours(video), label).backward()

    # As for the logits in float64.
    torch.testing.assert_close(video.grad, of_video, rtol=0, atol=1e-9)
    # VideoMAE's positions are fixed in theirs, and have no gradient there.
    mine = {name: p.grad for name, p in ours.named_parameters() if pair is not videomae or "pos_embed" not in name}
    reference = {name: p.data for name, p in expected.named_parameters() if name in mine}
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-9)
    assert all(grad.abs().max() > 1e-4 for grad in mine.values())  # nothing agrees by being zero


def test_the_names_of_version_5_in_memory_and_of_version_4_in_files_give_the_same_weights(tmp_path):
    """Their library renames parameters when it saves, so that files stay as they were."""
    theirs, ours = started(vivit, (4, 12, 2), torch.float64, tmp_path)
    again = Joint(7, 4, 12, tubelet=(2, 4, 4), depth=2, **OURS).double()
    in_file = load_pretrained(again, {"pretrained": str(tmp_path)}, HALF)
    in_memory = start_from(again, understand(theirs.state_dict()))
    assert in_file.layout == "transformers' ViViT (version 4)"
    assert in_memory.layout == "transformers' ViViT (version 5)"
    torch.testing.assert_close(again.state_dict(), ours.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("rows", "times"), [(4, 6), (9, 3), (16, 2)])
def test_timesformers_positions_of_another_size_are_resampled_as_transformers_does(rows, times, tmp_path):
    theirs, ours, clip = DIVIDED(4, 20, 2)
    embeddings = theirs.timesformer.embeddings
    embeddings.position_embeddings = nn.Parameter(torch.empty(1, 1 + rows, 20))
    embeddings.time_embeddings = nn.Parameter(torch.empty(1, times, 20))
    theirs, ours = theirs.double().eval(), ours.double().eval()
    randomise(theirs, seed=1)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    node = {"pretrained": str(tmp_path / "weights.pth"), "accept": ["frames", "crop"]}
    account = load_pretrained(ours, node, clip)
    assert len(account.resized) == 2
    video = clips(4, 20, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(video), answer(theirs, video), rtol=0, atol=1e-9)


def test_timesformer_drops_the_paths_that_transformers_drops(tmp_path):
    """From one seed both draw the same numbers, if ours draws per place, then per frame, then per clip, as theirs."""
    theirs, ours = started(DIVIDED, (6, 12, 3), torch.float32, tmp_path)
    for block, layer, rate in zip(ours.blocks, theirs.timesformer.encoder.layer, [0.0, 0.25, 0.5], strict=True):
        block.drop_path.rate = block.drop_part.rate = rate
        layer.drop_path = TimesformerDropPath(rate)  # their config takes whole numbers only
    video = clips(6, 12, torch.float32)
    with torch.no_grad():
        undropped = ours(video)
        torch.manual_seed(3)
        mine = ours.train()(video)
        torch.manual_seed(3)
        reference = theirs.train()(video.transpose(1, 2)).logits
    assert (mine - undropped).abs().max() > 0.1
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5)  # float32 rounds at 1e-6
