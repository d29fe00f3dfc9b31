"""Linear layers, whose products are made by oneDNN on AMD's processors.

Letters: N rows, D inputs, D' outputs.
"""

import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CPUS = Path("/proc/cpuinfo")
LEAST = 2**20  # multiply-accumulates: below, to call oneDNN costs as much as it saves


class Linear(nn.Linear):
    """As torch's, with the product below."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., D), (D', D), (D') -> (..., D'): as F.linear, which on an AMD processor takes twice the time.

    Torch makes products by MKL, which has slower code for processors that are not Intel's: 105 GFLOP/s of float32 on
    one core of an EPYC with AVX-512, where oneDNN, which is in torch too, does 190 to 230. Sums are added in another
    order: errors are up to 4 times as large, 6e-6 of a result of size 1. Elsewhere nobody has measured it.
    """
    if not AMD or not _is_plain(x, weight) or x.numel() * len(weight) < LEAST:
        return F.linear(x, weight, bias)
    return ByOneDNN.apply(x, weight, bias)


class ByOneDNN(torch.autograd.Function):
    """F.linear by oneDNN, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = linear(grad, weight.t()) if ctx.needs_input_grad[0] else None
        rows, inputs = grad.flatten(0, -2), x.flatten(0, -2)  # (N, D') and (N, D)
        of_weight = weight_gradient(rows, inputs) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """(N, D'), (N, D) -> (D', D). The narrower comes first: with many rows, oneDNN is thrice as fast so."""
    if grad.shape[1] <= x.shape[1]:
        return linear(grad.t(), x.t())
    return linear(x.t(), grad.t()).t()


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether these are numbers in float32 on a CPU, to be multiplied as they are, here and now.

    Not under autocast, while torch.compile looks on, or of a kind that only stands for numbers (tubelet.analysis.cost).
    """
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _is_amd() -> bool:
    """Whether this machine has an AMD processor, and torch has oneDNN."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return "AuthenticAMD" in (CPUS.read_text() if CPUS.exists() else platform.processor())


AMD = _is_amd()
