import copy
from functools import partialmethod

import pytest
import torch
from torch import nn

from tubelet.analysis.cost import count
from tubelet.models.mvit import MViT
from tubelet.models.timesformer import Divided
from tubelet.models.vivit import FactorisedEncoder
from tubelet.training.speed import recompute_blocks, speed_up

T, CROP = 4, 16
MODELS = {
    "vivit": lambda: FactorisedEncoder(7, T, CROP, (2, 4, 4), dim=12, depth=3, time_depth=2, heads=3, drop_path=0.5),
    "timesformer": lambda: Divided(7, T, CROP, (1, 4, 4), dim=12, depth=3, heads=3, drop_path=0.5),
    "mvit": lambda: MViT(
        7, T, CROP, dim=12, depths=(1, 2, 1), q_strides=[(1, 1, 1), (1, 2, 2), (1, 2, 2)], kv_strides=[(1, 1, 1)] * 3
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_recomputed_blocks_give_the_same_gradients_and_names_from_less_memory(name):
    torch.manual_seed(0)
    net = MODELS[name]().double()
    again = copy.deepcopy(net)
    recompute_blocks(again)
    assert list(again.state_dict()) == list(net.state_dict())
    video, answers = torch.randn(2, 3, T, CROP, CROP, dtype=torch.float64), []
    for model in (net, again):
        torch.manual_seed(1)  # drop path and dropout
        loss = model(video).square().sum()
        answers.append((loss, torch.autograd.grad(loss, [p for p in model.parameters()], allow_unused=True)))
    assert answers[0][0] == answers[1][0]
    for plain, recomputed in zip(answers[0][1], answers[1][1], strict=True):
        assert plain is recomputed is None or torch.equal(plain, recomputed)

    def recomputing():
        model = MODELS[name]()
        recompute_blocks(model)
        return model

    plain, less = (count(build, T, CROP).kept_bytes for build in (MODELS[name], recomputing))
    assert less < plain / 3


def test_a_model_without_blocks_cannot_recompute_them():
    with pytest.raises(ValueError, match="activation_checkpointing=true: Linear has no module named blocks"):
        recompute_blocks(nn.Linear(2, 3))


def test_a_compiled_model_has_the_names_and_the_answers_of_the_plain_one(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))  # traced, no code made
    net = MODELS["vivit"]().eval()
    compiled = copy.deepcopy(net)
    speed_up(compiled, compiled=True, activation_checkpointing=False)
    assert list(compiled.state_dict()) == list(net.state_dict())
    video = torch.randn(2, 3, T, CROP, CROP)
    torch.testing.assert_close(compiled(video), net(video), rtol=0, atol=1e-5)  # float32 on logits of size 1
    assert compiled._compiled_call_impl is not None
