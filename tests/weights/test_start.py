"""Images into clips, proven by mathematics, and that nothing is loaded by half.

Letters: B clips, C channels, T frames, H W pixels, D width. Sizes differ, so that swapped axes fail.
"""

import copy
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tubelet.layers.position import OneTable, SpaceTime
from tubelet.layers.readout import Mean, NormedMean
from tubelet.models.timesformer import Alternating, Divided, JointSpaceTime, SpaceOnly
from tubelet.models.vivit import (
    FactorisedAttention,
    FactorisedDotProduct,
    FactorisedEncoder,
    FactorisedStaged,
    FrameMean,
    Joint,
)
from tubelet.models.vivit_compressed import Compressed, FewTokens, PoolTime, StrideTime, Tubelets
from tubelet.models.vivit_hierarchical import Hierarchical
from tubelet.weights.account import grouped
from tubelet.weights.layouts import of_same_model
from tubelet.weights.positions import Positions
from tubelet.weights.renames import stacked
from tubelet.weights.resample import average, central_frame, resize_space, resize_space_time, resize_time, tile_space
from tubelet.weights.source import HALF, Source
from tubelet.weights.start import check_value, start_from
from tubelet.weights.understand import understand

DIM, HEADS, DEPTH, PATCH, HIDDEN = 12, 2, 3, 4, 30
SIZE = dict(dim=DIM, depth=DEPTH, heads=HEADS, mlp_ratio=2.5)
CROP = (8, 20)  # 2 x 5 patches


