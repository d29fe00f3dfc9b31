"""`model.pretrained=...`: where weights are found, and what is told where they are not for this run."""

import hashlib
import http.server
import json
import re
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg
from torchvision.models.video import MViT_V1_B_Weights, MViT_V2_S_Weights
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
)

from tubelet.layers.readout import Mean, NormedMean
from tubelet.models.timesformer import Divided, JointSpaceTime, SpaceOnly
from tubelet.models.vivit import FactorisedAttention, FactorisedEncoder, Joint
from tubelet.models.vivit_compressed import Compressed, FewTokens
from tubelet.training.launch import compose_config, config_dir
from tubelet.weights import fetch
from tubelet.weights.catalogue import CATALOGUE, Published
from tubelet.weights.pretrained import load_pretrained

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
KINETICS = {"mean": [0.45] * 3, "std": [0.225] * 3}
WIDTH = dict(hidden_size=12, num_attention_heads=2, intermediate_size=24, num_labels=5, num_hidden_layers=1)
OURS = dict(dim=12, depth=1, heads=2, mlp_ratio=2.0)
JOINT = {"_target_": "tubelet.models.vivit.Joint", "dim": 12, "heads": 2}


def joint(num_classes=5, num_frames=4, crop=8):
    return Joint(num_classes, num_frames, crop, (2, 4, 4), **OURS)


@pytest.fixture(scope="module")
def vivit(tmp_path_factory):
    """A folder as transformers saves it; tokens (2, 2, 2)."""
    folder = tmp_path_factory.mktemp("vivit")
    config = VivitConfig(num_frames=4, image_size=8, tubelet_size=[2, 4, 4], **WIDTH)
    VivitForVideoClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def timesformer(tmp_path_factory):
    """A file as the official code saves it, with official names; tokens (3, 2, 2)."""
    path = tmp_path_factory.mktemp("timesformer") / "TimeSformer.pyth"
    theirs = Divided(5, 3, 8, (1, 4, 4), **OURS).state_dict()
    theirs["pos_embed"], theirs["time_embed"] = theirs.pop("pos_embed.space"), theirs.pop("pos_embed.time")
    torch.save({"epoch": 14, "model_state": {f"model.{name}": value for name, value in theirs.items()}}, path)
    return path


def told(error, model, node, clip):
    with pytest.raises(error) as caught:
        load_pretrained(model, node, clip)
    return str(caught.value)


def test_a_folder_of_transformers_starts_a_model_and_the_account_says_so(vivit):
    account = load_pretrained(joint(), {"pretrained": str(vivit)}, HALF)
    note = "the head is theirs: the classes of the data must be in the publisher's order"
    assert account.lines() == ["loaded   20 parameters of transformers' ViViT (version 4)", f"note     {note}"]
    assert account.record() == {
        "layout": "transformers' ViViT (version 4)",
        **{"loaded": 20, "resized": {}, "new": {}, "unused": {}, "notes": [note]},
    }


def test_a_head_of_another_size_is_replaced_and_said_so(vivit):
    model = joint(num_classes=9)
    account = load_pretrained(model, {"pretrained": str(vivit)}, HALF)
    assert account.lines()[1:] == ["new      head: for 9 classes, as at the start of training: theirs has 5"]
    assert model.head.weight.abs().max() == 0


def test_positions_of_another_clip_are_resampled_only_when_that_is_meant(vivit):
    node = {"pretrained": str(vivit)}
    assert told(ValueError, joint(num_frames=6), node, HALF) == (
        f"model.pretrained={vivit}: the weights were trained with clip.num_frames=4, and this run has 6; "
        "type clip.num_frames=4, or model.accept=[frames] to resample their positions"
    )
    assert told(ValueError, joint(crop=(8, 12)), node | {"accept": ["frames"]}, HALF) == (
        f"model.pretrained={vivit}: the weights were trained with clip.crop=8, and this run has [8,12]; "
        "type clip.crop=8, or model.accept=[crop] to resample their positions"
    )
    model = joint(num_frames=6, crop=(8, 12))
    account = load_pretrained(model, node | {"accept": ["frames", "crop"]}, HALF)
    assert account.lines()[1:2] == [
        "resized  encoder.pos_embed.table: 2x2x2 places to 3x2x3, bicubic in space, linear in time"
    ]


