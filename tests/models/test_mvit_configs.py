"""The MViT of every yaml: parameters, grids of queries and of keys, and its way through a checkpoint."""

import pytest
import torch
from omegaconf import OmegaConf
from torchvision.models.video import MViT_V1_B_Weights, MViT_V2_S_Weights

from tubelet.evaluation.checkpoint import build_module
from tubelet.layers.grids import block_grids
from tubelet.training.build import build_model
from tubelet.training.launch import compose_config


def composed(name, *overrides):
    """The `model` node of conf/model/<name>.yaml."""
    return compose_config("train", ["run_dir=x", "name=x", "data=motion", f"model={name}", *overrides]).model


def test_kv_only_keeps_every_token_and_few_keys_to_the_end():
    node = composed("mvit_kv_only")
    with torch.device("meta"):
        net, video = build_model(node, 7), torch.empty(1, 3, 16, 224, 224)
    tokens, keys = [], []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: tokens.append(out.shape[1]))
        block.attn.norm_k.register_forward_hook(lambda _, __, out: keys.append(out.shape[1]))
    net(video)
    assert tokens == [1 + 8 * 14 * 14] * 15 + [1]  # of the last block only the class token is read
    assert keys == [1 + 8 * 7 * 7] * 16


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        # Of the first block, of the first of each later stage on the grid before it, and of the last block.
        ("mvit_pool_space", [(8, 7, 7), (8, 14, 14), (8, 14, 14), (8, 14, 14), (8, 7, 7)]),
        ("mvit_pool_time", [(1, 56, 56), (1, 56, 56), (1, 28, 28), (1, 14, 14), (1, 7, 7)]),
        ("mvit_pool_both", [(2, 14, 14), (2, 28, 28), (2, 28, 28), (2, 14, 14), (2, 7, 7)]),
    ],
)
def test_keys_are_pooled_along_the_axes_of_their_config(name, keys):
    model = composed(name)
    grids = block_grids((8, 56, 56), model.depths, model.q_strides, model.kv_strides)
    assert [grids[block].kv for block in (0, 1, 3, 14, 15)] == keys
    assert [grids[block].q for block in (0, 1, 3, 14)] == [(8, 56, 56), (8, 28, 28), (8, 14, 14), (8, 7, 7)]


@pytest.mark.parametrize(
    ("name", "exact", "published"),
    [
        ("mvit_v1_b", MViT_V1_B_Weights.KINETICS400_V1.meta["num_params"], 36.6e6),
        # The same, and 8 more times, of width 96, in the table of positions.
        ("mvit_v1_b_32x3", MViT_V1_B_Weights.KINETICS400_V1.meta["num_params"] + 8 * 96, 36.6e6),
        ("mvit_v2_s", MViT_V2_S_Weights.KINETICS400_V1.meta["num_params"], 34.5e6),
        ("mvit_v2_b", 51_230_128, 51.2e6),
        ("mvit_v2_l", 213_390_112, 213.4e6),  # what the official config builds; the paper and its README say 217.6
        ("mvit_pool_space", MViT_V2_S_Weights.KINETICS400_V1.meta["num_params"], 34.5e6),
        ("mvit_pool_time", 34_553_872, 34.5e6),  # longer tables
        ("mvit_pool_both", 34_543_120, 34.5e6),
        ("mvit_kv_only", 29_785_360, 29.8e6),  # not published
    ],
)
def test_a_config_has_the_number_of_parameters_of_its_paper(name, exact, published):
    node = composed(name)
    with torch.device("meta"):
        net = build_model(node, 400)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == exact
    assert count == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", ["mvit_v1_b_tiny", "mvit_kv_only_tiny"])
def test_the_config_in_a_checkpoint_builds_the_same_model(name):
    node = composed(name, "model.num_classes=7")
    net = build_model(node, node.num_classes).eval()
    again = build_module(OmegaConf.to_container(node, resolve=True)).eval()
    again.load_state_dict(net.state_dict())
    video = torch.randn(1, 3, 8, 48, 48)
    assert torch.equal(net(video), again(video))
