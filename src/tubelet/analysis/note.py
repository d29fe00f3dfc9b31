"""The complexity table of the note (sections 1 to 3) with real numbers, counted on one block of each of its schemes.

Letters as in the note: T frames, N patches of a frame, L tokens of a clip, L_p of pooled keys and values, D width.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tubelet.analysis.cost import Attention, Cost, count
from tubelet.analysis.scaling import Point
from tubelet.layers.pooling import PoolingAttention
from tubelet.layers.position import SpaceTime
from tubelet.layers.readout import Mean
from tubelet.models.mvit import MViT
from tubelet.models.timesformer import Divided
from tubelet.models.vivit import FactorisedAttention, FactorisedEncoder, Joint
from tubelet.models.vivit_hierarchical import Hierarchical

DIM, HEADS, PATCH = 768, 12, 16
NUM_FRAMES, CROP = 32, 224  # the note's example: N = 196, L = 6272
Build = Callable[[int, int, int], nn.Module]  # of (T, pixels, blocks)
HEAD = (
    "| scheme | cost in the note | tokens | attention GMACs | linear GMACs | share of attention |"
    " eager scores MiB | fused peak MiB | attention dominates from L |\n" + "|---" * 9 + "|"
)


@dataclass(frozen=True)
class Row:
    """One scheme at T = 32, N = 196. Multiply-accumulates and memory are those of one block, as published.

    tokens: of the clip after the patches, and where they change: with the class token of divided attention, after the
        pooling of flavour B2, after the merging of Model 4
    dominates: L after the patches from which attention takes more than the linear layers, where T grows and N stays
    """

    scheme: str
    formula: str
    tokens: tuple[int, ...]
    attention_macs: int
    linear_macs: int
    eager_matrix_bytes: int
    fused_peak_bytes: int
    dominates: float

    def markdown(self) -> str:
        """A line below `HEAD`."""
        share = self.attention_macs / (self.attention_macs + self.linear_macs)
        cells = [self.scheme, f"O({self.formula})", ", then ".join(map(str, self.tokens))]
        cells += [f"{self.attention_macs / 1e9:.2f}", f"{self.linear_macs / 1e9:.2f}", f"{share:.0%}"]
        cells += [f"{size / 2**20:.0f}" for size in (self.eager_matrix_bytes, self.fused_peak_bytes)]
        return f"| {' | '.join([*cells, f'{self.dominates:,.0f}'])} |"


def schemes() -> dict[str, tuple[str, Build]]:
    """name -> the note's formula, and what builds it."""
    return {
        "joint": ("(T N)^2", partial(_joint, 1)),
        "factorised (B1)": ("T N^2 + N T^2", _factorised),
        "factorised encoder (B2)": ("T N^2 + T^2", _encoder),
        "divided (TimeSformer)": ("N T^2 + T N^2", _divided),
        "tubelets of 4": ("(T/4 N)^2", partial(_joint, 4)),
        "merged 2x2x2, then B1 (Model 4)": ("T/2 (N/4)^2 + N/4 (T/2)^2", _merged),
        "k, v pooled 2x2 in space": ("L L_p, L_p = L/4", partial(_pooled, (1, 2, 2))),
        "k, v pooled by 4 in time": ("L L_p, L_p = L/4", partial(_pooled, (4, 1, 1))),
        "k, v pooled 2x2x2 in both": ("L L_p, L_p = L/8", partial(_pooled, (2, 2, 2))),
    }


def _joint(tau: int, num_frames: int, crop: int, depth: int) -> nn.Module:
    tubelet = (tau, PATCH, PATCH)
    return Joint(1, num_frames, crop, tubelet, dim=DIM, heads=HEADS, depth=depth, readout=Mean)


def _factorised(num_frames: int, crop: int, depth: int) -> nn.Module:
    return FactorisedAttention(1, num_frames, crop, (1, PATCH, PATCH), dim=DIM, heads=HEADS, depth=depth)


def _encoder(num_frames: int, crop: int, depth: int) -> nn.Module:
    tubelet = (1, PATCH, PATCH)
    return FactorisedEncoder(1, num_frames, crop, tubelet, DIM, depth, depth, HEADS, readout=Mean)


def _divided(num_frames: int, crop: int, depth: int) -> nn.Module:
    """With a class token, which TimeSformer has in each frame, and the linear layer after its attention over time."""
    return Divided(1, num_frames, crop, (1, PATCH, PATCH), DIM, depth, HEADS)


