"""Letters: B sequences, N tokens, D width, d = D / heads. All sizes differ."""

from functools import partial

import pytest
import torch
from torch import nn

from tubelet.layers.readout import Attentive, ClassToken, Mean, NormedMeanOfPatches
from tubelet.models.mvit import MViT
from tubelet.models.vivit import FactorisedEncoder, Joint
from tubelet.training.groups import layers, train_only

B, N, D, HEADS = 2, 5, 12, 3
CLIP = dict(num_classes=7, num_frames=4, crop=(8, 20))  # tubelets of 2x4x4: t=2, h=2, w=5
MODELS = {
    "encoder.readout": partial(Joint, **CLIP, tubelet=(2, 4, 4), dim=D, depth=2, heads=HEADS, drop_path=0.5),
    "time.readout": partial(
        FactorisedEncoder, **CLIP, tubelet=(2, 4, 4), dim=D, depth=2, time_depth=1, heads=HEADS, drop_path=0.5
    ),
    "readout": partial(
        MViT, **CLIP, dim=D, depths=(1, 2), q_strides=[(1, 1, 1), (1, 2, 2)], kv_strides=[(1, 1, 1)] * 2, heads=HEADS
    ),
}


@pytest.mark.parametrize("heads", [1, HEADS])
def test_the_query_reads_the_softmax_weighted_sum_of_the_tokens(heads):
    """With identity for every matrix and norm and an MLP that adds nothing: q + sum_n softmax(q . x_n / sqrt d) x_n, of
    each head on its own channels."""
    torch.manual_seed(0)
    readout = Attentive(D, heads).double()
    with torch.no_grad():
        readout.query.normal_()
        for layer, times in ((readout.q, 1), (readout.kv, 2), (readout.proj, 1)):
            layer.weight.copy_(torch.eye(D).repeat(times, 1))
        readout.mlp.fc2.weight.zero_()
    readout.norm1 = nn.Identity()
    x, q = torch.randn(B, N, D, dtype=torch.float64), readout.query[0, 0]
    d = D // heads
    expected = q.expand(B, -1).clone()
    for i in range(heads):
        own = slice(i * d, (i + 1) * d)
        weights = (x[..., own] @ q[own] / d**0.5).softmax(-1)  # (B, N)
        expected[:, own] += (weights[..., None] * x[..., own]).sum(1)
    torch.testing.assert_close(readout(x, nn.Identity()), expected, rtol=0, atol=1e-12)


def test_the_models_norm_comes_first_and_the_mlp_adds_to_what_was_read():
    torch.manual_seed(0)
    readout, norm = Attentive(D, HEADS).double(), nn.LayerNorm(D).double()
    for parameter in (*readout.parameters(), *norm.parameters()):
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(B, N, D, dtype=torch.float64)
    assert torch.equal(readout(x, norm), readout(norm(x), nn.Identity()))
    assert not torch.allclose(readout(x, norm), readout(x, nn.Identity()), atol=0.1)
    nn.init.zeros_(readout.proj.weight)
    y = readout.query[0] + readout.proj.bias  # what is read of no value at all
    torch.testing.assert_close(readout(x, norm), (y + readout.mlp(readout.norm2(y))).expand(B, -1))


def test_heads_are_of_64_channels_unless_told():
    assert [Attentive(dim).heads for dim in (12, 64, 100, 768)] == [1, 1, 1, 12]
    assert Attentive(768, heads=8).heads == 8
    with pytest.raises(ValueError, match=r"model.readout: heads=5 does not divide the width 12"):
        Attentive(12, heads=5)


@pytest.mark.parametrize("name", MODELS)
def test_in_every_model_it_starts_as_in_v_jepa(name):
    torch.manual_seed(0)
    readout = MODELS[name](readout=partial(Attentive, mlp_ratio=32.0)).get_submodule(name)
    size = readout.query.shape[-1]
    assert readout.query.std().item() == pytest.approx(0.02, rel=0.6)  # of few values
    assert readout.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert readout.mlp.fc2.weight.std().item() == pytest.approx(0.02 / 2**0.5, rel=0.05)
    assert readout.proj.weight.std().item() == pytest.approx(0.02 / 2**0.5, rel=0.2)
    assert torch.equal(readout.norm1.weight, torch.ones(size))
    biases = [parameter.abs().max() for part, parameter in readout.named_parameters() if part.endswith("bias")]
    assert biases == [0.0] * 7


def test_in_the_factorised_encoder_frames_are_read_as_without_it():
    with_token, without = (MODELS["time.readout"](readout=partial(Attentive, class_token=has)) for has in (True, False))
    assert [type(model.space.readout) for model in (with_token, without)] == [ClassToken, Mean]
    assert type(MODELS["time.readout"](readout=NormedMeanOfPatches).space.readout) is NormedMeanOfPatches
    assert (with_token.time.cls_token is None, without.time.cls_token is None) == (False, True)


@pytest.mark.parametrize("name", MODELS)
def test_an_attentive_probe_trains_its_readout_and_head_alone_and_the_rest_stays_to_the_bit(name):
    torch.manual_seed(0)
    model = MODELS[name](readout=Attentive)
    for parameter in model.parameters():  # nothing zero, so that every gradient would show
        nn.init.normal_(parameter, std=0.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train_only(model, [name, "head"])
    trained = {key for key, _ in model.named_parameters() if key.startswith((f"{name}.", "head."))}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(torch.randn(B, 3, 4, 8, 20)).square().sum().backward()
        optimizer.step()
    assert {key for key, p in model.named_parameters() if p.grad is not None} == trained
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == trained
    modes = {part for part, module in model.named_modules() if module.training}
    assert modes == {"head"} | {part for part, _ in model.named_modules() if f"{part}.".startswith(f"{name}.")}


@pytest.mark.parametrize("name", MODELS)
def test_layer_wise_decay_takes_it_for_what_comes_after_the_last_block(name):
    depths, last = layers(MODELS[name](readout=Attentive))
    assert {depths[key] for key in depths if key.startswith(f"{name}.")} == {last}
