"""Slopes, and the note's table, by hand."""

import pytest

from tubelet.analysis.cost import Attention
from tubelet.analysis.note import block_macs, dominates, fused_bytes, rows, schemes
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
    joint = next(rows())
    assert joint.tokens == (6272,)
    assert joint.attention_macs == 2 * 6272**2 * D
    assert joint.linear_macs == 12 * 6272 * D**2
    assert joint.eager_matrix_bytes == 12 * 6272 * 6272 * 4
    assert joint.dominates == pytest.approx(6 * D)


def test_blocks_of_the_schemes_on_paper():
    build = {name: build for name, (_, build) in schemes().items()}
    assert block_macs(build["factorised (B1)"]) == (2 * D * (T * N**2 + N * T**2), 16 * T * N * D**2)
    assert block_macs(build["factorised encoder (B2)"]) == (2 * D * (T * N**2 + T**2), 12 * (T * N + T) * D**2)
    assert block_macs(build["tubelets of 4"]) == (2 * D * (8 * N) ** 2, 12 * 8 * N * D**2)
    attention, _ = block_macs(build["k, v pooled 2x2 in space"])
    terms = T * N * D * (32 + 7 + 7)
    assert attention == 2 * D * (T * N + 1) * (T * N // 4 + 1) + terms
    assert dominates(build["factorised (B1)"]) == pytest.approx((8 * D - N) * N)  # where N + T = 8 D


def test_fused_attention_holds_queries_keys_values_answers_and_a_number_a_query():
    call = Attention(sequences=2, heads=3, queries=50, keys=20, width=16)
    assert fused_bytes(call) == 4 * 2 * 3 * (2 * 50 * 16 + 2 * 20 * 16 + 50)
