"""Blocks that leave out products (all but the class token, two layers made one) give what whole blocks give."""

from functools import partial

import pytest
import torch

from tubelet.models.timesformer import Divided, JointSpaceTime, SpaceOnly
from tubelet.models.vivit import FactorisedEncoder, FrameMean, Joint

B, T, CROP = 2, 6, (8, 20)  # tubelets of 2x4x4: t=3, h=2, w=5
SIZE = dict(tubelet=(2, 4, 4), dim=12, depth=2, heads=3, drop_path=0.5)
MODELS = [
    *(partial(Joint, 7, T, CROP, **SIZE), partial(FactorisedEncoder, 7, T, CROP, **SIZE, time_depth=2)),
    *(partial(kind, 7, T, CROP, **SIZE) for kind in (FrameMean, Divided, JointSpaceTime, SpaceOnly)),
]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.func.__name__)
@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "with-drop-path"])
def test_logits_and_gradients_are_those_of_the_whole_block(build, training):
    torch.manual_seed(0)
    net = build().double().train(training)
    for parameter in net.parameters():  # nothing zero, nothing alike
        torch.nn.init.normal_(parameter, std=0.5)
    video = torch.randn(B, 3, T, *CROP, dtype=torch.float64)
    answers, gradients = [], []
    for in_full in (True, False):
        for module in net.modules():
            if hasattr(module, "in_full"):
                module.in_full = in_full
        torch.manual_seed(1)
        answers.append(net(video))
        gradients.append(torch.autograd.grad(answers[-1].square().sum(), list(net.parameters())))
    assert answers[0].abs().max() > 0.1
    torch.testing.assert_close(*answers, rtol=0, atol=1e-12)
    for (name, _), whole, short in zip(net.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(short, whole, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.func.__name__)
def test_the_last_mlp_sees_one_token_of_a_sequence(build):
    net, seen = build().eval(), []
    mlps = [module for name, module in net.named_modules() if name.endswith("blocks.1.mlp")]
    for mlp in mlps:
        mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2]))
    with torch.no_grad():
        net(torch.randn(B, 3, T, *CROP))
    assert seen == [1] * len(mlps)
    assert mlps
