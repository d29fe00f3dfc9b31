"""Weights of a model that is read by its class token, into one with an attentive readout."""

from functools import partial

import pytest
import torch
from transformers import VivitConfig, VivitForVideoClassification

from tubelet.layers.readout import Attentive, ClassToken, Mean, NormedMean
from tubelet.models.mvit import MViT
from tubelet.models.vivit import FactorisedEncoder, Joint
from tubelet.weights.pretrained import load_pretrained

CLIP = dict(num_classes=5, num_frames=4, crop=(8, 12))
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
NEW = "as at the start of training: a readout that these weights do not have"
NEW_HEAD = "for 5 classes, as at the start of training: its readout is new"
STRIDES = dict(q_strides=[(1, 1, 1), (1, 2, 2)], kv_strides=[(1, 1, 1)] * 2)
MODELS = {
    "encoder.": partial(Joint, **CLIP, tubelet=(2, 4, 4), dim=12, depth=1, heads=2),
    "time.": partial(FactorisedEncoder, **CLIP, tubelet=(2, 4, 4), dim=12, depth=1, time_depth=2, heads=2),
    "": partial(MViT, **CLIP, dim=12, depths=(1, 1), **STRIDES),
}


def node(kind, readout, **arguments):
    named = {"_target_": f"tubelet.layers.readout.{readout.__name__}", "_partial_": True, **arguments}
    return {"_target_": f"{kind.func.__module__}.{kind.func.__name__}", "readout": named}


def of_run(folder, kind, readout):
    """(model, the node that starts another model from its checkpoint)."""
    torch.manual_seed(1)
    model = kind(readout=readout)
    config = {"model": node(kind, readout), "clip": HALF | {"num_frames": 4, "crop": [8, 12]}}
    state = {f"predictor.model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "tubelet": {"config": config, "classes": list("abcde")}}, folder / "best.ckpt")
    return model, {"pretrained": str(folder / "best.ckpt")}


@pytest.mark.parametrize("stem", MODELS)
def test_the_backbone_is_loaded_whole_and_readout_and_head_are_new(stem, tmp_path):
    theirs, asked = of_run(tmp_path, MODELS[stem], ClassToken)
    ours = MODELS[stem](readout=Attentive)
    account = load_pretrained(ours, asked | node(MODELS[stem], Attentive), HALF, classes=list("abcde"))
    parts = [f"{stem}readout.{name}" for name in ("query", "norm1", "q", "kv", "proj", "norm2", "mlp.fc1", "mlp.fc2")]
    assert account.record()["new"] == {NEW: parts, NEW_HEAD: ["head"]}
    assert (account.resized, account.unused, account.notes) == ({}, {}, [])
    backbone = {name: value for name, value in ours.state_dict().items() if name in theirs.state_dict()}
    assert account.loaded == [name for name in backbone if not name.startswith("head.")]
    for name in account.loaded:
        assert torch.equal(backbone[name], theirs.state_dict()[name]), name
    assert {f"{stem}cls_token"} <= set(account.loaded)


def test_a_trained_probe_is_loaded_with_its_readout_and_head(tmp_path):
    theirs, asked = of_run(tmp_path, MODELS["time."], Attentive)
    ours = MODELS["time."](readout=Attentive)
    account = load_pretrained(ours, asked | node(MODELS["time."], Attentive), HALF, classes=list("abcde"))
    assert (account.new, account.unused) == ({}, {})
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_without_a_class_token_in_the_model_that_of_the_weights_is_told(tmp_path):
    _, asked = of_run(tmp_path, MODELS["encoder."], ClassToken)
    ours = MODELS["encoder."](readout=partial(Attentive, class_token=False))
    account = load_pretrained(ours, asked | node(MODELS["encoder."], Attentive, class_token=False), HALF)
    why = "the model has no class token; nor is its row of positions used"
    assert account.unused == {why: ["cls_token"]}


def test_weights_without_a_class_token_name_the_argument_that_leaves_it_out(tmp_path):
    _, asked = of_run(tmp_path, MODELS["encoder."], Mean)
    message = r"has no class token, and the model reads one out; type \+model.readout.class_token=false"
    with pytest.raises(ValueError, match=message):
        load_pretrained(MODELS["encoder."](readout=Attentive), asked | node(MODELS["encoder."], Attentive), HALF)
    ours = MODELS["encoder."](readout=partial(Attentive, class_token=False))
    account = load_pretrained(ours, asked | node(MODELS["encoder."], Attentive, class_token=False), HALF)
    assert (list(account.new), account.unused) == ([NEW, NEW_HEAD], {})


def test_a_norm_after_the_mean_is_not_taken_for_one_before_the_readout(tmp_path):
    _, asked = of_run(tmp_path, MODELS["encoder."], NormedMean)
    with pytest.raises(ValueError, match=r"its model has readout=.*NormedMean.*, this one .*Attentive"):
        load_pretrained(MODELS["encoder."](readout=Attentive), asked | node(MODELS["encoder."], Attentive), HALF)


def test_published_weights_start_a_probe_too(tmp_path):
    sizes = dict(hidden_size=12, num_attention_heads=2, intermediate_size=48, num_labels=5, num_hidden_layers=1)
    config = VivitConfig(num_frames=4, image_size=8, tubelet_size=[2, 4, 4], **sizes)
    VivitForVideoClassification(config).save_pretrained(tmp_path)
    ours = Joint(5, 4, 8, (2, 4, 4), dim=12, depth=1, heads=2, readout=Attentive)
    account = load_pretrained(ours, {"pretrained": str(tmp_path)}, HALF)
    assert (list(account.new), account.unused, len(account.loaded)) == ([NEW, NEW_HEAD], {}, 18)
