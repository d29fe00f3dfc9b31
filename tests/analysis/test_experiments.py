"""Runs of one experiment, told by their config.yaml."""

from pathlib import Path

import pytest

from tubelet.analysis.experiments import experiments, settings
from tubelet.analysis.runs import Run

CONFIG = {
    "model": {"_target_": "m.Model", "depth": 3, "pretrained": None},
    "clip": {"num_frames": 8, "crop": 48},
    "data": {"_target_": "d.read", "root": "/disk/ucf101", "split": 1, "num_workers": 2, "fraction_seed": 0},
    "optim": {"lr": 0.001, "total_batch": 64},
    "views": {"clips": 1},
    "trainer": {"max_epochs": 5, "devices": 1, "precision": "32-true"},
    "callbacks": {
        "best": {"dirpath": "runs/0/checkpoints", "monitor": "val/top1"},
        "last": {"dirpath": "runs/0/checkpoints", "every_n_steps": 500},
    },
    "logger": {"csv": {"save_dir": "runs/0"}},
    "seed": 0,
    "run_dir": "runs/0",
}


def run(overrides=(), name="a", **values):
    """values: what differs from CONFIG, with __ for the dots of a key."""
    config = {node: dict(value) if isinstance(value, dict) else value for node, value in CONFIG.items()}
    for key, value in values.items():
        node, _, rest = key.partition("__")
        config[node] = {**config[node], rest: value} if rest else value
    return Run(Path("x"), {"status": "finished", "name": name, "overrides": list(overrides)}, config)


def numbers(*runs):
    """The experiment of each run, by the place of the first one."""
    groups = experiments(runs)
    return [next(n for n, group in enumerate(groups) if any(one is other for other in group)) for one in runs]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("optim__lr", 0.01), ("model__pretrained", "k400"), ("clip__num_frames", 16), ("views__clips", 10)),
        *(("trainer__max_epochs", 6), ("trainer__precision", "bf16-mixed"), ("data__root", "/disk/hmdb51")),
        *(("callbacks__best", {"monitor": "val/loss"}), ("callbacks__ema", {"decay": 0.999})),
    ],
)
def test_what_decides_the_figures_makes_another_experiment_though_nothing_was_typed(key, value):
    assert numbers(run(), run(**{key: value})) == [0, 1]


@pytest.mark.parametrize(
    "values",
    [
        *({"seed": 1}, {"data__split": 2}, {"data__num_workers": 8}, {"trainer__devices": 4}),
        *({"logger": {"wandb": {}}}, {"run_dir": "runs/1"}, {"data__fraction_seed": 1, "seed": 1}),
        *({"data__root": "/scratch/job7/ucf101"}, {"model__new_key": None}),
        {"callbacks__best": {"dirpath": "runs/1/checkpoints", "monitor": "val/top1"}},
        {"callbacks__last": {"dirpath": "runs/1/checkpoints", "every_n_steps": 20}},
    ],
)
def test_what_decides_no_figure_makes_no_other_experiment(values):
    typed = ["launcher=slurm", "logger=csv", "data.num_workers=8", "hydra.sweep.dir=x"]
    assert numbers(run(), run(typed, **values)) == [0, 0]


@pytest.mark.parametrize(("key", "values"), [("data.root", ("/v1/x", "/v2/x")), ("data.fraction_seed", (1, 2))])
def test_a_root_or_a_choice_of_videos_that_was_typed_is_meant(key, values):
    runs = [run([f"{key}={value}"], **{key.replace(".", "__"): value}) for value in values]
    assert numbers(*runs) == [0, 1]


def test_the_same_config_typed_otherwise_is_the_same_experiment():
    assert numbers(run(["optim.lr=0.001"]), run(["optim.lr=1e-3"]), run()) == [0, 0, 0]


def test_a_run_that_ended_before_its_config_was_written_belongs_to_those_typed_alike():
    early = Run(Path("x"), {"status": "failed", "name": "a", "overrides": ["optim.lr=2", "seed=5"]}, {})
    assert numbers(run(), early, run(["seed=1", "optim.lr=2"], optim__lr=2)) == [0, 1, 1]
    of_two = [run(["optim.lr=2"], optim__lr=2, model__depth=depth) for depth in (3, 4)]
    assert numbers(early, *of_two) == [0, 1, 2]


def test_settings_are_those_that_decide_with_their_values():
    assert settings(run()) == {
        **{"model._target_": '"m.Model"', "model.depth": "3", "clip.num_frames": "8", "clip.crop": "48"},
        **{"data._target_": '"d.read"', "data.root": '"ucf101"', "optim.lr": "0.001", "optim.total_batch": "64"},
        **{"views.clips": "1", "trainer.max_epochs": "5", "trainer.precision": '"32-true"'},
        **{"callbacks.best.monitor": '"val/top1"'},
    }
