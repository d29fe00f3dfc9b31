"""Published names and shapes of MViT to ours, by hand. Whole models: test_mvit.py and test_mvit_golden.py."""

import pytest
import torch

from tubelet.weights.mvit import from_slowfast, from_torchvision


def rows(*values):
    """A table (1, rows, D = 2)."""
    return torch.tensor([[[value, value + 0.5] for value in values]])


def test_separate_projections_become_one_in_the_order_q_k_v():
    names = [f"blocks.3.attn.{x}.{kind}" for kind in ("weight", "bias") for x in "vkq"]
    state = {name: torch.full((2, 4) if "weight" in name else (2,), i) for i, name in enumerate(names)}
    ours = from_slowfast(state)
    assert ours.keys() == {"blocks.3.attn.qkv.weight", "blocks.3.attn.qkv.bias"}
    assert ours["blocks.3.attn.qkv.weight"].shape == (6, 4)
    assert ours["blocks.3.attn.qkv.weight"][:, 0].tolist() == [2, 2, 1, 1, 0, 0]
    assert ours["blocks.3.attn.qkv.bias"].tolist() == [5, 5, 4, 4, 3, 3]


def test_the_position_of_the_class_token_becomes_the_first_row_of_the_places():
    state = {"pos_embed_class": rows(7), "pos_embed_spatial": rows(1, 2, 3), "pos_embed_temporal": rows(4, 5)}
    ours = from_slowfast(state)
    assert ours.keys() == {"pos_embed.space", "pos_embed.time"}
    assert torch.equal(ours["pos_embed.space"], rows(7, 1, 2, 3))
    assert torch.equal(ours["pos_embed.time"], rows(4, 5))


def test_places_without_a_class_token_and_one_table_stay_as_they_are():
    assert torch.equal(from_slowfast({"pos_embed_spatial": rows(1, 2)})["pos_embed.space"], rows(1, 2))
    assert torch.equal(from_slowfast({"pos_embed": rows(1, 2, 3)})["pos_embed.table"], rows(1, 2, 3))


def test_torchvision_has_positions_without_a_first_axis():
    state = {
        "pos_encoding.class_token": rows(9)[0, 0],
        "pos_encoding.class_pos": rows(7)[0, 0],
        "pos_encoding.spatial_pos": rows(1, 2)[0],
        "pos_encoding.temporal_pos": rows(4, 5, 6)[0],
    }
    ours = from_torchvision(state)
    assert ours.keys() == {"cls_token", "pos_embed.space", "pos_embed.time"}
    assert torch.equal(ours["cls_token"], rows(9))
    assert torch.equal(ours["pos_embed.space"], rows(7, 1, 2))
    assert torch.equal(ours["pos_embed.time"], rows(4, 5, 6))


def test_the_state_dict_that_is_given_is_left_as_it_was():
    state = {"pos_embed_class": rows(7), "pos_embed_spatial": rows(1), "head.projection.bias": rows(2)}
    names = list(state)
    assert set(from_slowfast(state)) == {"pos_embed.space", "head.bias"}
    assert list(state) == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["blocks.0.attn.q.bias", "blocks.0.attn.v.bias"],
            "weights: there is blocks.0.attn.q.bias but no blocks.0.attn.k.bias",
        ),
        (["head.bias", "head.projection.bias"], "two of its parameters would both become 'head.bias'"),
    ],
)
def test_weights_that_would_be_lost_are_an_error(names, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared below
        from_slowfast({name: torch.zeros(2) for name in names})
    assert str(error.value) == message