def test_another_normalisation_is_an_error_that_names_the_override(timesformer):
    node, model = {"pretrained": str(timesformer)}, Divided(5, 3, 8, (1, 4, 4), **OURS)
    assert told(ValueError, model, node, HALF) == (
        f"model.pretrained={timesformer}: weights of the official TimeSformer expect clip.mean=[0.45,0.45,0.45] "
        "clip.std=[0.225,0.225,0.225], and this run has mean [0.5, 0.5, 0.5] and std [0.5, 0.5, 0.5]; type "
        "clip.mean=[0.45,0.45,0.45] clip.std=[0.225,0.225,0.225], or model.accept=[normalisation] if these weights "
        "are others"
    )
    load_pretrained(model, node | {"accept": ["normalisation"]}, HALF)
    assert load_pretrained(model, node, KINETICS).new == {}


def test_the_settings_beside_the_weights_go_before_the_rule_of_the_layout(tmp_path):
    config = TimesformerConfig(num_frames=3, image_size=8, patch_size=4, **WIDTH)
    TimesformerForVideoClassification(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    model = Divided(5, 3, 8, (1, 4, 4), **OURS)
    load_pretrained(model, {"pretrained": str(tmp_path)}, HALF)
    assert "expect clip.mean=[0.5,0.5,0.5]" in told(ValueError, model, {"pretrained": str(tmp_path)}, KINETICS)


def test_a_checkpoint_of_a_run_starts_a_model_of_other_classes(tmp_path):
    theirs = joint()
    config = {"model": JOINT, "clip": HALF | {"num_frames": 4, "crop": 8}}
    state = {f"predictor.model.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"state_dict": state, "tubelet": {"config": config, "classes": list("abcde")}}, tmp_path / "best.ckpt")
    node = JOINT | {"pretrained": str(tmp_path / "best.ckpt")}
    ours = joint(num_classes=3)
    account = load_pretrained(ours, node, HALF)
    assert account.layout == "a checkpoint of tubelet's Joint"
    assert list(account.new) == ["for 3 classes, as at the start of training: theirs has 5"]
    again = load_pretrained(joint(), node, HALF, classes=list("abcde"))
    assert again.new == {}
    others = load_pretrained(joint(), node, HALF, classes=list("abcdf"))
    assert list(others.new) == ["for 5 classes, as at the start of training: theirs are others"]
    assert torch.equal(ours.encoder.pos_embed.table, theirs.encoder.pos_embed.table)
    assert "expect clip.mean=[0.5,0.5,0.5]" in told(ValueError, ours, node, KINETICS)
    longer = load_pretrained(joint(num_frames=8), node | {"accept": ["frames"]}, HALF)
    assert list(longer.resized) == ["2x2x2 places to 4x2x2, bicubic in space, linear in time"]


def of_run(folder, model, **node):
    """The `model` node of a run that starts from a run with this model and node."""
    target = f"{type(model).__module__}.{type(model).__name__}"
    config = {"model": {"_target_": target, "heads": 2} | node, "clip": HALF | {"num_frames": 4, "crop": 8}}
    state = {f"predictor.model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "tubelet": {"config": config, "classes": list("abcde")}}, folder / "run.ckpt")
    return {"_target_": "another.Class", "pretrained": str(folder / "run.ckpt")}


SIZES = dict(num_classes=5, num_frames=4, crop=8, tubelet=(2, 4, 4), **OURS)
MEAN = {"_target_": "tubelet.layers.readout.NormedMean", "_partial_": True}


@pytest.mark.parametrize(
    ("theirs", "node", "ours", "message"),
    [
        (
            FactorisedAttention(**SIZES, time_first=True),
            {"time_first": True},
            FewTokens(**SIZES, regions=(1, 2)),
            "its blocks attend over time first, the model's over space; FewTokens has no time_first, "
            "so it cannot take weights of a checkpoint of tubelet's FactorisedAttention",
        ),
        (
            Joint(**SIZES, exact_gelu=True),
            {"exact_gelu": True},
            Compressed(**SIZES, tau=2),
            "its GELU is exact, the model's is the tanh form; Compressed has no exact_gelu, "
            "so it cannot take weights of a checkpoint of tubelet's Joint",
        ),
        (
            Joint(**SIZES),
            {},
            JointSpaceTime(**SIZES),
            "its GELU is the tanh form, the model's is exact; JointSpaceTime has no exact_gelu, "
            "so it cannot take weights of a checkpoint of tubelet's Joint",
        ),
        (
            Joint(**SIZES, readout=NormedMean),
            {"readout": MEAN},
            Compressed(**SIZES, tau=1, readout=Mean),
            "its last norm comes after the mean; type model.readout._target_=tubelet.layers.readout.NormedMean",
        ),
    ],
    ids=["order", "exact GELU", "tanh GELU", "readout"],
)
def test_a_run_of_another_class_that_computes_something_else_is_refused(theirs, node, ours, message, tmp_path):
    asked = of_run(tmp_path, theirs, **node)
    assert told(ValueError, ours, asked, HALF) == f"model.pretrained={asked['pretrained']}: {message}"


@pytest.mark.parametrize(
    ("theirs", "node", "ours"),
    [
        (FactorisedAttention(**SIZES), {"time_first": False}, FewTokens(**SIZES, regions=(1, 2))),
        (Joint(**SIZES, readout=NormedMean), {"readout": MEAN}, Compressed(**SIZES, tau=1, readout=NormedMean)),
    ],
    ids=["order", "readout"],
)
def test_a_run_of_another_class_that_computes_the_same_with_its_blocks_is_taken_whole(theirs, node, ours, tmp_path):
    account = load_pretrained(ours, of_run(tmp_path, theirs, **node), HALF, classes=list("abcde"))
    assert (account.new, account.resized, account.unused) == ({}, {}, {})
    kinds = f"trained as {type(theirs).__name__}, and goes on as {type(ours).__name__}"
    assert account.notes == [f"{kinds}: its blocks may attend otherwise"]
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (
            {"tubelet": [2, 4, 4]},
            {"tubelet": [1, 8, 8]},
            "tubelet=[2,4,4], this one [1,8,8]; type model.tubelet=[2,4,4]",
        ),
        ({"temperature": None}, {"temperature": 3}, "temperature=null, this one 3; type model.temperature=null"),
    ],
)
def test_the_override_for_a_run_that_computes_something_else_can_be_typed(theirs, ours, message, tmp_path):
    asked = of_run(tmp_path, joint(), dim=12, heads=2, **theirs) | JOINT | ours
    assert told(ValueError, joint(), asked, HALF) == f"model.pretrained={asked['pretrained']}: its model has {message}"


def test_an_argument_younger_than_a_checkpoint_counts_with_its_default(tmp_path):
    asked = of_run(tmp_path, joint(), dim=12, heads=2) | JOINT | {"exact_gelu": True}
    message = "its model has exact_gelu=False, this one True; type model.exact_gelu=False"
    assert told(ValueError, joint(), asked, HALF) == f"model.pretrained={asked['pretrained']}: {message}"


def test_a_head_on_the_first_token_is_told(tmp_path):
    config = VideoMAEConfig(num_frames=4, image_size=8, tubelet_size=2, patch_size=4, use_mean_pooling=False, **WIDTH)
    VideoMAEForVideoClassification(config).save_pretrained(tmp_path)
    message = told(ValueError, joint(), {"pretrained": str(tmp_path)}, HALF)
    assert "use_mean_pooling=false: its head reads the first token" in message


def test_heads_and_gelu_of_the_settings_must_be_the_models(vivit, tmp_path):
    node = {"pretrained": str(vivit)}
    assert told(ValueError, Joint(**SIZES | dict(heads=3)), node, HALF) == (
        f"model.pretrained={vivit}: it has 2 heads, the model 3; type model.heads=2"
    )
    assert told(ValueError, Joint(**SIZES, exact_gelu=True), node, HALF) == (
        f"model.pretrained={vivit}: its GELU is the tanh form, the model's is exact; type model.exact_gelu=false"
    )
    folder = shutil.copytree(vivit, tmp_path / "copy")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_act": "gelu"}))
    load_pretrained(Joint(**SIZES, exact_gelu=True), {"pretrained": str(folder)}, HALF)
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_act": "relu"}))
    assert told(ValueError, joint(), {"pretrained": str(folder)}, HALF) == (
        f"model.pretrained={folder}: its config.json has hidden_act=relu; models here have one of "
        "gelu, gelu_fast, gelu_new, gelu_pytorch_tanh"
    )


@pytest.mark.parametrize("kind", ["divided_space_time", "space_only"])
def test_the_account_tells_which_attention_the_settings_have(kind, tmp_path):
    config = TimesformerConfig(num_frames=4, image_size=8, patch_size=4, attention_type=kind, **WIDTH)
    TimesformerForVideoClassification(config).save_pretrained(tmp_path)
    account = load_pretrained(Divided(**SIZES | dict(tubelet=(1, 4, 4))), {"pretrained": str(tmp_path)}, KINETICS)
    assert account.layout == f"transformers' TimeSformer ({kind})"
    assert bool(account.new) == (kind == "space_only")


def test_names_that_two_layouts_share_are_told(tmp_path):
    weights = SpaceOnly(**SIZES | dict(tubelet=(1, 4, 4))).state_dict()
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"][:, :, 0]
    torch.save(weights, tmp_path / "bare.pth")
    torch.save({f"model.{name}": value for name, value in weights.items()}, tmp_path / "wrapped.pth")
    ours = SpaceOnly(**SIZES | dict(tubelet=(1, 4, 4)))
    bare = load_pretrained(ours, {"pretrained": str(tmp_path / "bare.pth")}, HALF)
    assert bare.notes[:1] == [
        "taken for timm's image ViT, of mean 0.5 and std 0.5; the same names could be those of MAE, DeiT and DINO, "
        "which have ImageNet's, or of a space-only TimeSformer without its `model.`"
    ]
    wrapped = load_pretrained(ours, {"pretrained": str(tmp_path / "wrapped.pth")}, KINETICS)
    assert wrapped.notes[:1] == [
        "taken for the official TimeSformer, of mean 0.45 and std 0.225; the same names could be those of an image ViT "
        "behind `model.`, of mean 0.5 and std 0.5"
    ]
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}))
    known = load_pretrained(ours, {"pretrained": str(tmp_path)}, HALF)
    assert not [note for note in known.notes if note.startswith("taken for timm")]


