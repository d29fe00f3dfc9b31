import functools
import math

import pytest
import torch
from torch import nn

from tubelet.models.timesformer import Divided
from tubelet.models.vivit import FactorisedEncoder
from tubelet.training.groups import parameter_groups, train_only
from tubelet.training.optim import Optim, accumulation
from tubelet.training.schedules import Cosine, Steps

COSINE = Cosine(end_lr=0.1, after_warmup=True)


def optim(schedule=COSINE, **changed):
    values = {"lr": 1.0, "base_batch": None, "weight_decay": 0.5, "decay_vectors": False, "not_decayed": []}
    values |= {"layer_decay": 1.0, "trained": None, "warmup_epochs": 1, "warmup_lr": 0.2, "schedule": schedule}
    values |= {"clip_norm": None, "total_batch": 8, "label_smoothing": 0.0} | changed
    return Optim(functools.partial(torch.optim.SGD), **values)


def rates(built, num_steps, model=None, steps_per_epoch=4):
    """Of the first group, in each step."""
    optimizer, schedule = built.build(model or nn.Linear(2, 2), steps_per_epoch, num_steps)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_grows_linearly_and_then_falls_along_half_a_cosine():
    # warm-up 0.2 + 0.8 * step / 4; then 0.1 + 0.9 * (1 + cos(k pi / 4)) / 2 for k = 0..4
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 0.868198, 0.55, 0.231802, 0.1]
    assert rates(optim(), 9) == pytest.approx(expected, abs=1e-6)


def test_scenics_warmup_is_a_factor_on_a_cosine_from_the_first_step():
    built = optim(Cosine(end_lr=0.0, after_warmup=False), warmup_lr=0.0, lr=2.0)
    expected = [2 * 0.5 * (1 + math.cos(math.pi * step / 8)) * min(step / 4, 1) for step in range(9)]
    assert rates(built, 9) == pytest.approx(expected, abs=1e-6)


def test_steps_multiply_the_rate_from_the_beginning_of_their_epochs():
    # TimeSformer: SOLVER.STEPS [0, 11, 14], LRS [1, 0.1, 0.01]; here with epochs of 2 steps.
    built = optim(Steps([1, 3], [0.1, 0.01]), warmup_epochs=0, lr=0.5)
    assert rates(built, 8, steps_per_epoch=2) == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.05, 0.05, 0.005, 0.005])


def test_all_rates_grow_with_the_batch_over_the_one_they_are_meant_for():
    expected = [4 * rate for rate in rates(optim(), 9)]
    assert rates(optim(base_batch=2), 9) == pytest.approx(expected, abs=1e-6)
    way = "warm-up of 1 epochs from 0.8, cosine after it to 0.4"
    assert optim(base_batch=2).told() == f"SGD, lr 4 = 1 x 8 / 2 clips, {way}, weight decay 0.5"


def test_without_warmup_the_first_step_has_the_full_rate():
    assert optim(warmup_epochs=0).rate(0, num_steps=5, steps_per_epoch=5) == 1.0


def test_a_warmup_as_long_as_the_run_is_refused_with_both_settings():
    message = "optim.warmup_epochs=1.5 takes 6 steps, and trainer.max_steps=6 ends the run after 6, while the rate"
    optim(warmup_epochs=1.5).check_warmup(4, 7, "trainer.max_steps=7")
    with pytest.raises(ValueError, match=message):
        optim(warmup_epochs=1.5).check_warmup(4, 6, "trainer.max_steps=6")


@pytest.mark.parametrize(("epochs", "factors"), [([2, 1], [0.1, 0.01]), ([1], [0.1, 0.2]), ([0], [1.0]), ([1], [-0.1])])
def test_steps_that_are_no_schedule_are_refused(epochs, factors):
    with pytest.raises(ValueError, match=r"optim.schedule: epochs=.* are not epochs in order"):
        Steps(epochs, factors)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("lr", 0, "above"), ("base_batch", 0, "above"), ("layer_decay", 0, "above"), ("weight_decay", -1, "at least")],
)
def test_values_out_of_range_are_named(name, value, least):
    with pytest.raises(ValueError, match=f"optim.{name}={value} is not {least} 0"):
        optim(**{name: value})


def groups(model, decay_vectors=False, not_decayed=("cls_token", "pos_embed"), layer_decay=1.0):
    """Parameter -> (weight decay, factor on the rate)."""
    names = {id(p): n for n, p in model.named_parameters()}
    found = parameter_groups(model, 0.5, decay_vectors, not_decayed, layer_decay)
    return {names[id(p)]: (one["weight_decay"], one["rate"]) for one in found for p in one["params"]}