def _merged(num_frames: int, crop: int, depth: int) -> nn.Module:
    """`depth` counts the blocks of the second stage, after merging; the first has one. Both have the same width."""
    return Hierarchical(
        1, num_frames, crop, (1, PATCH, PATCH), (DIM, DIM), (1, depth), (HEADS, HEADS), windows=[(2, 2, 2)]
    )


def _pooled(stride: tuple[int, int, int], num_frames: int, crop: int, depth: int) -> nn.Module:
    """MViT's blocks, in one stage, without what the note does not have: a class token, relative positions.

    Patches overlap by a pixel.
    """
    return MViT(
        num_classes=1,
        num_frames=num_frames,
        crop=crop,
        dim=DIM,
        heads=HEADS,
        depths=[depth],
        q_strides=[(1, 1, 1)],
        kv_strides=[stride],
        patch_kernel=(1, PATCH + 1, PATCH + 1),
        patch_stride=(1, PATCH, PATCH),
        attention=PoolingAttention,
        position=SpaceTime,
        readout=Mean,
    )


def rows() -> Iterator[Row]:
    for name, (formula, build) in schemes().items():
        model, (attention, linear) = _count(build, 1), block_macs(build)
        widest = max(block_attention(build), key=lambda call: call.matrix)
        yield Row(
            scheme=name,
            formula=formula,
            tokens=tuple(step.tokens for step in model.steps),
            attention_macs=attention,
            linear_macs=linear,
            eager_matrix_bytes=widest.matrix * 4,
            fused_peak_bytes=fused_bytes(widest),
            dominates=dominates(build),
        )


def points() -> Iterator[Point]:
    """One block of each scheme over T and over N, for the slopes."""
    sizes = [(num_frames, CROP) for num_frames in (16, 32, 64)] + [
        (NUM_FRAMES, crop) for crop in (128, 448)
    ]  # strides divide them
    for name, (_, build) in schemes().items():
        for num_frames, crop in sizes:
            attention, linear = block_macs(build, num_frames, crop)
            yield Point(name, num_frames, (crop // PATCH) ** 2, attention, attention + linear)


def block_macs(build: Build, num_frames: int = NUM_FRAMES, crop: int = CROP) -> tuple[int, int]:
    """Of attention and of the rest, in one block: what a second block adds, so that patches and head are left out."""
    one, two = (_count(build, depth, num_frames, crop) for depth in (1, 2))
    return two.attention_macs() - one.attention_macs(), two.linear_macs() - one.linear_macs()


def block_attention(build: Build) -> Counter[Attention]:
    """The calls of attention in the same block, with how often each occurs."""
    one, two = (Counter(_count(build, depth).published.attention) for depth in (1, 2))
    return two - one


def dominates(build: Build) -> float:
    """L from which attention takes more multiply-accumulates than the rest of a block, with N fixed.

    Both are polynomials of second degree in T, which three counts determine.
    """
    frames = np.array([NUM_FRAMES, 2 * NUM_FRAMES, 4 * NUM_FRAMES])
    excess = [attention - linear for attention, linear in (block_macs(build, int(t)) for t in frames)]
    root = max(np.roots(np.polyfit(frames, excess, 2)).real)
    return float(root) * _count(build, 1).steps[0].tokens / NUM_FRAMES


def fused_bytes(call: Attention) -> int:
    """Bytes of queries, keys, values and all that a fused kernel allocates for them, in float32, as our code runs it.

    Nothing of it is freed before the end, so this is the peak, but for the tiles of the kernel, of a fixed size.
    """
    with FakeTensorMode():
        width = int(call.width) + call.padding
        q = torch.empty(call.sequences, call.heads, call.queries, width, requires_grad=True)
        k, v = (torch.empty(call.sequences, call.heads, call.keys, width) for _ in range(2))
        kept: dict[int, torch.Tensor] = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.untyped_storage()._cdata, x), _same):
            out = F.scaled_dot_product_attention(q, k, v)
        kept[out.untyped_storage()._cdata] = out
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _count(build: Build, depth: int, num_frames: int = NUM_FRAMES, crop: int = CROP) -> Cost:
    return count(partial(build, num_frames, crop, depth), num_frames, crop, memory=False)