def flax_encoder(time_depth):
    """A factorised encoder under scenic's names, as in a checkpoint with an optimiser's state."""
    generator = np.random.default_rng(0)

    def array(*shape):
        return generator.standard_normal(shape).astype(np.float32)

    def encoder(depth, rows):
        linear = {"kernel": array(12, 2, 6), "bias": array(2, 6)}
        attention = {part: linear for part in ("query", "key", "value")}
        attention["out"] = {"kernel": array(2, 6, 12), "bias": array(12)}
        norm = {"scale": array(12), "bias": array(12)}
        mlp = {
            "Dense_0": {"kernel": array(12, 24), "bias": array(24)},
            "Dense_1": {"kernel": array(24, 12), "bias": array(12)},
        }
        block = {
            "LayerNorm_0": norm,
            "LayerNorm_1": norm,
            "MlpBlock_0": mlp,
            "MultiHeadDotProductAttention_0": attention,
        }
        blocks = {f"encoderblock_{i}": block for i in range(depth)}
        return blocks | {"encoder_norm": norm, "posembed_input": {"pos_embedding": array(1, rows, 12)}}

    target = {
        "embedding": {"kernel": array(2, 4, 4, 3, 12), "bias": array(12)},
        "SpatialTransformer": encoder(1, 5),
        "TemporalTransformer": encoder(time_depth, 3),
        "cls_SpatialTransformer": array(1, 1, 12),
        "cls_TemporalTransformer": array(1, 1, 12),
        "output_projection": {"kernel": array(12, 5), "bias": array(5)},
    }
    momentum = {"embedding": {"kernel": {"momentum": array(3)}}}
    return {"optimizer": {"target": target, "state": {"param_states": momentum}}}


