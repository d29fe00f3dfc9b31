"""Recipes against the files they are from: rates, batches, schedules; what wins over what; a few steps of each."""

import logging
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from recipe_sources import SEGMENTS, SOURCES
from torch import nn

from tubelet.training import build, build_data
from tubelet.training.groups import parameter_groups
from tubelet.training.launch import compose_config, config_dir
from tubelet.training.optim import accumulation
from tubelet.training.recipes import told
from tubelet.training.train import assemble

CONF = Path(config_dir())
BASES = {"auto", "none", "finetuning"}  # files of conf/recipe that are of no pair
NAMES = sorted({path.stem for path in (CONF / "recipe").glob("*.yaml")} - BASES)
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
COMPARED = ("optim", "augment", "views", "clip")  # nodes of which every value is
OF_MODEL = ("pretrained", "accept", "weights_required", "drop_path", "head_dropout", "time_depth")
OF_DATA = ("batch_size", "repeats", "scale_while_decoding")


def composed(*overrides):
    return compose_config("train", ["run_dir=x", "name=x", *overrides])


def pair(name):
    """(model, data) of a recipe, by its name."""
    data = next(data for data in DATA if name.endswith(f"_{data}"))
    return name.removesuffix(f"_{data}"), data


@cache  # many tests look at the same configs
def of_pair(name):
    model, data = pair(name)
    return composed(f"model={model}", f"data={data}")


