"""Counts against paper, against papers, and against what torch really keeps."""

from functools import partial

import pytest
import torch
from torch import nn

from tubelet.analysis.cost import Attention, count
from tubelet.commands.profile import composed
from tubelet.layers.readout import Mean, NormedMeanOfPatches
from tubelet.models import mvit, timesformer, vivit
from tubelet.training.build import build_model

T3, CROP = 3, (4, 10)  # with tubelets of 1x2x2: t=3, h=2, w=5
TINY = {"dim": 8, "depth": 1, "heads": 2}
L, D, PIXELS = 30, 8, 3 * 2 * 2


def tiny(cls, **arguments):
    build = partial(cls, 7, T3, CROP, tubelet=(1, 2, 2), **(TINY | arguments))
    return count(build, T3, CROP, memory=False)


def test_joint_on_paper():
    cost = tiny(vivit.Joint, readout=Mean)
    embed, qkv, proj, mlp, head = PIXELS * D, 3 * D * D, D * D, 2 * 4 * D * D, D * 7
    biases = D + 3 * D + D + 5 * D + 7
    norms, positions = 3 * 2 * D, L * D
    assert cost.parameters == embed + qkv + proj + mlp + head + biases + norms + positions
    assert cost.linear_macs() == L * (embed + qkv + proj + mlp) + head  # 12 L D^2 in the block
    assert cost.attention_macs() == cost.attention_macs(as_run=True) == 2 * L * L * D
    assert cost.published.attention == {Attention(sequences=1, heads=2, queries=30, keys=30, width=4): 1}
    assert cost.macs() == cost.attention_macs() + cost.linear_macs()
    assert [(step.name, step.tokens, step.width) for step in cost.steps] == [("patch_embed", 30, 8)]
    assert cost.frame_tokens == 10


def test_a_class_token_is_a_query_and_a_key_more():
    cost = tiny(vivit.Joint)
    assert cost.attention_macs() == 2 * 31 * 31 * D
    assert [(step.name, step.tokens) for step in cost.steps] == [("patch_embed", 30), ("encoder.blocks.0", 31)]


def test_of_the_last_block_only_the_class_token_is_run_where_nothing_else_is_read():
    cost = tiny(vivit.Joint)
    tokens, embed = 31, L * PIXELS * D
    assert cost.linear_macs() == embed + tokens * 12 * D * D + D * 7
    assert (
        cost.linear_macs(as_run=True) == embed + tokens * 2 * D * D + 10 * D * D + D * 7
    )  # k, v of all; the rest of one
    assert cost.attention_macs(as_run=True) == 2 * 31 * D
    full = tiny(vivit.Joint, readout=Mean)
    assert full.macs() == full.macs(as_run=True)


def test_factorised_models_on_paper():
    space, time = 3 * 10 * 10, 10 * 3 * 3  # T N^2 and N T^2
    assert tiny(vivit.FactorisedAttention).attention_macs() == 2 * D * (space + time)
    assert tiny(vivit.FactorisedDotProduct).attention_macs() == D * (space + time)  # half of the heads each
    encoder = tiny(vivit.FactorisedEncoder, time_depth=1, readout=Mean)
    assert encoder.attention_macs() == 2 * D * (space + 3 * 3)
    assert [(step.name, step.tokens) for step in encoder.steps] == [("patch_embed", 30), ("time.blocks.0", 3)]


def test_relative_positions_count_as_a_bias_as_published_and_as_longer_vectors_as_run():
    build = partial(
        mvit.MViT,
        readout=NormedMeanOfPatches,  # which reads all tokens, so that the last block makes them
        **{"num_classes": 7, "num_frames": 3, "crop": 20, "dim": 8, "heads": 2, "depths": [1]},
        **{"q_strides": [(1, 1, 1)], "kv_strides": [(1, 2, 2)], "patch_kernel": (1, 5, 5), "patch_stride": (1, 4, 4)},
    )
    cost = count(build, 3, 20, memory=False)
    queries, keys = 1 + 3 * 5 * 5, 1 + 3 * 3 * 3
    terms = 75 * 8 * (3 + 3 + 3)  # q . R for each key time, row and column
    assert cost.published.other == terms
    assert cost.attention_macs() == 2 * queries * keys * 8 + terms
    lengthened = 2 * (4 + 12)  # two heads of 4, and 3 + 3 + 3 filled up to a multiple of 8 with the 4
    assert cost.attention_macs(as_run=True) == 2 * queries * keys * lengthened + terms