def image_vit(places=10, seed=0, hidden=HIDDEN):
    """{name: tensor} of a random image ViT in timm's layout, with 11 classes, in float64."""
    shapes = {
        "cls_token": (1, 1, DIM),
        "pos_embed": (1, 1 + places, DIM),
        "patch_embed.proj.weight": (DIM, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (DIM,),
        "norm.weight": (DIM,),
        "norm.bias": (DIM,),
        "head.weight": (11, DIM),
        "head.bias": (11,),
    }
    for i in range(DEPTH):
        linear = {
            "attn.qkv": (3 * DIM, DIM),
            "attn.proj": (DIM, DIM),
            "mlp.fc1": (hidden, DIM),
            "mlp.fc2": (DIM, hidden),
        }
        for name, shape in linear.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.weight": (DIM,), f"blocks.{i}.{norm}.bias": (DIM,)}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, dtype=torch.float64, generator=generator) * 0.4 for name, shape in shapes.items()}


def features(state, image, gelu, class_token=True):
    """(B, C, H, W) -> (B, D): the image ViT of `state`; without a class token the mean of its patches."""
    x = F.conv2d(image, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], PATCH)
    x = x.flatten(2).transpose(1, 2) + state["pos_embed"][:, 1:]
    if class_token:
        x = torch.cat([(state["cls_token"] + state["pos_embed"][:, :1]).expand(len(x), -1, -1), x], 1)

    def norm(name, x):
        return F.layer_norm(x, (DIM,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    for i in range(DEPTH):
        block = f"blocks.{i}."
        qkv = linear(block + "attn.qkv", norm(block + "norm1", x)).unflatten(-1, (3, HEADS, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (DIM // HEADS) ** 0.5).softmax(-1)
        x = x + linear(block + "attn.proj", (weights @ v).transpose(1, 2).flatten(2))
        hidden = F.gelu(linear(block + "mlp.fc1", norm(block + "norm2", x)), approximate=gelu)
        x = x + linear(block + "mlp.fc2", hidden)
    x = norm("norm", x)
    return x[:, 0] if class_token else x.mean(1)


def inflated(model, state=None, **options):
    """(the model started from an image ViT and with its head replaced by a random one, the account)."""
    model = model.double().eval()
    account = start_from(model, understand(state or image_vit()), **options)
    torch.nn.init.normal_(model.head.weight)
    return model, account


def frames(t, seed=3):
    """Clips (2, C, t, H, W) whose frames differ."""
    return torch.randn(2, 3, t, *CROP, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def still(t):
    """Clips of t equal frames."""
    return frames(1).expand(-1, -1, t, -1, -1)


def agree(model, video, expected):
    """expected: features (B, D) before the head."""
    with torch.no_grad():
        logits = model.head(expected)
        assert logits.std() > 0.1
        torch.testing.assert_close(model(video), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [Divided, SpaceOnly])
def test_timesformer_answers_a_clip_of_equal_frames_as_the_image_model_does_the_frame(kind):
    model, _ = inflated(kind(7, 3, CROP, (1, PATCH, PATCH), **SIZE))
    agree(model, still(3), features(image_vit(), frames(1)[:, :, 0], "none"))


@pytest.mark.parametrize("inflate", [central_frame, average])
@pytest.mark.parametrize("position", [None, SpaceTime])
def test_joint_attention_without_a_class_token_answers_equal_frames_as_the_image_model_does(inflate, position):
    """With one the answers differ a little: the class token is one key among t times as many."""
    places = {} if position is None else {"position": position}
    model, account = inflated(Joint(7, 6, CROP, (2, PATCH, PATCH), readout=Mean, **places, **SIZE), inflate=inflate)
    agree(model, still(6), features(image_vit(), frames(1)[:, :, 0], "tanh", class_token=False))
    assert "the model has no class token; nor is its row of positions used" in account.unused


def test_factorised_attention_begins_as_the_image_model_on_the_central_frame_of_each_tubelet():
    model, _ = inflated(FactorisedAttention(7, 9, CROP, (3, PATCH, PATCH), **SIZE))
    video = frames(9)
    of_frames = [features(image_vit(), video[:, :, i], "tanh", class_token=False) for i in (1, 4, 7)]
    agree(model, video, torch.stack(of_frames).mean(0))


def test_attention_over_time_that_begins_stopped_can_learn():
    """The paper zeroes all its weights; then no gradient would ever reach them, so only the last layer is zero here."""
    model, account = inflated(FactorisedAttention(7, 6, CROP, (2, PATCH, PATCH), **SIZE))
    model(frames(6)).sum().backward()
    block = model.blocks[0]
    assert torch.equal(block.attn_time.qkv.weight, block.attn_space.qkv.weight)
    assert torch.equal(block.norm_time.weight, block.norm_space.weight)
    assert block.attn_time.proj.weight.abs().max() == 0
    assert block.attn_time.proj.weight.grad.abs().max() > 1e-3
    assert account.new["copied from attn"] == [
        f"blocks.{i}.attn_time.qkv.{p}" for i in range(3) for p in ("weight", "bias")
    ]


def test_the_encoder_over_space_begins_as_the_image_model_and_the_one_over_time_anew():
    plain = FactorisedEncoder(7, 6, CROP, (2, PATCH, PATCH), time_depth=2, **SIZE).double()
    start = copy.deepcopy(plain.time.state_dict())
    model, account = inflated(plain)
    video = frames(6)
    of_frames = [features(image_vit(), video[:, :, i], "tanh") for i in (1, 3, 5)]
    with torch.no_grad():
        mine = model.space(model.patch_embed(video).flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(mine, torch.stack(of_frames, 1), rtol=0, atol=1e-9)
    torch.testing.assert_close(model.time.state_dict(), start, rtol=0, atol=0)
    reason = "as at the start of training: a temporal encoder that these weights do not have"
    assert "time.cls_token" in account.new[reason]


def test_the_frame_mean_is_the_mean_of_the_image_models_answers():
    model, _ = inflated(FrameMean(7, 4, CROP, (1, PATCH, PATCH), **SIZE))
    video = frames(4)
    agree(model, video, torch.stack([features(image_vit(), video[:, :, i], "tanh") for i in range(4)]).mean(0))


def test_timesformers_temporal_attention_is_copied_and_stopped():
    model, account = inflated(Divided(7, 3, CROP, (1, PATCH, PATCH), **SIZE))
    block = model.blocks[2]
    assert torch.equal(block.temporal_attn.qkv.weight, image_vit()["blocks.2.attn.qkv.weight"])
    assert torch.equal(block.temporal_attn.proj.bias, image_vit()["blocks.2.attn.proj.bias"])
    assert torch.equal(block.temporal_norm1.weight, image_vit()["blocks.2.norm1.weight"])
    assert block.temporal_fc.weight.abs().max() == block.temporal_fc.bias.abs().max() == 0
    assert model.pos_embed.time.abs().max() == 0
    assert set(account.new) == {
        "copied from norm1",
        "copied from attn",
        "zero, so that attention over time begins by adding nothing",
        "zero: these weights have no times, so frames begin alike",
        "for 7 classes, as at the start of training: theirs has 11",
    }


@pytest.mark.parametrize(
    ("model", "spatial"),
    [
        (FactorisedStaged(7, 6, CROP, (2, PATCH, PATCH), time_depth=2, **SIZE), [0, 1, 2]),
        (Alternating(7, 6, CROP, (1, PATCH, PATCH), **SIZE | dict(depth=6)), [1, 3, 5]),
    ],
)
def test_blocks_over_space_are_the_image_models_in_turn_and_those_over_time_are_new(model, spatial):
    model, account = inflated(model)
    for theirs, ours in enumerate(spatial):
        assert torch.equal(model.blocks[ours].mlp.fc1.weight, image_vit()[f"blocks.{theirs}.mlp.fc1.weight"])
    reason = "as at the start of training: blocks over time that these weights do not have"
    new = {int(name.split(".")[1]) for name in account.new[reason]}
    assert new == set(range(len(model.blocks))) - set(spatial)


@pytest.mark.parametrize("kind", [JointSpaceTime, FactorisedDotProduct])
def test_the_blocks_of_one_attention_are_copied_whole(kind):
    model, _ = inflated(kind(7, 6, CROP, tubelet=(2, PATCH, PATCH), **SIZE))
    names = dict(model.named_parameters())
    prefix = "encoder." if kind is JointSpaceTime else ""
    for name, value in image_vit().items():
        if "blocks." in name:
            assert torch.equal(names[prefix + name], value)


def test_kernels_are_inflated_as_said():
    kernel = torch.randn(4, 3, 2, 5)
    assert torch.equal(central_frame(kernel, 3)[:, :, 1], kernel)
    assert central_frame(kernel, 3)[:, :, [0, 2]].abs().max() == 0
    assert torch.equal(central_frame(kernel, 4)[:, :, 2], kernel)  # index t // 2
    assert average(kernel, 4).shape == (4, 3, 4, 2, 5)
    torch.testing.assert_close(average(kernel, 4).sum(2), kernel)


def test_positions_are_resampled_along_their_own_axis():
    rows = torch.arange(4.0)[:, None].expand(4, 3).reshape(1, 12, 1)  # 4 x 3 places, each knowing its row
    taller = resize_space(rows, (4, 3), (7, 5)).reshape(7, 5)
    assert (taller - taller[:, :1]).abs().max() < 1e-5
    assert (taller[1:] > taller[:-1]).all()
    assert torch.equal(resize_space(rows, (4, 3), (2, 5), nearest=True).reshape(2, 5)[:, 0], torch.tensor([0.0, 2.0]))
    times = torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1)
    assert torch.allclose(resize_time(times, 6).flatten(), torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2]))
    assert torch.equal(resize_time(times, 4, nearest=True).flatten(), torch.tensor([0.0, 0.0, 1.0, 2.0]))
    whole = tile_space(rows, times * 10, 3)
    assert whole.reshape(3, 4, 3)[2, 1].tolist() == [21.0, 21.0, 21.0]
    assert torch.allclose(resize_space_time(whole, (3, 4, 3), (6, 4, 3)).reshape(6, 4, 3)[1, 2], torch.tensor(4.5))


def test_the_class_tokens_position_is_kept_apart():
    state = image_vit(places=9)
    state["pos_embed"][:, 1:] = 1.0
    model, account = inflated(Joint(7, 6, CROP, (2, PATCH, PATCH), **SIZE), state)
    table = model.encoder.pos_embed.table
    assert torch.equal(table[:, :1], state["pos_embed"][:, :1])
    torch.testing.assert_close(table[:, 1:], torch.ones(1, 3 * 10, DIM).double(), rtol=0, atol=1e-5)
    assert "3x3 places to 2x5, bicubic; repeated for 3 times" in account.resized


def test_positions_of_as_many_places_in_another_shape_are_resampled():
    """16 places of an image are 4 x 4, also where the clip has 2 x 8."""
    state = image_vit(places=16)
    model, account = inflated(SpaceOnly(7, 3, (8, 32), (1, PATCH, PATCH), **SIZE), state)
    assert list(account.resized) == ["4x4 places to 2x8, bicubic"]
    places = resize_space(state["pos_embed"][:, 1:], (4, 4), (2, 8))
    torch.testing.assert_close(model.pos_embed[:, 1:], places, rtol=0, atol=1e-12)


def table_of(source, size, tubelet, accept=(), kind="table", prefix=""):
    """(the table (1, rows, D) that a model of this clip gets, its positions). Without a class token."""
    positions = Positions(source, size, tubelet, accept)
    t, h, w = positions.grid
    module = (OneTable if kind == "table" else SpaceTime)(t, h * w, 2, class_token=False)
    rows = {"space.": h * w, "time.": t}.get(prefix, t * h * w if kind == "table" else h * w)
    return positions.table(prefix, kind, module, rows), positions


def random_table(rows):
    return torch.randn(1, rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))


def test_vivits_table_in_a_clip_of_as_many_tokens_is_another_clip():
    """Released: 16 x 14 x 14 = 3136, as 4 x 28 x 28 are."""
    source = Source("", {"pos_embed": random_table(3136)}, joint=True)
    clip = (8, 448, 448), (2, 16, 16)
    with pytest.raises(
        ValueError, match=r"^the weights were trained with clip\.num_frames=32, and this run has 8; type"
    ):
        table_of(source, *clip)
    with pytest.raises(ValueError, match=r"^the weights were trained with clip\.crop=224, and this run has 448; type"):
        table_of(source, *clip, accept=["frames"])
    table, positions = table_of(source, *clip, accept=["frames", "crop"])
    expected = resize_space_time(source.weights["pos_embed"], (16, 14, 14), (4, 28, 28))
    assert torch.equal(table, expected)
    assert positions.done == ["16x14x14 places to 4x28x28, bicubic in space, linear in time"]


def test_the_clip_that_settings_tell_goes_before_what_a_table_looks_like():
    source = Source("", {"pos_embed": random_table(3136)}, joint=True, size=(8, 448, 448))
    table, _ = table_of(source, (8, 448, 448), (2, 16, 16))
    assert torch.equal(table, source.weights["pos_embed"])
    source.size = (4, 12, 40)  # 2 x 3 x 10 tokens
    with pytest.raises(ValueError, match=r"^its 3136 positions are not those of 3x10 places, as its crop has$"):
        table_of(source, (4, 12, 40), (2, 4, 4))


def test_places_of_an_encoder_over_space_are_a_square_too():
    source = Source("", {"space.pos_embed": random_table(16)})
    with pytest.raises(
        ValueError, match=r"^the weights were trained with clip\.crop=16, and this run has \[8,32\]; type"
    ):
        table_of(source, (6, 8, 32), (2, 4, 4), prefix="space.")
    table, _ = table_of(source, (6, 8, 32), (2, 4, 4), accept=["crop"], prefix="space.")
    assert torch.equal(table, resize_space(source.weights["space.pos_embed"], (4, 4), (2, 8)))


def test_of_timesformer_an_equal_number_of_places_is_an_equal_grid_as_in_its_code_and_is_told():
    source = Source("", {"pos_embed": random_table(16), "time_embed": random_table(3)}, nearest=True)
    table, positions = table_of(source, (3, 8, 32), (1, 4, 4), kind="space")
    assert torch.equal(table, source.weights["pos_embed"])
    assert positions.notes == ["its 16 places are taken for 2x8, as in this clip: the file does not tell"]
    _, positions = table_of(source, (3, 16, 16), (1, 4, 4), kind="space")
    assert positions.notes == []
    source.size = (3, 16, 16)
    table, _ = table_of(source, (3, 8, 32), (1, 4, 4), accept=["crop"], kind="space")
    assert torch.equal(table, resize_space(source.weights["pos_embed"], (4, 4), (2, 8), nearest=True))


@pytest.mark.parametrize("accept", [(), ("frames",), ("frames", "crop")])
def test_a_table_that_does_not_tell_its_clip_is_not_guessed(accept):
    """1568 rows are 8 x 14 x 14, or 32 x 7 x 7, one axis away from this clip."""
    message = (
        "its 1568 positions are not those of this clip's 16x7x7 tokens, and do not tell of which clip they are; "
        "give clip.num_frames and clip.crop that they were trained on"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        table_of(Source("", {"pos_embed": random_table(1568)}, joint=True), (32, 112, 112), (2, 16, 16), accept)


def test_a_table_of_as_many_rows_as_the_clip_has_tokens_is_taken_and_told():
    source = Source("", {"pos_embed": random_table(784)}, joint=True)
    table, positions = table_of(source, (32, 112, 112), (2, 16, 16))
    assert torch.equal(table, source.weights["pos_embed"])
    assert positions.notes == ["its 784 positions are taken for 16x7x7, as in this clip: the file does not tell"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: FactorisedEncoder(7, 2, CROP, (2, PATCH, PATCH), time_depth=2, **SIZE),
        lambda: Joint(7, 6, PATCH, (2, PATCH, PATCH), **SIZE),
    ],
    ids=["one time", "one place"],
)
def test_models_of_one_time_or_one_place_load_their_own_weights(build):
    """Then the row of the class token is not to be told by what is left over."""
    theirs, ours = build(), build()
    start_from(ours, of_same_model("a run", theirs.state_dict(), HALF))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def in_parts(parts="qkv"):
    """The image ViT with its biases of queries, keys and values apart, as VideoMAE has them."""
    state = {}
    for name, value in image_vit().items():
        rows = dict(zip("qkv", value.chunk(3), strict=True)) if name.endswith("qkv.bias") else {}
        state |= {name.replace("qkv.bias", f"{part}_bias"): rows[part] for part in parts if rows} or {name: value}
    return state


def test_a_bias_in_parts_becomes_one_and_that_of_the_keys_may_be_left_out():
    assert torch.equal(understand(in_parts()).weights["blocks.1.attn.qkv.bias"], image_vit()["blocks.1.attn.qkv.bias"])
    bias = understand(in_parts("qv")).weights["blocks.1.attn.qkv.bias"]
    assert torch.equal(bias[:DIM], image_vit()["blocks.1.attn.qkv.bias"][:DIM])
    assert bias[DIM : 2 * DIM].abs().max() == 0
    assert torch.equal(bias[2 * DIM :], image_vit()["blocks.1.attn.qkv.bias"][2 * DIM :])


@pytest.mark.parametrize(("parts", "cut", "lacks"), [("qkv", "q", "query"), ("qkv", "k", "key"), ("qv", "v", "value")])
def test_a_part_of_a_bias_that_one_block_lacks_is_no_zero(parts, cut, lacks):
    state = in_parts(parts)
    del state[f"blocks.2.attn.{cut}_bias"]
    message = f"it has a part of the bias of blocks.2.attn, but not that of its {lacks}: the file is cut"
    with pytest.raises(ValueError, match=f"^{message}$"):
        understand(state)


def test_weights_without_any_bias_of_queries_keys_and_values_get_zeros_and_the_account_says_so():
    """timm's qkv_bias=False."""
    state = {name: value for name, value in image_vit().items() if not name.endswith("qkv.bias")}
    model, account = inflated(Divided(7, 3, CROP, (1, PATCH, PATCH), **SIZE), state)
    names = account.new["zero: these weights have no bias of queries, keys, values"]
    assert sorted(names) == [f"blocks.{i}.{part}.qkv.bias" for i in range(3) for part in ("attn", "temporal_attn")]
    zero = {f"blocks.{i}.attn.qkv.bias": torch.zeros(3 * DIM).double() for i in range(3)}
    agree(model, still(3), features(state | zero, frames(1)[:, :, 0], "none"))


def divided():
    """A divided TimeSformer, and its weights in the official layout."""
    model = Divided(7, 3, CROP, (1, PATCH, PATCH), **SIZE).double()
    names = {"pos_embed.space": "pos_embed", "pos_embed.time": "time_embed"}
    return model, {f"model.{names.get(name, name)}": value for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (
            "blocks.1.temporal_attn.qkv.weight",
            "it holds nothing for the model's blocks.1.temporal_attn.qkv.weight "
            "(looked for blocks.1.temporal_attn.qkv.weight)",
        ),
        (
            "blocks.2.temporal_fc.bias",
            "it holds nothing for the model's blocks.2.temporal_fc.bias (looked for blocks.2.temporal_fc.bias)",
        ),
        ("time_embed", "it has attention over time, but no positions in time (time_embed): the file is cut"),
        ("head.bias", "it has a head, but not its head.bias: the file is cut"),
    ],
)
def test_a_cut_file_of_attention_over_time_is_not_completed_as_an_image_is(cut, message):
    model, state = divided()
    source = replace(understand(state), size=(3, *CROP))
    assert start_from(model, source).new == {}
    del source.weights[cut]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(model, source)


@pytest.mark.parametrize(
    ("build", "cut", "looked"),
    [
        (FactorisedAttention, "blocks.1.attn_time.qkv.bias", "holds nothing for the model's blocks.1.attn_time.qkv.b"),
        (FactorisedEncoder, "time.pos_embed", r"has attention over time, but no positions in time \(time.pos_embed\)"),
        (partial(FactorisedAttention, position=SpaceTime), "time_embed", r"has .* no positions in time \(time_embed"),
    ],
)
def test_a_cut_checkpoint_of_ours_is_not_completed(build, cut, looked):
    theirs = build(7, 6, CROP, (2, PATCH, PATCH), **SIZE)
    source = of_same_model("a run", theirs.state_dict(), HALF)
    start_from(theirs, source)
    del source.weights[cut]
    with pytest.raises(ValueError, match=f"^it {looked}"):
        start_from(theirs, source)


def test_a_value_of_another_shape_is_refused_before_anything_is_loaded():
    """Every way to a value, as that which copies attention over space, ends in this check."""
    message = "its a.weight would be (2, 3), the model's is (3, 3)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_value("a.weight", torch.ones(2, 3), torch.ones(3, 3))


def test_the_account_numbers_the_blocks_that_it_names():
    names = [f"encoder.blocks.{i}.attn.qkv.{part}" for i in range(12) for part in ("weight", "bias")]
    assert grouped(names) == ["encoder.blocks.0-11.attn.qkv"]
    assert grouped(["blocks.4.mlp.fc1.bias", "head.weight", "head.bias"]) == ["blocks.4.mlp.fc1", "head"]
    assert grouped(["blocks.2.norm1.bias", "blocks.0.norm1.bias"]) == ["blocks.0+2.norm1"]


def test_learned_scales_of_a_branch_are_folded_into_its_last_layer():
    state = image_vit() | {f"blocks.{i}.ls{j}.gamma": torch.full((DIM,), 0.5 * j) for i in range(3) for j in (1, 2)}
    weights = understand(state).weights
    torch.testing.assert_close(weights["blocks.1.attn.proj.bias"], 0.5 * image_vit()["blocks.1.attn.proj.bias"])
    torch.testing.assert_close(weights["blocks.1.mlp.fc2.weight"], image_vit()["blocks.1.mlp.fc2.weight"])


def test_a_layer_scale_that_one_block_lacks_is_a_cut_file():
    state = image_vit() | {f"blocks.{i}.ls{j}.gamma": torch.ones(DIM) for i in range(3) for j in (1, 2)}
    del state["blocks.2.ls1.gamma"]
    with pytest.raises(ValueError, match=r"and others as blocks\.2\.attn\.proj have none: the file is cut$"):
        understand(state)


@pytest.mark.parametrize("lacking", ["blocks.1.attn.proj.bias", "blocks.1.mlp.fc2.weight"])
def test_a_layer_scale_without_its_layer_is_a_cut_file(lacking):
    state = image_vit() | {f"blocks.{i}.ls{j}.gamma": torch.ones(DIM) for i in range(3) for j in (1, 2)}
    del state[lacking]
    with pytest.raises(ValueError, match=rf"^it has blocks\.1\.ls\d\.gamma, but not {lacking}: the file is cut$"):
        understand(state)


def test_queries_without_their_keys_are_a_cut_file():
    queries = {f"blocks.1.attn.{part}.weight": torch.ones(2, 2) for part in ("query", "value")}
    with pytest.raises(ValueError, match=r"^it has a part of .* blocks\.1\.attn, but not its key: the file is cut$"):
        stacked(queries)


def test_an_image_model_with_register_tokens_is_told_what_is_too_much():
    with pytest.raises(ValueError, match=r"the nearest that is: timm's image ViT, which has no reg_token$"):
        understand(image_vit() | {"reg_token": torch.ones(1, 4, DIM)})


def test_videomaes_pretraining_encoder_loads_without_its_decoder():
    state = {
        f"encoder.{k}": v for k, v in image_vit().items() if k.split(".")[0] not in ("cls_token", "pos_embed", "head")
    }
    state["encoder.patch_embed.proj.weight"] = torch.randn(DIM, 3, 2, PATCH, PATCH).double()
    state |= {
        "decoder.norm.weight": torch.ones(4),
        "encoder_to_decoder.weight": torch.ones(4, DIM),
        "mask_token": torch.ones(1),
    }
    model = Joint(7, 6, CROP, (2, PATCH, PATCH), readout=NormedMean, exact_gelu=True, **SIZE).double()
    message = (
        "the weights were trained with clip.num_frames=16, and this run has 6; "
        "type clip.num_frames=16, or model.accept=[frames] to resample their positions"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):  # its sinusoids tell no clip: that of all released
        start_from(model, understand(state))
    account = start_from(model, understand(state), accept=("frames", "crop"))
    assert account.layout == "VideoMAE's pretraining"
    assert sorted(account.unused["of the pretraining alone"]) == [
        *("decoder.norm.weight", "encoder_to_decoder.weight", "mask_token")
    ]
    assert sorted(account.unused["it comes before the mean of the tokens, the model's after"]) == [
        "norm.bias",
        "norm.weight",
    ]
    assert torch.equal(model.encoder.blocks[1].mlp.fc1.weight, state["encoder.blocks.1.mlp.fc1.weight"])


VIVIT = dict(num_classes=7, num_frames=6, crop=CROP, tubelet=(2, PATCH, PATCH), **SIZE)


NO_IMAGE = (
    "so it cannot take weights of timm's image ViT; those that can: timesformer*, vivit_* but vivit_hierarchical*"
)


def hierarchy():
    sizes = dict(dims=(DIM, 24), depths=(1, 2), heads=(2, 4), windows=((2, 2, 2),), mlp_ratio=2.5)
    return Hierarchical(7, 6, (8, 24), tubelet=(1, PATCH, PATCH), **sizes)


def without(name):
    return {key: value for key, value in image_vit().items() if key != name}


@pytest.mark.parametrize(
    ("model", "state", "message"),
    [
        (
            lambda: Joint(**VIVIT | dict(depth=2)),
            image_vit(),
            "it has 3 blocks, the model 2; type model.depth=3",
        ),
        (
            lambda: Alternating(7, 6, CROP, (1, PATCH, PATCH), **SIZE | dict(depth=4)),
            image_vit(),
            "it has 3 blocks, the model 2; type model.depth=6",
        ),
        (
            lambda: FrameMean(**VIVIT | dict(depth=2)),
            image_vit(),
            "it has 3 blocks over space, the model 2; type model.depth=3",
        ),
        (lambda: Joint(**VIVIT | dict(dim=16)), image_vit(), "its width is 12, the model's 16; type model.dim=12"),
        (
            lambda: Joint(**VIVIT | dict(mlp_ratio=4.0)),
            image_vit(),
            "its MLP is 30 wide, the model's 48; type model.mlp_ratio=2.5",
        ),
        (
            lambda: Joint(**VIVIT | dict(tubelet=(3, 2, 2))),
            image_vit(),
            "its patches are 4x4, the model's 3x2x2; type model.tubelet=[3,4,4]",
        ),
        (
            lambda: Divided(7, 3, CROP, (1, 2, 2), **SIZE),
            image_vit(),
            "its patches are 4x4, the model's 1x2x2; type model.tubelet=[1,4,4]",
        ),
        (
            lambda: Joint(**VIVIT),
            image_vit() | {"blocks.0.attn.q_norm.weight": torch.ones(6), "blocks.0.attn.k_norm.weight": torch.ones(6)},
            "2 of its parameters have no place in Joint: blocks.0.attn.k_norm, blocks.0.attn.q_norm; "
            "the layout is that of timm's image ViT",
        ),
        (
            lambda: Joint(**VIVIT),
            without("blocks.1.norm2.bias"),
            "it holds nothing for the model's encoder.blocks.1.norm2.bias (looked for blocks.1.norm2.bias)",
        ),
        (
            lambda: Joint(**VIVIT),
            without("blocks.2.attn.qkv.bias"),
            "it holds nothing for the model's encoder.blocks.2.attn.qkv.bias (looked for blocks.2.attn.qkv.bias)",
        ),
        (
            lambda: Joint(**VIVIT),
            image_vit() | {"patch_embed.proj.weight": torch.ones(DIM, 1, PATCH, PATCH).double()},
            "its patches have 1 channel, the model's 3; take weights of 3 channels",
        ),
        (
            lambda: Divided(7, 3, CROP, (1, PATCH, PATCH), **SIZE),
            image_vit() | {"blocks.1.attn.qkv.weight": torch.ones(2 * DIM, DIM).double()},
            "its blocks.1.attn.qkv.weight is (24, 12), the model's blocks.1.attn.qkv.weight (36, 12)",
        ),
        (
            lambda: Joint(**VIVIT),
            image_vit() | {"pos_embed": torch.ones(1, 11, DIM + 1).double()},
            "its positions give (1, 31, 13) for encoder.pos_embed.table, which has (1, 31, 12)",
        ),
        (
            lambda: Joint(**VIVIT),
            image_vit() | {"norm.weight": torch.full((DIM,), torch.nan).double()},
            "12 of the 12 values for encoder.norm.weight are NaN or infinite: the file is damaged, or its training "
            "failed; take another one",
        ),
        (
            lambda: Divided(7, 3, CROP, (1, PATCH, PATCH), **SIZE),
            image_vit() | {"cls_token": torch.full((1, 1, DIM), -torch.inf).double()},
            "12 of the 12 values for cls_token are NaN or infinite: the file is damaged, or its training failed; "
            "take another one",
        ),
        (
            lambda: Joint(**VIVIT),
            image_vit(places=7),
            "its 7 positions in space are no square, and not the 2x5 of this clip's tokens",
        ),
        (
            lambda: Joint(**VIVIT),
            {"fc_norm.weight" if k == "norm.weight" else k: v for k, v in image_vit().items()},
            "its last norm comes after the mean; type model.readout._target_=tubelet.layers.readout.NormedMean",
        ),
        (
            lambda: Divided(7, 3, CROP, (1, PATCH, PATCH), **SIZE),
            {"fc_norm.weight" if k == "norm.weight" else k: v for k, v in image_vit().items()},
            f"its last norm comes after the mean; Divided has no readout, {NO_IMAGE}",
        ),
        (hierarchy, image_vit(), f"it has 3 blocks, the model 4; Hierarchical has no depth, {NO_IMAGE}"),
        (
            lambda: Hierarchical(7, 4, (16, 48), (1, PATCH, PATCH)),
            image_vit(),
            f"its width is 12, the model's 192; Hierarchical has no dim, {NO_IMAGE}",
        ),
        (
            lambda: Joint(**VIVIT),
            image_vit(hidden=43),
            "its MLP is 43 wide, the model's 30; type model.mlp_ratio=3.5833333333333335",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_the_override_and_leaves_the_model_as_it_was(model, state, message):
    model = model().double()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(model, understand(state))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (
            lambda: Joint(**VIVIT, exact_gelu=True),
            {"exact_gelu": False},
            "its GELU is the tanh form, the model's is exact; type model.exact_gelu=false",
        ),
        (
            lambda: FewTokens(**VIVIT, regions=(1, 5)),
            {"exact_gelu": True},
            "its GELU is exact, the model's is the tanh form; FewTokens has no exact_gelu, so it cannot take weights "
            "of a paper; those that can: some",
        ),
        (
            lambda: FactorisedAttention(**VIVIT),
            {"time_first": True},
            "its blocks attend over time first, the model's over space; type model.time_first=true",
        ),
        (lambda: FactorisedAttention(**VIVIT), {"heads": 3}, "it has 3 heads, the model 2; type model.heads=3"),
    ],
)
def test_what_computes_something_else_is_refused_though_all_shapes_fit(model, given, message):
    source = replace(understand(image_vit()), layout="a paper", models="some", **given)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(model(), source)


def test_heads_that_the_file_does_not_tell_are_told_where_they_are_unusual():
    note = (
        "the number of heads does not stand in the file; the model has 2, of 6 channels each, and published ones of 64"
    )
    source = understand(image_vit(places=9))
    assert start_from(Joint(**VIVIT), source).notes == [note]
    assert start_from(Joint(**VIVIT), replace(source, heads=2)).notes == []


def test_an_unknown_layout_is_told_with_the_nearest_known_one():
    state = {name.replace("blocks.", "units."): value for name, value in image_vit().items()}
    with pytest.raises(ValueError, match="is not known") as caught:
        understand(state)
    assert str(caught.value) == (
        f"the layout of its {len(state)} parameters, the first of them 'cls_token', is not known; "
        "the nearest that is: timm's image ViT, which has blocks.0.attn.qkv.weight"
    )


def test_words_that_all_names_begin_with_are_left_out():
    """Such as Lightning's `model.`, or those of a module that holds the model."""
    theirs = {f"model.backbone.{name}": value for name, value in image_vit().items()}
    assert understand(theirs).weights.keys() == understand(image_vit()).weights.keys()


def test_numbers_that_are_no_floats_are_refused():
    state = image_vit() | {"blocks.1.mlp.fc1.weight": image_vit()["blocks.1.mlp.fc1.weight"].long()}
    message = "its blocks.1.mlp.fc1.weight is of int64, not of floating point numbers: quantised, or damaged"
    with pytest.raises(ValueError, match=f"^{message}$"):
        start_from(Joint(7, 6, CROP, (2, PATCH, PATCH), **SIZE), understand(state))


def test_positions_in_time_without_attention_over_time_are_of_joint_attention():
    theirs = JointSpaceTime(7, 6, CROP, (1, PATCH, PATCH), **SIZE).state_dict()
    state = {name.replace("encoder.", "").replace("pos_embed.space", "pos_embed"): v for name, v in theirs.items()}
    state["time_embed"] = state.pop("pos_embed.time")
    source = understand({f"model.{name}": value for name, value in state.items()})
    with pytest.raises(ValueError, match=r"attend to all places and times together .* model=timesformer_joint$"):
        start_from(Divided(7, 6, CROP, (1, PATCH, PATCH), **SIZE), source)


def test_weights_with_attention_over_time_name_the_models_that_have_it():
    theirs = Divided(7, 6, CROP, (1, PATCH, PATCH), **SIZE)
    source = replace(of_same_model("the official TimeSformer", theirs.state_dict(), HALF), exact=False, models="this")
    message = (
        "its blocks have attention over time (temporal_attn), those of Joint have none such; "
        "models that can take weights of the official TimeSformer: this"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        start_from(Joint(7, 6, CROP, (1, PATCH, PATCH), **SIZE), source)


AS_TUBELETS = {"patch_embed.proj.weight": torch.ones(DIM, 3, 2, PATCH, PATCH)}


@pytest.mark.parametrize(
    ("left_out", "added", "end"),
    [
        ("cls_token", {}, "VideoMAE, whose patch_embed.proj.weight has 5 axes"),
        ("", AS_TUBELETS, "timm's image ViT, whose patch_embed.proj.weight has 4 axes"),
        ("pos_embed", AS_TUBELETS, "VideoMAE, which has no cls_token"),
    ],
)
def test_a_nearest_layout_of_the_same_names_is_told_with_what_is_different(left_out, added, end):
    with pytest.raises(ValueError, match="is not known") as caught:
        understand(without(left_out) | added)
    assert str(caught.value).partition("nearest that is: ")[2] == end


def test_a_head_of_as_many_classes_is_an_image_models():
    model = SpaceOnly(11, 3, CROP, (1, PATCH, PATCH), **SIZE).double()
    account = start_from(model, understand(image_vit()))
    reason = "for 11 classes, as at the start of training: theirs is an image model's"
    assert account.new[reason] == ["head.weight", "head.bias"]


def test_few_tokens_begins_as_the_image_model_on_each_frame():
    """Attention over time, of whichever regions, begins by adding nothing."""
    model, _ = inflated(FewTokens(7, 6, CROP, (2, 1), (1, PATCH, PATCH), **SIZE))
    video = frames(6)
    of_frames = [features(image_vit(), video[:, :, i], "tanh", class_token=False) for i in range(6)]
    agree(model, video, torch.stack(of_frames).mean(0))


@pytest.mark.parametrize("reduce", [PoolTime, StrideTime])
def test_a_clip_compressed_in_time_is_to_the_image_model_the_frames_that_are_left(reduce):
    """Each three equal frames become one, so that joint attention sees a clip of the frames that differ."""
    model, _ = inflated(Compressed(7, 6, CROP, reduce, 3, (1, PATCH, PATCH), readout=Mean, **SIZE))
    whole, _ = inflated(Joint(7, 2, CROP, (1, PATCH, PATCH), readout=Mean, **SIZE))
    whole.head = model.head
    video = frames(2)
    with torch.no_grad():
        expected = whole(video)
        torch.testing.assert_close(model(video.repeat_interleave(3, dim=2)), expected, rtol=0, atol=1e-9)
    agree(model, still(6), features(image_vit(), frames(1)[:, :, 0], "tanh", class_token=False))


def test_long_tubelets_answer_equal_frames_as_the_image_model_does():
    model, account = inflated(Tubelets(7, 6, CROP, (3, PATCH, PATCH), readout=Mean, **SIZE))
    agree(model, still(6), features(image_vit(), frames(1)[:, :, 0], "tanh", class_token=False))
    assert account.resized["inflated to 3 frames, central frame"] == ["patch_embed.proj.weight"]


def test_a_hierarchy_takes_the_weights_of_another_whole():
    theirs, ours = hierarchy(), hierarchy()
    account = start_from(ours, of_same_model("a hierarchy", theirs.state_dict(), HALF))
    assert (account.new, account.resized, account.unused) == ({}, {}, {})
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