def flat(tree, prefix=""):
    for key, value in tree.items():
        yield from flat(value, f"{prefix}{key}/") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def test_the_depth_of_scenics_encoder_over_time_is_read_from_the_checkpoint(tmp_path):
    """The published one has 12 blocks over time where its config says 4."""
    np.savez(tmp_path / "fe.npz", **dict(flat(flax_encoder(time_depth=3))))
    node, path = {"pretrained": str(tmp_path / "fe.npz")}, tmp_path / "fe.npz"
    encoder = partial(FactorisedEncoder, 5, 4, 8, (2, 4, 4), **OURS)
    assert told(ValueError, encoder(time_depth=4), node, HALF) == (
        f"model.pretrained={path}: it has 3 blocks over time, the model 4; type model.time_depth=3"
    )
    assert told(ValueError, encoder(time_depth=3, heads=4), node, HALF) == (
        f"model.pretrained={path}: it has 2 heads, the model 4; type model.heads=2"
    )
    account = load_pretrained(encoder(time_depth=3), node, HALF)
    assert (account.layout, account.new, account.unused) == ("scenic's ViViT", {}, {})


def test_other_gelu_and_readout_are_told_with_their_overrides(tmp_path):
    state = {name.removeprefix("encoder."): value for name, value in joint().state_dict().items()}
    state = {name: value for name, value in state.items() if name not in ("cls_token", "pos_embed.table")}
    torch.save({"module": state}, tmp_path / "videomae.pth")
    node = {"pretrained": str(tmp_path / "videomae.pth"), "accept": ["normalisation", "frames", "crop"]}
    assert told(ValueError, joint(), node, HALF) == (
        f"model.pretrained={tmp_path}/videomae.pth: its GELU is exact, the model's is the tanh form; "
        "type model.exact_gelu=true"
    )
    exact = Joint(5, 4, 8, (2, 4, 4), exact_gelu=True, **OURS)
    assert told(ValueError, exact, node, HALF) == (
        f"model.pretrained={tmp_path}/videomae.pth: it has no class token, and the model reads one out; "
        "type model.readout._target_=tubelet.layers.readout.Mean (of VideoMAE: NormedMean)"
    )


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"pretrained": "x", "inflate": "centre"},
            "model.inflate=centre: there is no such way; there are: central_frame, average",
        ),
        (
            {"pretrained": "x", "accept": "frames"},
            "model.accept=frames: it is a list; type model.accept=[frames]",
        ),
        (
            {"pretrained": ""},
            "model.pretrained= is empty; type a path, a url, a hub id or a name, or leave it out",
        ),
        (
            {"pretrained": "x", "accept": ["frame"]},
            "model.accept=frame: there is no such difference; there are: normalisation, frames, crop, strides",
        ),
    ],
)
def test_misspelt_words_are_told_with_the_right_ones(node, message):
    assert told(ValueError, joint(), node, HALF) == message


