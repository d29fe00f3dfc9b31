"""Decomposed relative positions: MViTv2 (Li et al., CVPR 2022, https://arxiv.org/abs/2112.01526), section 4.1.

Letters: B clips, d width of a head; t h w places of the queries along each axis, t' h' w' of the keys, which a stride
has made fewer; N = t * h * w, N' = t' * h' * w'. A sequence is the class token, if there is one, and then the places,
time slowest; shapes are written with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelet.layers.attention import attend
from tubelet.layers.embed import Size3


class RelativeAttention(nn.Module):
    """Attention whose scores know how far apart a query and a key are in time, in height and in width.

    The score of q_i and k_j is q_i . k_j / sqrt(d) + q_i . (R_t + R_h + R_w), where each R is the row of its table for
    the distance of i and j along that axis; the second term is not scaled, as in the official code. Scores of the class
    token, as a query or as a key, have no second term. The tables belong to the caller.
    """

    index_t: Tensor
    index_h: Tensor
    index_w: Tensor
    codes: Tensor

    def __init__(self, q_grid: Size3, k_grid: Size3, d: int, class_token: bool = True):
        super().__init__()
        self.q_grid, self.class_token = q_grid, int(class_token)
        # Constants of the two grids: neither trained nor stored with the weights.
        for axis, q, k in zip("thw", q_grid, k_grid, strict=True):
            self.register_buffer(f"index_{axis}", relative_index(q, k), persistent=False)
        self.register_buffer("codes", place_codes(k_grid, d, class_token), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(B, 1 + N, heads, d), (B, 1 + N', heads, d) twice, tables (rows, d) for t, h, w -> (B, 1 + N, heads, d)."""
        t, h, w = tables
        # Of more than one clip, places without their class token are copied once here, or by each product below.
        grid = q[:, self.class_token :].contiguous().unflatten(1, self.q_grid)  # (B, t, h, w, heads, d)
        # As products of what lies together in memory; along w nothing does, and einsum copies.
        of_t = grid.flatten(2, 4) @ rows_of(t, self.index_t).mT  # (B, t, h * w * heads, t')
        of_h = grid.flatten(3, 4) @ rows_of(h, self.index_h).mT  # (B, t, h, w * heads, h')
        of_w = torch.einsum("bthwnd,wkd->bthwnk", grid, rows_of(w, self.index_w))  # (B, t, h, w, heads, w')
        terms = [of_t.unflatten(2, grid.shape[2:5]), of_h.unflatten(3, grid.shape[3:5]), of_w]
        return attend_with_terms(q, k, v, torch.cat(terms, dim=-1).flatten(1, 3), self.codes)


def attend_with_terms(q: Tensor, k: Tensor, v: Tensor, terms: Tensor, codes: Tensor) -> Tensor:
    """(B, 1 + N, heads, d), (B, 1 + N', heads, d) twice, (B, N, heads, K), (1 + N', K + zeros) -> (B, 1 + N, heads, d).

    The score of i and j is q_i . k_j / sqrt(d) + terms_i . codes_j: a sum of two products is one product of longer
    vectors. So a fused kernel does it all in memory that grows with N + N'; a bias of N x N' for it to add would be the
    largest tensor of a block. Fused kernels want q, k and v of one width, a multiple of 8: that of d and `codes`.
    """
    d, extra, class_token = q.shape[-1], codes.shape[-1], q.shape[1] - terms.shape[1]
    terms = F.pad(terms, (0, extra - terms.shape[-1], 0, 0, class_token, 0))  # (B, 1 + N, heads, K + zeros)
    q = torch.cat([q, terms], dim=-1)
    codes = codes[:, None].expand(*k.shape[:3], -1)
    k = torch.cat([k * d**-0.5, codes], dim=-1)  # scaled, because there are fewer of them
    return attend(q, k, F.pad(v, (0, extra)), scale=1.0)[..., :d]


def place_codes(grid: Size3, d: int, class_token: bool = True) -> Tensor:
    """(t', h', w') -> (1 + N', t' + h' + w' + zeros): a 1 each for the time, the row and the column of a key.

    The class token, first, has none. The zeros make the width with `d` a multiple of 8.
    """
    places = torch.cartesian_prod(*(torch.arange(size) for size in grid))  # (N', 3)
    codes = [F.one_hot(axis, size) for axis, size in zip(places.unbind(1), grid, strict=True)]
    return F.pad(torch.cat(codes, dim=1).float(), (0, -(d + sum(grid)) % 8, int(class_token), 0))


def relative_index(q: int, k: int) -> Tensor:
    """Places of the queries and of the keys along one axis -> (q, k): the row of the table, from 0 to 2 max(q, k) - 2.

    Places count in steps of the finer of the two. Rounding in float32, in this order, belongs to the weights: exact
    arithmetic gives other rows where the ratio is not whole, such as 39 queries on 10 keys (MViTv2-L, 312 pixels).
    """
    of_q = torch.arange(q, dtype=torch.float32)[:, None] * max(k / q, 1.0)
    of_k = torch.arange(k, dtype=torch.float32) * max(q / k, 1.0)
    return (of_q - of_k + (k - 1) * max(q / k, 1.0)).long()


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """(rows, d), (q, k) -> (q, k, d). A table of another length than the index is for is resampled, as in SlowFast."""
    rows = 2 * max(index.shape) - 1
    if len(table) != rows:
        table = F.interpolate(table.T[None], size=rows, mode="linear")[0].T
    return F.embedding(index, table)