def plain(value):
    """A node as (name of its class, arguments): without `fused`, which changes no value."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    kind = value["_target_"].rpartition(".")[2]
    return kind, {key: plain(one) for key, one in value.items() if key not in ("_target_", "_partial_", "fused")}


def figures(cfg):
    """What a recipe decides, in the form of SOURCES."""
    taken = OmegaConf.to_container(cfg, resolve=True)
    found = {
        name: {key: plain(value) for key, value in taken[name].items() if value is not None or name != "augment"}
        for name in COMPARED
    }
    del found["optim"]["_target_"]
    if found["clip"]["sampling"] == SEGMENTS:
        del found["clip"]["stride"]
    found["model"] = {key: taken["model"][key] for key in OF_MODEL if key in taken["model"]}
    found["data"] = {key: taken["data"][key] for key in OF_DATA}
    found["trainer"] = {"max_epochs": taken["trainer"]["max_epochs"]}
    return found | {"told": {"rate": build.build(cfg.optim).told()}}


def test_every_recipe_has_a_source():
    assert set(SOURCES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_taken_by_its_pair_and_has_the_values_of_its_source(name):
    cfg = of_pair(name)
    told_by_file = name.replace("mvit_", "mvit_v2_s_") if name.startswith("mvit_") and "_v" not in name else name
    assert cfg.follows.startswith(f"{told_by_file}, ")
    found, expected = figures(cfg), SOURCES[name]
    assert found == expected
    assert list(found["augment"]) == list(expected["augment"])  # the order in which they are applied


@pytest.mark.parametrize("name", [*NAMES, "finetuning"])
def test_every_value_that_a_recipe_sets_is_compared_with_its_source(name):
    content = yaml.safe_load((CONF / f"recipe/{name}.yaml").read_text())
    assert set(content) <= {"defaults", "follows", "model", "data", "trainer", *COMPARED}
    for node, compared in (("model", OF_MODEL), ("data", OF_DATA), ("trainer", ("max_epochs",))):
        assert set(content.get(node, {})) <= set(compared)


def test_the_rates_of_mvit_are_those_of_sixteen_nodes_from_the_first_step_to_the_last():
    optim = build.build(of_pair("mvit_v2_s_kinetics400").optim)
    steps_per_epoch = 240_000 // 256
    rates = [optim.rate(step, 200 * steps_per_epoch, steps_per_epoch) for step in range(200 * steps_per_epoch)]
    assert rates[0] == pytest.approx(16 * 1e-6)
    assert max(rates) == rates[30 * steps_per_epoch] == pytest.approx(16 * 1e-4)
    assert rates[-1] == pytest.approx(16 * 1e-6)


def test_vivits_rate_ends_at_zero_and_its_cosine_runs_during_the_warmup():
    optim = build.build(of_pair("vivit_joint_kinetics400").optim)
    assert optim.rate(0, 3000, 100) == 0.0
    assert optim.rate(250, 3000, 100) == pytest.approx(0.1 * 0.98299, rel=1e-4)  # (1 + cos(pi * 250 / 2999)) / 2
    assert optim.rate(2999, 3000, 100) == pytest.approx(0.0)


def test_decay_follows_each_source():
    assert of_pair("timesformer_kinetics400").optim.decay_vectors is True  # only names with bn are special there
    for name in ("mvit_v1_b_kinetics400", "mvit_v2_b_ssv2"):  # ZERO_WD_1D_PARAM, and ZERO_DECAY_POS_CLS is false
        cfg = of_pair(name)
        assert (cfg.optim.decay_vectors, list(cfg.optim.not_decayed)) == (False, [])


def test_the_pixels_of_training_and_test_are_those_of_the_source():
    jitter = [build.build(of_pair(f"timesformer{size}_kinetics400").augment.jitter) for size in ("", "_hr", "_l")]
    assert [(one.shortest, one.longest) for one in jitter] == [(256, 320), (448, 512), (256, 320)]
    assert [of_pair(f"timesformer{size}_ssv2").clip.resize for size in ("", "_hr", "_l")] == [224, 448, 224]
    assert of_pair("mvit_v2_s_kinetics400").clip.resize == 256  # one crop: the short side of TRAIN_JITTER_SCALES
    for name in ("timesformer_ssv2", "mvit_v2_s_ssv2"):
        assert of_pair(name).augment.flip.p == 0.0


def test_a_sweep_over_the_batch_keeps_the_rule_of_the_rate():
    for name in NAMES:
        ours = of_pair(name).optim
        other = build.build({**OmegaConf.to_container(ours), "total_batch": 6 * ours.total_batch})
        assert other.rate(50, 100, 5) == pytest.approx(6 * build.build(ours).rate(50, 100, 5))
        assert other.rate(0, 100, 5) == pytest.approx(6 * build.build(ours).rate(0, 100, 5))
    typed = composed("model=mvit_v2_s", "data=kinetics400", "optim.total_batch=128")
    assert build.build(typed.optim).told().startswith("AdamW, lr 0.0004 = 0.0016 x 128 / 512 clips, ")


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_ucf101")])
def test_fine_tuning_leaves_the_embedding_of_a_deep_model_the_part_of_the_rate_that_videomaes_has(name):
    cfg = of_pair(name)
    with torch.device("meta"):
        groups = list(parameter_groups(build.build_model(cfg.model, 7), 0.05, False, [], cfg.optim.layer_decay))
    assert min(group["rate"] for group in groups) == pytest.approx(0.7**13, rel=0.05)  # of decays with two digits


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_batch_of_every_recipe_divides_among_one_to_eight_devices(devices):
    for name in NAMES:
        cfg = of_pair(name)
        at_once = cfg.data.batch_size * devices * cfg.data.repeats
        assert accumulation(cfg.optim.total_batch, cfg.data.batch_size, devices, cfg.data.repeats) * at_once == (
            cfg.optim.total_batch
        )


def test_the_command_line_wins_over_an_experiment_and_both_over_a_recipe():
    recipe = "recipe=mvit_v2_s_kinetics400"
    demo = composed("experiment=demo", "model=mvit_tiny", recipe)
    assert (demo.optim.lr, demo.trainer.max_epochs) == (1e-3, 6)  # of the demo
    assert (demo.optim.warmup_epochs, demo.data.repeats) == (30, 2)  # of the recipe
    assert set(demo.augment) == {"resize", "crop", "flip"}  # crop_flip, of the demo
    typed = composed("experiment=demo", "model=mvit_tiny", recipe, "optim.lr=0.3", "optim=sgd", "augment=none")
    assert (typed.optim.lr, typed.optim.optimizer._target_) == (0.3, "torch.optim.SGD")
    assert typed.augment.crop._target_.endswith("CenterCrop")


@pytest.mark.parametrize("off", ["none", "null"])
def test_a_recipe_can_be_left_out(off):
    cfg = composed("model=mvit_v2_s", "data=kinetics400", f"recipe={off}")
    assert (cfg.follows, cfg.optim.lr, cfg.data.repeats, cfg.clip.fps) == (None, 1e-3, 1, None)


def test_a_pair_without_a_recipe_has_the_defaults_and_the_demo_takes_none():
    for overrides in (["model=mvit_tiny", "data=kinetics400"], ["experiment=demo", "model=mvit", "data=kinetics400"]):
        assert composed(*overrides).follows is None


def test_another_pairs_recipe_can_be_named():
    cfg = composed("model=mvit_v2_l", "data=kinetics600", "recipe=mvit_v2_b_kinetics400")
    assert cfg.follows.startswith("mvit_v2_b_kinetics400, ")
    assert (cfg.optim.lr, cfg.model.dim) == (1.6e-3, 144)


def test_the_start_line_tells_the_recipe_and_its_source_or_that_there_is_none_and_what_the_run_has():
    choices = {"model": "mvit", "data": "jester", "recipe": "auto", "optim": "adamw", "augment": "none", "views": "1x3"}
    assert told("a_b, from c", choices) == "recipe: a_b, from c"
    assert told(None, choices) == (
        "recipe: none for mvit and jester; the defaults: optim=adamw, augment=none, views=1x3"
    )
    assert told(None, choices | {"recipe": "none"}).startswith("recipe: none; the defaults: optim=adamw, ")


def test_each_job_of_a_sweep_takes_its_own_recipe(tmp_path, run_script):
    swept = ["-m", "model=timesformer,vivit_joint_tiny", "data=kinetics400", "hydra.sweep.dir=sweep"]
    process = run_script("train.py", *swept, cwd=tmp_path, check=False)  # the data is not there
    lines = [line for line in process.stdout.splitlines() if line.startswith("recipe: ")]
    assert lines[0].startswith("recipe: timesformer_kinetics400, from TimeSformer's configs/Kinetics/")
    assert lines[1].startswith("recipe: none for vivit_joint_tiny and kinetics400; the defaults: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipes_header_has_every_part_and_its_own_command(name):
    lines = (CONF / f"recipe/{name}.yaml").read_text().splitlines()
    content = yaml.safe_load("\n".join(lines))
    if "follows" not in content:  # another name for a recipe
        assert content == {"defaults": [name.replace("mvit_", "mvit_v2_s_")]}
        return
    parts = [line[2:10].strip() for line in lines if line.startswith("# ") and line[2] != " " and line[2] != "@"]
    assert parts == ["Follows", "Cost", "Expect", "Command", "Differs"]
    model, data = pair(name)
    command = next(line for line in lines if line.startswith("# Command"))
    assert command.endswith(f"model={model} data={data}")


def test_the_table_of_the_docs_has_the_batch_rate_epochs_and_views_of_every_published_recipe():
    page = CONF.parent / "docs/recipes.md"
    if not page.exists():
        pytest.skip("a wheel has no docs")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines()]
    told, expected = {}, {}
    for row in (row for row in rows if len(row) == 9 and row[0].startswith("`") and row[0] != "`model=`"):
        for model in row[0].replace("`", "").split(", "):
            rate, (epochs, warmup) = row[4].split()[1].strip(","), row[5].split()
            name = f"{model}_{row[1].strip('`')}"
            told[name] = (int(row[3]), float(rate), int(epochs), float(warmup.strip("()")), row[7])
    for name in NAMES:
        if not name.endswith(("ucf101", "hmdb51")):
            optim, views = (SOURCES[name][node] for node in ("optim", "views"))
            epochs, tested = SOURCES[name]["trainer"]["max_epochs"], f"{views['clips']}x{views['crops']}"
            expected[name] = (optim["total_batch"], optim["lr"], epochs, optim["warmup_epochs"], tested)
    assert told == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_recipes_model_builds_at_full_size(name):
    with torch.device("meta"):
        built = build.build_model(of_pair(name).model, num_classes=7)
    assert built.head.weight.shape[0] == 7


SMALL = {
    "vivit": ["model.dim=24", "model.heads=2", "model.depth=1", "clip.num_frames=4"],
    "timesformer": ["model.dim=24", "model.heads=2", "model.depth=1", "clip.num_frames=3"],
    "mvit": ["model.dim=8", "model.depths=[1,1,1,1]", "clip.num_frames=4"],
}
CLIP = ["clip.crop=32", "clip.resize=36", "data.batch_size=2", "data.num_workers=0", "model.pretrained=null"]
VIDEOS = ["data=motion", "data.train=8", "data.val=8", "data.test=8"]


def few_steps(cfg):  # of which the first may have a rate of 0, and the last one too
    return build.make_trainer(cfg, [], [], progress_bar=False)


@pytest.mark.filterwarnings("ignore::UserWarning")  # those that a run silences itself
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_takes_three_steps_at_reduced_size(name, tmp_path, motion_root):
    model, repeats = pair(name)[0], SOURCES[name]["data"]["repeats"]
    small = [*SMALL[model.split("_")[0]], *CLIP, f"optim.total_batch={4 * repeats}"]
    small += ["optim.warmup_epochs=0.5"]  # one step of two
    small += ["model.time_depth=1"] if "factorised_encoder" in name else []
    small += ["augment.jitter.size=36"] if "jitter" in SOURCES[name]["augment"] else []
    stop = ["trainer.accelerator=cpu", "trainer.max_steps=3", "trainer.limit_val_batches=0", "run_dir=" + str(tmp_path)]
    small += [*VIDEOS, f"data.root={motion_root.parent / 'recipes'}", *stop]
    cfg = compose_config("train", ["name=x", f"model={model}", f"recipe={name}", *small])
    catalogue = build_data.build_catalogue(cfg.data)
    cfg.model.num_classes = len(catalogue.classes)
    classifier, data, trainer = assemble(cfg, catalogue, {}, few_steps)
    before = [p.detach().clone() for p in classifier.predictor.model.head.parameters()]
    trainer.fit(classifier, data)
    assert trainer.global_step == 3
    assert trainer.callback_metrics["train/loss"].isfinite()
    after = list(classifier.predictor.model.head.parameters())
    assert any(not one.equal(other) for one, other in zip(before, after, strict=True))
    clips = (cfg.clip.num_frames, cfg.clip.crop)
    assert tuple(data.train_set[next(iter(data.train_dataloader().sampler))]["video"].shape) == (
        *(repeats, 3, clips[0], clips[1], clips[1]),
    )


@pytest.fixture
def unfetched(tmp_path, monkeypatch):
    """The config of a fine-tuning, on a machine without published weights."""
    monkeypatch.setenv("TUBELET_CACHE", str(tmp_path))
    return of_pair("mvit_v2_s_ucf101").copy()


def test_without_catalogue_weights_a_finetuning_says_once_that_it_starts_from_scratch(unfetched, caplog, tmp_path):
    caplog.set_level(logging.WARNING, logger="tubelet")
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    place = tmp_path / "download.pytorch.org/models/mvit_v2_s-ae3be167.pth"
    assert build.start_pretrained(model, unfetched, ["a"]) == {"name": "k400", "absent": str(place)}
    assert caplog.messages == [
        f"weights: model.pretrained=k400 is not on this machine: trained from scratch; the file belongs at {place}"
        "; from scratch the first blocks should learn as the last: optim.layer_decay=1"
    ]
    assert model.weight.equal(before)


def test_weights_that_are_there_are_never_replaced_by_random_ones(unfetched, tmp_path):
    place = tmp_path / "download.pytorch.org/models/mvit_v2_s-ae3be167.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="has another sha256"):
        build.start_pretrained(nn.Linear(2, 3), unfetched, ["a"])


def test_a_name_that_the_catalogue_does_not_have_is_an_error_also_where_weights_are_not_required(unfetched):
    unfetched.model.pretrained = "k4OO"
    with pytest.raises(FileNotFoundError, match=r"model.pretrained=k4OO: there is no such file, and no such name"):
        build.start_pretrained(nn.Linear(2, 3), unfetched, ["a"])


def test_only_finetuning_goes_on_without_its_weights():
    required = {name: of_pair(name).model.weights_required for name in NAMES}
    assert {name for name, value in required.items() if not value} == {
        name for name in NAMES if name.endswith(("ucf101", "hmdb51"))
    }


@pytest.mark.parametrize("data", ["ucf101", "hmdb51"])
def test_three_splits_are_one_sweep(data):
    node = OmegaConf.load(CONF / f"experiment/{data}_three_splits.yaml")
    assert node.hydra == {"mode": "MULTIRUN", "sweeper": {"params": {"data.split": "1,2,3"}}}
    assert composed(f"experiment={data}_three_splits", "model=timesformer").follows.startswith(f"timesformer_{data}, ")