def test_a_file_that_is_not_there_is_told_with_the_names_of_the_catalogue():
    node = {"_target_": "tubelet.models.vivit.FactorisedEncoder", "dim": 768, "heads": 12, "pretrained": "k4000"}
    assert told(FileNotFoundError, joint(), node, HALF) == (
        "model.pretrained=k4000: there is no such file, and no such name in the catalogue, which has for "
        "FactorisedEncoder of this size: in21k, in21k_in1k, k400; a hub id is org/name"
    )
    assert "has for Joint of this size: none;" in told(FileNotFoundError, joint(), JOINT | {"pretrained": "k400"}, HALF)


def test_a_folder_without_weights_and_a_file_that_is_none_are_told(tmp_path):
    assert told(FileNotFoundError, joint(), {"pretrained": str(tmp_path)}, HALF) == (
        f"model.pretrained={tmp_path}: the folder holds neither model.safetensors nor pytorch_model.bin"
    )
    (tmp_path / "a.pth").write_text("hello")
    message = told(ValueError, joint(), {"pretrained": str(tmp_path / "a.pth")}, HALF)
    assert message.startswith(f"model.pretrained={tmp_path}/a.pth: it is a text, not weights; ")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """(folder, address) of a web server on this machine, with an empty cache for what is fetched from it."""
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path / "cache"))
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield served, f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_a_url_is_fetched_once_and_a_name_of_the_catalogue_is_checked_against_its_sha256(
    server, vivit, tmp_path, monkeypatch
):
    served, address = server
    content = (vivit / "model.safetensors").read_bytes()
    (served / "vivit.safetensors").write_bytes(content)
    url = f"{address}/vivit.safetensors"
    first = load_pretrained(joint(), {"pretrained": url}, HALF)
    assert first.notes[:1] == [f"from {url}; its sha256 is not known and was not checked"]
    (served / "vivit.safetensors").unlink()
    load_pretrained(joint(), {"pretrained": url}, HALF)

    (served / "named.safetensors").write_bytes(content)
    named = f"{address}/named.safetensors"
    entry = partial(Published, "tiny", JOINT["_target_"], {"dim": 12}, named, "CC0", 12.5)
    monkeypatch.setattr(fetch, "CATALOGUE", [entry("0" * 64)])
    assert re.fullmatch(
        f"model.pretrained: {named} has another sha256 than {'0' * 64}: .*",
        told(ValueError, joint(), JOINT | {"pretrained": "tiny"}, HALF).removeprefix("model.pretrained=tiny: "),
    )
    monkeypatch.setattr(fetch, "CATALOGUE", [entry(hashlib.sha256(content).hexdigest())])
    account = load_pretrained(joint(), JOINT | {"pretrained": "tiny"}, HALF)
    assert account.notes[:1] == [f"from {named}, CC0, published top-1 12.5 %"]


