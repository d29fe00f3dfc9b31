"""MViT's published layouts, told apart by their names and loaded as `model.pretrained` loads them."""

import json
import re

import numpy as np
import pytest
import torch
from golden import FILES, model_of
from omegaconf import OmegaConf
from torchvision.models.video import mvit_v1_b, mvit_v2_s

from tubelet.models.vivit import Joint
from tubelet.training.build import build_model
from tubelet.training.launch import compose_config
from tubelet.weights.pretrained import load_pretrained
from tubelet.weights.source import PATCHES, Source
from tubelet.weights.start import start_from
from tubelet.weights.understand import understand

THEIRS = pytest.mark.parametrize(("name", "theirs"), [("mvit_v1_b", mvit_v1_b), ("mvit_v2_s", mvit_v2_s)])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@torch.no_grad()
def test_recorded_weights_of_slowfast_give_the_recorded_logits(file):
    arrays = np.load(file)
    model = model_of(json.loads(str(arrays["meta"])))
    state = {k.removeprefix("param/"): torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith("param/")}
    account = start_from(model, understand(state))
    assert (account.layout, account.new, account.resized, account.unused) == ("SlowFast's MViT", {}, {}, {})
    logits = model.double()(torch.from_numpy(arrays["input"]).double())
    torch.testing.assert_close(logits, torch.from_numpy(arrays["logits"]).double(), rtol=0, atol=1e-6)


def of_config(name, num_classes, *overrides):
    cfg = compose_config("train", ["data=motion", f"model={name}", "run_dir=x", "name=x", *overrides])
    return build_model(cfg.model, num_classes)


@THEIRS
def test_torchvisions_models_load_whole(name, theirs):
    account = start_from(of_config(name, 400), understand(theirs().state_dict()))
    assert (account.layout, account.new, account.resized, account.unused) == ("torchvision's MViT", {}, {}, {})


@THEIRS
def test_another_clip_is_resampled_only_when_meant(name, theirs):
    model, source = of_config(name, 5, "clip.num_frames=8", "clip.crop=160"), understand(theirs().state_dict())
    account = start_from(model, source, accept=("frames", "crop"))
    assert account.resized
    assert list(account.new) == ["for 5 classes, as at the start of training: theirs has 400"]


@pytest.mark.parametrize(
    ("accepted", "message"),
    [
        ("frames", "rel_pos_h has 111 rows, the model's 79; type clip.crop=224, or model.accept=[crop]"),
        (
            "crop",
            "rel_pos_t has 15 rows, the model's 7; type clip.num_frames=16, or model.accept=[frames]",
        ),
    ],
)
def test_accepting_other_frames_accepts_no_other_crop(accepted, message):
    model = of_config("mvit_v2_s", 5, "clip.num_frames=8", "clip.crop=160")
    source = understand(mvit_v2_s().state_dict())
    with pytest.raises(ValueError, match=f"^{re.escape(f'its blocks.0.attn.{message} to resample it')}$"):
        start_from(model, source, accept=[accepted])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.heads=2", "its heads have 96 channels, the model's 48; type the model.heads of the weights"),
        (
            "model.q_strides=[[1,1,1],[1,2,2],[2,2,2],[1,2,2]]",
            "its blocks.4.attn.rel_pos_t has 15 rows, the model's 7, but as many in the first block: "
            "the clip is the same, the pooling is not; type the model.q_strides of the weights",
        ),
    ],
)
def test_other_heads_and_other_pooling_are_not_taken_for_another_clip(override, message):
    source = understand(mvit_v2_s().state_dict())
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(of_config("mvit_v2_s", 400, override), source, accept=("frames", "crop"))


def test_weights_without_pooling_are_refused_without_an_override_that_could_not_help():
    source = Source("timm's image ViT", {PATCHES: torch.ones(192, 3, 16, 16)}, models="some", image=True)
    message = "MViT has no tubelet, so it cannot take weights of timm's image ViT; those that can: some"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(of_config("mvit_v2_s", 400), source)


def test_weights_of_other_strides_are_taken_only_where_that_is_meant(tmp_path):
    """A kernel fits every stride: without the check, MViT v1 would load and compute something else."""
    changed = "model.kv_strides=[[1,8,8],[2,4,4],[2,2,2],[2,1,1]]"
    cfg = compose_config("train", ["data=motion", "model=mvit_v1_b", "run_dir=x", "name=x", changed])
    torch.save(mvit_v1_b().state_dict(), tmp_path / "v1_b.pth")
    node = OmegaConf.to_container(cfg.model) | {"pretrained": str(tmp_path / "v1_b.pth")}
    clip = OmegaConf.to_container(cfg.clip)
    message = (
        "trained with kv_strides=[[1,8,8],[1,4,4],[1,2,2],[1,1,1]], and this model has "
        "[[1,8,8],[2,4,4],[2,2,2],[2,1,1]]; type model.kv_strides=[[1,8,8],[1,4,4],[1,2,2],[1,1,1]], "
        "or model.accept=[strides] if others are meant"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pretrained(of_config("mvit_v1_b", 400, changed), node, clip)
    account = load_pretrained(of_config("mvit_v1_b", 400, changed), node | {"accept": ["strides"]}, clip)
    assert (account.new, account.resized, account.unused) == ({}, {}, {})


def test_v2s_tables_are_resampled_where_other_strides_are_meant(tmp_path):
    """The override that the refusal advises helps in MViTv2 as well, whose tables follow the strides."""
    changed = "model.q_strides=[[1,1,1],[1,2,2],[2,2,2],[1,2,2]]"
    cfg = compose_config("train", ["data=motion", "model=mvit_v2_s", "run_dir=x", "name=x", changed])
    torch.save(mvit_v2_s().state_dict(), tmp_path / "v2_s.pth")
    node = OmegaConf.to_container(cfg.model) | {"pretrained": str(tmp_path / "v2_s.pth"), "accept": ["strides"]}
    account = load_pretrained(of_config("mvit_v2_s", 400, changed), node, OmegaConf.to_container(cfg.clip))
    assert list(account.resized) == ["relative positions, linear"]
    assert (account.new, account.unused) == ({}, {})


def v2_s_into(tmp_path, *overrides):
    """What loading torchvision's mvit_v2_s into ours with these overrides gives."""
    cfg = compose_config("train", ["data=motion", "model=mvit_v2_s", "run_dir=x", "name=x", *overrides])
    torch.save(mvit_v2_s().state_dict(), tmp_path / "v2_s.pth")
    node = OmegaConf.to_container(cfg.model, resolve=True) | {"pretrained": str(tmp_path / "v2_s.pth")}
    return load_pretrained(of_config("mvit_v2_s", 400, *overrides), node, OmegaConf.to_container(cfg.clip))


def test_patches_at_another_stride_than_published_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"trained with patch_stride=\[2,4,4\], and this model has \[1,4,4\]"):
        v2_s_into(tmp_path, "model.patch_stride=[1,4,4]", "clip.num_frames=8")


def test_another_readout_than_published_is_told(tmp_path):
    account = v2_s_into(tmp_path, "model.readout._target_=tubelet.layers.readout.NormedMeanOfPatches")
    told = "published ones are read out by the class token, this model by NormedMeanOfPatches"
    assert told in account.notes


def test_mvits_weights_are_no_other_models():
    with pytest.raises(ValueError, match=r"Joint has no q_strides, so it cannot take weights of torchvision's MViT"):
        start_from(Joint(7, 16, 224, dim=96, depth=1, heads=2), understand(mvit_v2_s().state_dict()))