def divided(depth=1):
    return Divided(num_classes=3, num_frames=2, crop=16, tubelet=(1, 8, 8), dim=12, depth=depth, heads=2)


def test_weight_decay_leaves_out_biases_norms_positions_and_tokens():
    found = groups(divided())
    decayed = {name for name, (decay, _) in found.items() if decay}
    assert decayed == {name for name in found if name.endswith("weight") and "norm" not in name}
    assert {decay for decay, _ in found.values()} == {0.0, 0.5}
    assert {"cls_token", "pos_embed.space", "pos_embed.time", "norm.weight", "head.bias"} <= set(found) - decayed
    assert set(found) == {name for name, _ in divided().named_parameters()}


def test_timesformers_own_rule_decays_everything():
    assert {decay for decay, _ in groups(divided(), decay_vectors=True, not_decayed=()).values()} == {0.5}


def test_layer_decay_counts_from_the_head_to_the_embedding():
    found = {name: rate for name, (_, rate) in groups(divided(depth=3), layer_decay=0.5).items()}
    assert found["head.weight"] == found["norm.bias"] == 1.0
    assert found["blocks.2.attn.qkv.weight"] == found["blocks.2.norm1.weight"] == 0.5
    assert found["blocks.1.mlp.fc1.weight"] == 0.25
    assert found["blocks.0.mlp.fc1.weight"] == 0.125
    assert found["cls_token"] == found["pos_embed.time"] == found["patch_embed.proj.weight"] == 0.0625


def test_layer_decay_of_two_encoders_goes_through_both():
    model = FactorisedEncoder(3, 4, 16, tubelet=(2, 8, 8), dim=12, depth=2, time_depth=1, heads=2)
    found = {name: rate for name, (_, rate) in groups(model, layer_decay=0.5).items()}
    assert found["head.weight"] == 1.0
    assert found["time.blocks.0.mlp.fc1.weight"] == 0.5
    assert found["space.blocks.1.mlp.fc1.weight"] == found["time.pos_embed.table"] == 0.25
    assert found["space.blocks.0.mlp.fc1.weight"] == 0.125
    assert found["space.pos_embed.table"] == 0.0625


def test_frozen_parameters_are_left_out():
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    assert groups(layer) == {"bias": (0.0, 1.0)}


def test_a_linear_probe_trains_the_head_alone_and_drops_nothing_before_it():
    model = divided()
    train_only(model, ["head"])
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert [name for name, module in model.named_modules() if module.training] == ["head"]


def test_a_module_to_train_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"optim.trained: Divided has no module 'haed'; it has patch_embed, .*head"):
        train_only(divided(), ["haed"])


def test_accumulation_follows_from_total_batch():
    assert accumulation(total_batch=64, batch_size=8, devices=2, repeats=1) == 4
    assert accumulation(total_batch=64, batch_size=8, devices=2, repeats=2) == 2


@pytest.mark.parametrize(
    ("total_batch", "devices", "repeats", "told"),
    [
        (20, 1, 1, "times 1 devices; data.batch_size=5 divides it, or take optim.total_batch=16"),
        (64, 16, 1, "times 16 devices; data.batch_size=4 divides it, or take optim.total_batch=128"),
        (36, 2, 3, "times 2 devices times data.repeats=3; data.batch_size=6 divides it, or take optim.total_batch=48"),
        (21, 2, 1, "times 2 devices; the nearest is optim.total_batch=16"),
    ],
)
def test_a_total_batch_that_does_not_divide_is_an_error_with_what_does(total_batch, devices, repeats, told):
    with pytest.raises(ValueError, match=f"optim.total_batch={total_batch} is not a multiple of .*=8 {told}$"):
        accumulation(total_batch, batch_size=8, devices=devices, repeats=repeats)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", float("nan")), ("lr", float("inf")), ("lr", 0.0), ("warmup_lr", -1.0), ("clip_norm", -0.5)],
)
def test_a_value_that_no_training_can_have_names_its_key(name, value):
    with pytest.raises(ValueError, match=rf"optim\.{name}={value} is not (above|at least) 0"):
        optim(**{name: value})


def test_a_label_smoothing_of_one_or_more_names_its_key():
    with pytest.raises(ValueError, match=r"optim\.label_smoothing=1\.5 is not from 0 to below 1"):
        optim(label_smoothing=1.5)