class Written(nn.Module):
    """Attention that is written out, with a linear layer on a layout for which torch takes a batched product."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 4, bias=False)

    def forward(self, video):
        x = self.fc(video[0, :, :, 0].transpose(0, 1))  # (2, 3, 4)
        with torch.no_grad():
            x = x + self.fc(video[0, :, :, 0].transpose(0, 1))
        return (x @ x.transpose(1, 2)).softmax(-1) @ x


def test_attention_that_is_written_out_counts_as_attention_and_products_with_weights_never_do():
    cost = count(Written, 2, (1, 5))
    assert cost.attention_macs() == 2 * (2 * 3 * 3 * 4)
    assert cost.linear_macs() == 2 * (6 * 5 * 4)


def test_what_is_left_out_counts_as_published_and_not_as_run():
    """One block of MViTv2 for the class token: 3 x 9 x 2 places of width 8, keys at every 4th row and 2nd column."""
    build = partial(
        mvit.MViT,
        **{"num_classes": 7, "num_frames": 3, "crop": (36, 8), "dim": 8, "heads": 2, "depths": [1]},
        **{"q_strides": [(1, 1, 1)], "kv_strides": [(1, 4, 2)], "patch_kernel": (1, 5, 5), "patch_stride": (1, 4, 4)},
    )
    cost = count(build, 3, (36, 8), memory=False)
    places, reached, keys = 3 * 9 * 2, 3 * 7 * 2, 1 + 3 * 3 * 1  # rows 2 and 6 of 0 to 8 are in no window
    for_queries = 8 * 8 + 27 * 8 + 8 * 8 + 2 * 8 * 32  # q, its pooling, proj and the MLP
    assert cost.linear_macs() - cost.linear_macs(as_run=True) == (places - reached) * 2 * 8 * 8 + places * for_queries
    assert cost.attention_macs() == (1 + places) * 2 * keys * 8 + places * 8 * (3 + 3 + 1)  # and the terms
    assert cost.attention_macs(as_run=True) == 2 * keys * 8  # one query, which has no terms and is not lengthened
    assert [(step.tokens, step.width) for step in cost.steps] == [(places, 8), (1 + places, 8)]


def kept_for_real(model, video):
    own = {p.data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(video)
    return sum(size for _, size in kept.values())


@pytest.mark.parametrize(
    "build",
    [
        partial(vivit.Joint, 7, 6, (32, 80), dim=24, depth=2, heads=4),
        partial(timesformer.Divided, 7, 3, (32, 80), dim=24, depth=2, heads=4),
        partial(
            mvit.MViT,
            7,
            6,
            (32, 80),
            dim=16,
            depths=(1, 1),
            q_strides=((1, 1, 1), (1, 2, 2)),
            kv_strides=((1, 2, 2),) * 2,
        ),
    ],
)
def test_kept_bytes_are_those_that_torch_keeps_in_a_real_step(build):
    _, num_frames, crop = build.args
    assert count(build, num_frames, crop).kept_bytes == kept_for_real(
        build().train(), torch.rand(1, 3, num_frames, *crop)
    )


PAPERS = [  # yaml in conf/model, which holds T and the pixels; M parameters and GMACs of a clip, 400 classes
    ("vivit_joint", 88.9, 455, "Arnab et al., table 2"),
    ("vivit_factorised_encoder", 115.1, 284, "Arnab et al., table 2"),
    ("vivit_factorised_attention", 117.3, 372, "Arnab et al., table 2"),
    ("vivit_factorised_dot_product", 88.9, 277, "Arnab et al., table 2"),
    ("vivit_frame_mean", 86.7, 284, "Arnab et al., table 2"),
    ("timesformer", 121.4, 196, "Bertasius et al., parameters of table 1; a third of the 0.59 T of three crops"),
    ("timesformer_joint", 85.9, 180, "Bertasius et al., parameters of table 1; MMAction2 counts the products"),
    ("timesformer_space_only", 85.9, 141, "Bertasius et al., parameters of table 1; MMAction2 counts the products"),
    ("mvit_v1_b", 36.6, 70.5, "Fan et al., 16x4"),
    ("mvit_v1_b_32x3", 36.6, 170, "Fan et al., 32x3"),
    ("mvit_v2_s", 34.5, 64, "Li et al., 16x4"),
    ("mvit_v2_b", 51.2, 225, "Li et al., 32x3"),
    ("mvit_v2_l", 213.4, 2828, "Li et al., 40x3 at 312 pixels; parameters of the official config, the paper has 217.6"),
]


@pytest.mark.parametrize(("name", "parameters", "macs", "source"), PAPERS)
def test_counts_are_within_one_percent_of_the_papers(name, parameters, macs, source):
    cfg = composed([f"model={name}"])
    build = partial(build_model, cfg.model, 400)
    cost = count(build, cfg.clip.num_frames, cfg.clip.crop, memory=False)
    assert cost.parameters / 1e6 == pytest.approx(parameters, rel=0.01), source
    assert cost.macs() / 1e9 == pytest.approx(macs, rel=0.01), source


def test_eager_attention_is_counted_by_torch_as_here():
    """torch's own counter, on the meta device, where fused attention is taken apart into its two products."""
    from torch.utils.flop_counter import FlopCounterMode

    build = partial(timesformer.Divided, 7, 3, (32, 80), dim=24, depth=2, heads=4)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build()(torch.empty(1, 3, 3, 32, 80))
    assert count(build, 3, (32, 80)).macs(as_run=True) == counter.get_total_flops() // 2


@pytest.mark.parametrize(("num_frames", "tokens"), [(2, 2 * 10), (3, 3 * 10)])
def test_two_layers_after_attention_over_time_are_one_where_tokens_are_more_than_the_width(num_frames, tokens):
    dim, depth = 24, 2
    build = partial(timesformer.Divided, 7, num_frames, (32, 80), dim=dim, depth=depth, heads=4)
    cost = count(build, num_frames, (32, 80), memory=False)
    saved = tokens * dim**2 - dim**3 if tokens > dim else 0  # their matrix is made first
    of_last = last_block_savings(num_frames, 10, dim)
    assert cost.linear_macs() - cost.linear_macs(as_run=True) == depth * saved + of_last


def last_block_savings(t, s, dim):
    """MACs of products with weights that the last block of TimeSformer leaves out."""
    whole = t * (1 + s) * 4 * dim**2 + (1 + t * s) * 8 * dim**2  # attention over space, then the MLP
    run = t * (1 + s) * 2 * dim**2 + t * 2 * dim**2 + 8 * dim**2  # keys and values of all, the rest of class tokens
    return whole - run