def test_a_file_that_lies_in_the_cache_is_checked_too(server, monkeypatch):
    _, address = server
    url = f"{address}/a/named.pth"
    place = fetch.place_of(url)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"rubbish")
    monkeypatch.setattr(fetch, "CATALOGUE", [Published("tiny", JOINT["_target_"], {}, url, "CC0", None, "0" * 8)])
    assert told(ValueError, joint(), JOINT | {"pretrained": "tiny"}, HALF) == (
        f"model.pretrained: {place} has another sha256 than 00000000 of {url}; delete it, or mend it"
    )


def test_each_url_has_a_place_of_its_own_within_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path))
    place = fetch.place_of
    assert place("https://host:8/a/checkpoint") == tmp_path / "host:8/a/checkpoint"
    digest = hashlib.sha256(b"id=1").hexdigest()[:16]
    assert place("https://host/a/download?id=1") == tmp_path / f"host/a/{digest}/download"
    assert place("https://host/a/download?id=1") != place("https://host/a/download?id=2")
    for url in ("https://host/../../../etc/x.pth", "https://../x.pth", "https://host/..", "https://host/"):
        with pytest.raises(
            ValueError, match=f"^model.pretrained={url}: a url of a file is needed, without `..` in it$"
        ):
            place(url)
    missing = "model.pretrained=../nowhere: there is no such file, and no such name"
    assert told(FileNotFoundError, joint(), {"pretrained": "../nowhere"}, HALF).startswith(missing)


def test_offline_the_error_says_which_file_to_put_where(tmp_path, monkeypatch, server, vivit):
    _, address = server
    url = f"{address}/absent/checkpoint"
    place = tmp_path / "cache" / address.removeprefix("http://") / "absent/checkpoint"
    assert told(OSError, joint(), {"pretrained": url}, HALF) == (
        f"model.pretrained: {url} cannot be fetched (HTTP Error 404: File not found); "
        f"download it elsewhere and put it at {place}"
    )

    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    folder = tmp_path / "cache/hub/google/vivit-b-16x2-kinetics400"
    node = {"pretrained": "google/vivit-b-16x2-kinetics400"}
    assert told(OSError, joint(), node, HALF) == (
        "model.pretrained=google/vivit-b-16x2-kinetics400: there is no such folder here, and it cannot be fetched from "
        "huggingface.co (no network); mend the path, or, if it is a hub id, "
        f"download its model.safetensors, config.json and preprocessor_config.json elsewhere and put them into {folder}"
    )
    folder.parent.mkdir(parents=True)
    folder.symlink_to(vivit)
    load_pretrained(joint(), node, HALF)


