"""conf/ against the code: every file composes and builds, and lists the arguments that its targets take."""

import importlib
import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from tubelet.evaluation.checkpoint import DATA_SETS
from tubelet.training.build import build_model
from tubelet.training.launch import compose_config, config_dir, mechanism
from tubelet.training.validate import BESIDE_TARGET, LISTED_WHOLE, OF_HYDRA, read_listed

CONF = Path(config_dir())
GIVEN_BY_CODE = {  # what build.py hands to a target beside its yaml
    "lightning.Trainer": {
        *("logger", "callbacks", "gradient_clip_val", "accumulate_grad_batches", "default_root_dir"),
        *("enable_model_summary", "enable_checkpointing", "use_distributed_sampler"),
        # of no use here: our loop has no predict, its own record of hyperparameters, and one set of loaders
        *("fast_dev_run", "limit_predict_batches", "reload_dataloaders_every_n_epochs", "barebones"),
        *("enable_autolog_hparams", "model_registry"),
        "overfit_batches",  # would replace our sampler
    },
    "tubelet.layers.pooling.PoolingAttention": {"dim", "dim_out", "heads", "grids", "class_token"},
    "tubelet.layers.pooling.RelativePoolingAttention": {"dim", "dim_out", "heads", "grids", "class_token"},
    "tubelet.layers.pooling.Depthwise": {"dim", "stride"},
    "tubelet.analysis.plots.draw_confusion": {"predictions_csv", "picture"},
    "tubelet.layers.position.SpaceTime": {"t", "s", "dim", "class_token"},
}
ASKED_FOR = dict.fromkeys(
    ("list", "frame_list"), ("data.train=x", "data.val=x")
)  # what a user must give for a data set, beside its root


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "as_trained")


@cache  # many tests look at the same configs
def composed(*overrides, name="train"):
    data = () if any(o.startswith("data=") for o in overrides) else ("data=motion",)
    return compose_config(name, ["run_dir=x", "name=x", *data, *overrides])


def targets(node):
    """Every mapping with a _target_ in it."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from targets(child)


@pytest.mark.parametrize(
    "group", ["model", "augment", "optim", "views", "trainer", "callbacks", "logger", "experiment", "sweep"]
)
def test_every_choice_of_every_group_composes_and_resolves(group):
    for name in names(group):
        OmegaConf.to_container(composed(f"{group}={name}"), resolve=True)


def test_every_data_set_composes():
    for name in names("data"):
        composed(f"data={name}", "data.root=x", *ASKED_FOR.get(name, ()))


@pytest.mark.parametrize("model", names("model"))
def test_every_model_builds_and_takes_the_clip_that_its_config_says(model):
    cfg = composed(f"model={model}")
    with torch.device("meta"):
        built = build_model(cfg.model, num_classes=5)
        clip = torch.empty(1, 3, cfg.clip.num_frames, cfg.clip.crop, cfg.clip.crop)
        assert built(clip).shape == (1, 5)
    said = inspect.getdoc(type(built)).split("\n")[0]  # what a run prints of its model
    assert any(name in said for name in ("the note", "Arnab et al.", "Bertasius et al."))


def test_every_data_set_can_be_evaluated_from_a_checkpoint():
    targets = {yaml.safe_load((CONF / f"data/{name}.yaml").read_text())["_target_"] for name in names("data")}
    assert targets == DATA_SETS


def test_every_tiny_model_has_the_clip_of_the_demo():
    demo = OmegaConf.to_container(composed("experiment=demo").clip)
    tiny = [name for name in names("model") if name.endswith("_tiny")]
    assert len(tiny) >= 2
    for name in tiny:
        clip = OmegaConf.to_container(composed(f"model={name}").clip)
        assert {**clip, "mean": 0, "std": 0} == {**demo, "mean": 0, "std": 0}  # normalisation belongs to the weights


def test_a_run_of_one_of_the_notes_numbers_has_the_name_of_its_mechanism():
    assert mechanism("vivit_2_tiny") == "vivit_factorised_attention_tiny"
    assert mechanism("vivit_3_few") == "vivit_compressed_few"
    assert mechanism("mvit") == "mvit"
    numbered = [name for name in names("model") if name.startswith(("vivit_1", "vivit_2", "vivit_3", "vivit_4"))]
    assert len(numbered) == 2 * 9
    assert all(mechanism(name) in names("model") for name in numbered)


def test_mvit_without_a_size_is_mvit_v2_s():
    mvit, small = composed("model=mvit"), composed("model=mvit_v2_s")
    assert (mvit.model, mvit.clip) == (small.model, small.clip)


def test_an_experiment_for_several_models_leaves_model_and_clip_alone():
    for file in (CONF / "experiment").glob("*.yaml"):
        assert not {"model", "clip"} & set(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_file_lists_only_what_its_targets_take(file):
    content = yaml.safe_load(file.read_text()) or {}
    for node in targets({file.parent.name: content}):
        module, _, name = node["_target_"].rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        taken = set(parameters) | OF_HYDRA | BESIDE_TARGET.get(file.parent.name, set())
        assert set(node) <= taken


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"model={m}"] for m in names("model")),
        *([f"data={d}", "data.root=x", *ASKED_FOR.get(d, ())] for d in names("data")),
        [],
    ],
)
def test_targets_that_are_checked_without_importing_them_are_listed_whole(overrides):
    for node in targets(OmegaConf.to_container(composed(*overrides), resolve=False)):
        # The code gives the arguments of a partial; a user may change none of them.
        if node["_target_"].startswith(LISTED_WHOLE) and not node.get("_partial_"):
            module, _, name = node["_target_"].rpartition(".")
            signature = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
            parameters = {p.name for p in signature if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            assert parameters <= set(node) | GIVEN_BY_CODE.get(node["_target_"], set())


def test_the_rules_that_values_in_conf_make_are_those_of_the_signatures():
    listed = {
        target: keys for target, keys in read_listed(CONF, "train").items() if target.startswith("tubelet.models")
    }
    for target, keys in listed.items():
        module, _, name = target.rpartition(".")
        hints = get_type_hints(getattr(importlib.import_module(module), name).__init__)
        for key, values in keys.items():
            given = [value for value in values if value is not None and not str(value).startswith("${")]
            if hints.get(key) in (bool, int, float):
                assert {type(value) for value in given} <= {hints[key]}, (target, key)
            if get_origin(hints.get(key)) is Sequence:  # of any length, which one value in conf/ would not tell
                assert len({len(value) for value in given}) > 1, (target, key)
            if get_origin(hints.get(key)) is tuple:
                assert {len(value) for value in given} == {len(hints[key].__args__)}, (target, key)
