"""Letters: B clips, d width of a head; t h w places of the queries, t' h' w' of the keys. All sizes differ."""

from fractions import Fraction

import pytest
import torch

from tubelet.layers.relative import RelativeAttention, attend_with_terms, place_codes, relative_index, rows_of

B, HEADS, d = 2, 3, 7
Q_GRID, K_GRID = (2, 6, 3), (2, 4, 1)  # along t, h, w: the same, 1.5 times as many, and 3 times
N, FEWER = 2 * 6 * 3, 2 * 4 * 1


def random(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.fixture
def qkv():
    """Class token first."""
    return [random(B, 1 + n, HEADS, d, seed=seed) for seed, n in enumerate((N, FEWER, FEWER))]


@pytest.fixture
def tables():
    """2 max(q, k) - 1 rows for t, h, w."""
    return tuple(random(rows, d, seed=rows) for rows in (3, 11, 5))


def plain(q, k, v, bias):
    """(B, 1 + N, heads, d), (B, 1 + N', heads, d) twice, (B, heads, 1 + N, 1 + N') -> (B, 1 + N, heads, d)."""
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return (torch.softmax(q @ k.mT / d**0.5 + bias, dim=-1) @ v).transpose(1, 2)


def bias_by_hand(q, tables):
    """(B, 1 + N, heads, d) -> (B, heads, 1 + N, 1 + N'): q . (R_t + R_h + R_w), pair by pair; zero for class tokens."""
    bias = torch.zeros(B, HEADS, 1 + N, 1 + FEWER, dtype=torch.float64)
    queries, keys = (torch.cartesian_prod(*map(torch.arange, grid)).tolist() for grid in (Q_GRID, K_GRID))
    for i, at in enumerate(queries):
        for j, other in enumerate(keys):
            row = sum(
                table[int(a * max(n / m, 1) - b * max(m / n, 1) + (n - 1) * max(m / n, 1))]
                for table, a, b, m, n in zip(tables, at, other, Q_GRID, K_GRID, strict=True)
            )
            bias[:, :, 1 + i, 1 + j] = q[:, 1 + i] @ row
    return bias


def test_longer_vectors_give_what_a_bias_added_to_the_scores_gives(qkv):
    terms, codes = random(B, N, HEADS, 4, seed=3), random(1 + FEWER, 4, seed=4)
    bias = torch.nn.functional.pad(terms.transpose(1, 2), (0, 0, 1, 0)) @ codes.T
    of = [*qkv, terms, codes]
    ours, expected = attend_with_terms(*qkv, terms, codes), plain(*qkv, bias)
    # In float64 only the order of the additions differs, which costs about 1e-15; in gradients, sums of them, 1e-13.
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(out.square().sum(), of, retain_graph=True) for out in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_scores_gain_the_product_of_the_query_with_a_row_for_each_distance(qkv, tables):
    attend, of = RelativeAttention(Q_GRID, K_GRID, d).double(), [*qkv, *tables]
    ours, expected = attend(*qkv, tables), plain(*qkv, bias_by_hand(qkv[0], tables))
    # As above.
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(out.square().sum(), of, retain_graph=True) for out in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)
    assert (ours - plain(*qkv, 0)).abs().amax() > 0.1  # the tables matter here


@torch.no_grad()
def test_the_class_token_gets_no_relative_positions(qkv, tables):
    attend = RelativeAttention(Q_GRID, K_GRID, d).double()
    q, k, _ = qkv
    # Values that show the weights: 1 for the class token's key, 0 for places.
    v = torch.zeros_like(k)
    v[:, 0] = 1.0
    nowhere = tuple(torch.zeros_like(table) for table in tables)
    with_tables, without = (attend(q, k, v, each)[..., 0].mT for each in (tables, nowhere))  # (B, heads, 1 + N)
    torch.testing.assert_close(with_tables[:, :, 0], without[:, :, 0], rtol=0, atol=1e-15)  # as a query
    # As a key: its share of a query's weights, against that of the other keys, changes by their terms alone.
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / d**0.5
    others = (scores + bias_by_hand(q, tables))[..., 1:].logsumexp(-1)
    expected = torch.sigmoid(scores[..., 0] - others)
    torch.testing.assert_close(with_tables, expected, rtol=0, atol=1e-12)


def test_no_tensor_of_queries_times_keys_is_kept_for_the_backward_pass(tables):
    """In float32, where fused kernels are found."""
    q_grid, k_grid, kept = (4, 8, 8), (4, 8, 8), []
    attend = RelativeAttention(q_grid, k_grid, 8)
    q, k, v = (torch.randn(1, 257, 1, 8, requires_grad=True) for _ in range(3))
    tables = tuple(torch.randn(2 * size - 1, 8, requires_grad=True) for size in q_grid)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        attend(q, k, v, tables)
    assert 257 * 8 <= max(kept) < 257 * 257 / 2


@pytest.mark.parametrize("width", [1, 7, 8, 96])
def test_vectors_have_a_width_that_is_a_multiple_of_8(width):
    codes = place_codes(K_GRID, width)
    assert (width + codes.shape[1]) % 8 == 0
    assert 2 + 4 + 1 <= codes.shape[1] < 2 + 4 + 1 + 8


def test_a_code_marks_the_time_the_row_and_the_column_of_a_key():
    codes = place_codes((2, 1, 3), d=10)
    expected = [
        # time, row, column
        [0, 0, 0, 0, 0, 0],  # the class token
        [1, 0, 1, 1, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [1, 0, 1, 0, 0, 1],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 1, 0],
        [0, 1, 1, 0, 0, 1],
    ]
    assert codes.tolist() == expected


@pytest.mark.parametrize(
    ("q", "k", "expected"),
    [
        (3, 3, [[2, 1, 0], [3, 2, 1], [4, 3, 2]]),
        (4, 2, [[2, 0], [3, 1], [4, 2], [5, 3]]),  # keys are two queries apart
        (2, 4, [[3, 2, 1, 0], [5, 4, 3, 2]]),
        (1, 1, [[0]]),
    ],
)
def test_the_row_of_a_pair_is_its_distance_in_steps_of_the_finer_grid(q, k, expected):
    assert relative_index(q, k).tolist() == expected


@pytest.mark.parametrize(("q", "k", "differ"), [(16, 6, 16), (39, 10, 38), (78, 10, 103), (56, 7, 0), (9, 5, 0)])
def test_rows_are_rounded_as_in_slowfast_also_where_exact_arithmetic_gives_others(q, k, differ):
    """Counts recorded from SlowFast at 287ec00; 78 and 39 queries on 10 keys are in its MViTv2-L at 312 pixels."""
    step_q, step_k = max(Fraction(k, q), 1), max(Fraction(q, k), 1)
    exact = [[int(i * step_q - j * step_k + (k - 1) * step_k) for j in range(k)] for i in range(q)]
    assert (relative_index(q, k) != torch.tensor(exact)).sum() == differ


def test_a_table_of_another_length_is_resampled_linearly():
    table = torch.tensor([[0.0], [3.0], [6.0]])
    # Five places on the width of three: -0.2, 0.4, 1, 1.6 and 2.2, held at the ends.
    five = torch.tensor([0.0, 1.2, 3.0, 4.8, 6.0])
    index = relative_index(3, 3)
    torch.testing.assert_close(rows_of(table, index)[..., 0], five[index])
