"""Slopes, and the note's table, by hand."""

import pytest

from tubelet.analysis.cost import Attention
from tubelet.analysis.note import block_attention, block_macs, dominates, fused_bytes, rows, schemes
from tubelet.analysis.plots import draw_costs
from tubelet.analysis.scaling import Point, lines_along, slope

D, T, N = 768, 32, 196


def test_the_slope_of_a_power_is_its_exponent():
    assert slope([2, 3, 7], [5 * size**1.5 for size in (2, 3, 7)]) == pytest.approx(1.5)


def test_lines_join_points_of_one_model_that_differ_in_one_size_only(tmp_path):
    points = [Point("a", t, n, t * t * n, 7 * t * n) for t in (2, 4, 8) for n in (9, 3)] + [Point("b", 2, 3, 1, 1)]
    over_t, over_n = lines_along("T", points), lines_along("N", points)
    assert [(line.name, line.sizes) for line in over_t] == [("a, N = 9", [2, 4, 8]), ("a, N = 3", [2, 4, 8])]
    assert [line.slopes for line in over_t] == [pytest.approx((2, 1))] * 2
    assert [(line.name, line.sizes) for line in over_n] == [(f"a, T = {t}", [3, 9]) for t in (2, 4, 8)]
    draw_costs(points, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_points_without_a_line_are_not_drawn(tmp_path):
    with pytest.raises(ValueError, match="differ in T or in N"):
        draw_costs([Point("a", 2, 3, 1, 1), Point("b", 4, 3, 1, 1)], tmp_path / "cost.png")


def test_the_note_table_at_32_frames_holds_its_6272_tokens_and_what_it_leaves_out():
    table = {row.scheme: row for row in rows()}
    joint = table["joint"]
    assert joint.tokens == (6272,)
    assert joint.attention_macs == 2 * 6272**2 * D
    assert joint.linear_macs == 12 * 6272 * D**2
    assert joint.eager_matrix_bytes == 12 * 6272 * 6272 * 4
    assert joint.dominates == pytest.approx(6 * D)
    then = {name: row.tokens[1:] for name, row in table.items() if len(row.tokens) > 1}
    assert then == {
        "factorised encoder (B2)": (32,),
        "divided (TimeSformer)": (6273,),
        "merged 2x2x2, then B1 (Model 4)": (784,),
    }
    merged = table["merged 2x2x2, then B1 (Model 4)"]  # 16 frames of 49 tokens, and not the first stage
    assert merged.eager_matrix_bytes == 16 * 12 * 49 * 49 * 4


def test_blocks_of_the_schemes_on_paper():
    build = {name: build for name, (_, build) in schemes().items()}
    assert block_macs(build["factorised (B1)"]) == (2 * D * (T * N**2 + N * T**2), 16 * T * N * D**2)
    assert block_macs(build["factorised encoder (B2)"]) == (2 * D * (T * N**2 + T**2), 12 * (T * N + T) * D**2)
    assert block_macs(build["tubelets of 4"]) == (2 * D * (8 * N) ** 2, 12 * 8 * N * D**2)
    t, n = T // 2, N // 4
    assert block_macs(build["merged 2x2x2, then B1 (Model 4)"]) == (2 * D * (t * n**2 + n * t**2), 16 * t * n * D**2)
    # A class token in each frame over space, once in the MLP; over space qkv, proj, over time those and temporal_fc.
    linear = (4 * T * (N + 1) + 5 * T * N + 8 * (T * N + 1)) * D**2
    assert block_macs(build["divided (TimeSformer)"]) == (2 * D * (T * (N + 1) ** 2 + N * T**2), linear)
    assert dominates(build["factorised (B1)"]) == pytest.approx((8 * D - N) * N)  # where N + T = 8 D


@pytest.mark.parametrize(
    ("scheme", "fewer"),
    [("k, v pooled 2x2 in space", 4), ("k, v pooled by 4 in time", 4), ("k, v pooled 2x2x2 in both", 8)],
)
def test_attention_to_pooled_keys_and_values_is_2_l_lp_d(scheme, fewer):
    _, build = schemes()[scheme]
    tokens, keys = T * N, T * N // fewer
    # Linear: 12 L D^2, and for each key and value 27 products a channel.
    assert block_macs(build) == (2 * tokens * keys * D, 12 * tokens * D**2 + 2 * 27 * keys * D)
    assert block_attention(build) == {Attention(sequences=1, heads=12, queries=tokens, keys=keys, width=64): 1}


def test_fused_attention_holds_queries_keys_values_answers_and_a_number_a_query():
    call = Attention(sequences=2, heads=3, queries=50, keys=20, width=16)
    assert fused_bytes(call) == 4 * 2 * 3 * (2 * 50 * 16 + 2 * 20 * 16 + 50)
    lengthened = Attention(sequences=2, heads=3, queries=50, keys=20, width=16, padding=8)
    assert fused_bytes(lengthened) == 4 * 2 * 3 * (2 * 50 * 24 + 2 * 20 * 24 + 50)
