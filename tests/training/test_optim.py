import functools

import pytest
import torch
from torch import nn

from tubelet.models.timesformer import Divided
from tubelet.training.optim import Optim, accumulation, parameter_groups


def optim(**changed):
    values = {"lr": 1.0, "weight_decay": 0.5, "warmup_epochs": 1, "warmup_lr": 0.2, "end_lr": 0.1, "clip_norm": None}
    values |= {"total_batch": 8, "label_smoothing": 0.0} | changed
    return Optim(functools.partial(torch.optim.SGD), **values)


def test_the_rate_grows_linearly_and_then_falls_along_half_a_cosine():
    optimizer, schedule = optim().build(nn.Linear(2, 2), steps_per_epoch=4, num_steps=4 + 5)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # warm-up 0.2 + 0.8 * step / 4; then 0.1 + 0.9 * (1 + cos(k pi / 4)) / 2 for k = 0..4
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.868198, 0.55, 0.231802, 0.1], abs=1e-6)


def test_without_warmup_the_first_step_has_the_full_rate():
    assert optim().rate(0, warmup=0, num_steps=5) == 1.0


def test_weight_decay_leaves_out_biases_norms_positions_and_tokens():
    model = Divided(num_classes=3, num_frames=2, crop=16, tubelet=(1, 8, 8), dim=12, depth=1, heads=2)
    decayed, kept = parameter_groups(model, weight_decay=0.5)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.5, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        n for n, p in model.named_parameters() if n.endswith("weight") and "norm" not in n
    }
    assert {"cls_token", "pos_embed.space", "pos_embed.time", "norm.weight", "head.bias"} <= {
        names[id(p)] for p in kept["params"]
    }
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out():
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    decayed, kept = parameter_groups(layer, weight_decay=0.5)
    assert decayed["params"] == []
    assert kept["params"] == [layer.bias]


def test_accumulation_follows_from_total_batch():
    assert accumulation(total_batch=64, batch_size=8, devices=2, repeats=1) == 4
    assert accumulation(total_batch=64, batch_size=8, devices=2, repeats=2) == 2


def test_a_total_batch_that_does_not_divide_is_an_error_with_the_nearest_that_does():
    message = r"optim.total_batch=20 is not a multiple of data.batch_size=8 times 1 devices; .*optim.total_batch=16"
    with pytest.raises(ValueError, match=message):
        accumulation(total_batch=20, batch_size=8, devices=1, repeats=1)