def test_every_entry_of_the_catalogue_names_a_class_of_ours_and_a_place():
    for entry in CATALOGUE:
        module, _, name = entry.target.rpartition(".")
        assert module.startswith("tubelet.models.")
        assert hasattr(__import__(module, fromlist=[name]), name)
        assert re.fullmatch(r"https://\S+|[\w.-]+/[\w.-]+", entry.source)
        assert entry.licence
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{8,64}", entry.sha256)
    places = [(entry.name, entry.target, str(entry.fits)) for entry in CATALOGUE]
    assert len(set(places)) == len(places)


IMAGE = {"in21k", "in21k_in1k"}
CLIPS = IMAGE | {"k400", "videomae", "videomae_k400"}
MVIT_V2_S = {"k400", "k400_slowfast"}
NAMES = {  # of every file in conf/model that has any
    **{"mvit": MVIT_V2_S, "mvit_v2_s": MVIT_V2_S, "mvit_pool_space": MVIT_V2_S},
    **{f"mvit_{size}": {"k400"} for size in ("v1_b", "v1_b_32x3", "v2_b", "v2_l")},
    **{f"timesformer{size}": IMAGE | {"k400", "k600", "ssv2"} for size in ("", "_hr", "_l")},  # to start from, at least
    **{f"timesformer_{kind}": IMAGE for kind in ("joint", "space_only", "alternating")},
    **{"vivit_joint": CLIPS, "vivit_factorised_encoder": IMAGE | {"k400"}, "vivit_frame_mean": IMAGE},
    **{f"vivit_factorised_{kind}": IMAGE for kind in ("attention", "staged", "dot_product")},
    **{f"vivit_compressed{kind}": IMAGE for kind in ("", "_few", "_pool", "_stride")},
    **{f"vivit_3{kind}": IMAGE for kind in ("", "_few", "_pool", "_stride")},
    **{"vivit_1": IMAGE, "vivit_2": IMAGE, "vivit_2_staged": IMAGE, "vivit_2_pooled": IMAGE | {"k400"}},
}


def node_of(path):
    """The `model` node of a file in conf/model."""
    cfg = compose_config("train", ["run_dir=x", "name=x", "data=motion", f"model={path.stem}"])
    return OmegaConf.to_container(cfg.model, resolve=True)


@pytest.mark.parametrize("path", sorted(Path(config_dir(), "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_model_has_the_names_of_the_catalogue_that_are_for_it(path):
    node = node_of(path)
    entries = [entry for entry in CATALOGUE if entry.is_for(node)]
    assert {entry.name for entry in entries} == NAMES.get(path.stem, set())
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:  # v1 has other weights than v2, of the same width and depth
        version = re.search("mvit_?(v[12])", entry.source.lower())
        assert version is None or version[1] == ("v1" if "v1" in path.stem else "v2")


def test_timesformers_image_model_is_the_file_that_its_official_code_names():
    (entry,) = [one for one in CATALOGUE if one.is_for(node_of(Path("timesformer"))) and one.name == "in21k_in1k"]
    named = get_pretrained_cfg(entry.source.removeprefix("timm/"))
    assert named.hf_hub_id == entry.source
    assert named.url.endswith("/jx_vit_base_p16_224-80ecf9dd.pth")  # of timesformer/models/vit.py
    assert (named.mean, named.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(("name", "theirs"), [("mvit_v1_b", MViT_V1_B_Weights), ("mvit_v2_s", MViT_V2_S_Weights)])
def test_torchvisions_entries_are_what_torchvision_says(name, theirs):
    node, published = node_of(Path(name)), theirs.KINETICS400_V1
    (entry,) = [entry for entry in CATALOGUE if entry.is_for(node) and entry.name == "k400"]
    assert (entry.source, entry.top1) == (published.url, published.meta["_metrics"]["Kinetics-400"]["acc@1"])
    assert entry.sha256.startswith(published.url.rpartition("-")[2].removesuffix(".pth"))
