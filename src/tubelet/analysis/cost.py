"""What a model costs, counted and not computed: parameters, multiply-accumulates, tokens, memory for the backward.

The model runs on fake tensors, which have shapes and storages but no numbers, with the operations that a CPU would run.
So a model of any size takes seconds and no memory, and a count is exact. Nothing here knows any model.

Two columns. *As run*: every product that our code computes. *As published*: every block in full, and attention in its
plain form, q k^T and p v with vectors of the width of a head. They differ where a last block leaves out what nobody
reads or two layers are made one (modules with `in_full`), where pooling leaves out places that no window reaches
(modules with `skipped_macs`, how many in products with weights), and where a layer lengthens its vectors for the fused
kernel, as tubelet.layers.relative does: papers have these terms as a bias, which is added, not multiplied.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tubelet.layers.embed import clip_size

BATCHED_PRODUCTS = {torch.ops.aten.bmm, torch.ops.aten.baddbmm}
MIB = 2**20


@dataclass(frozen=True)
class Attention:
    """A call of attention: in each sequence and head, queries to keys.

    width: of a head's queries and values in the plain form
    padding: by how much the code lengthens both
    """

    sequences: int
    heads: int
    queries: int
    keys: int
    width: float
    padding: int = 0

    @property
    def matrix(self) -> int:
        """Entries of all its matrices of scores, which the plain form keeps in memory."""
        return self.sequences * self.heads * self.queries * self.keys

    def macs(self, padded: bool) -> int:
        return int(self.matrix * 2 * (self.width + padded * self.padding))


@dataclass(frozen=True)
class Products:
    """Of one clip, forward.

    attention: the fused calls, with how often each occurs
    other: multiply-accumulates of products between activations outside them, such as the terms of relative positions,
        or attention that is written out
    linear: multiply-accumulates of products with weights: linear layers and convolutions
    """

    attention: dict[Attention, int]
    other: int
    linear: int

    def of_attention(self, padded: bool) -> int:
        return self.other + sum(call.macs(padded) * times for call, times in self.attention.items())


@dataclass(frozen=True)
class Step:
    """Tokens of one clip after a module: how many, and of which width."""

    name: str
    tokens: int
    width: int


@dataclass(frozen=True)
class Cost:
    """Of one clip, forward.

    published, run: the products with every block in full, and those that our code computes
    steps: tokens after the patches and after each block or stage, where they change
    frame_tokens: N, tokens of a frame after the patches
    kept_bytes: activations that a training step in float32 keeps for the backward, the clip among them
    """

    parameters: int
    published: Products
    run: Products
    steps: tuple[Step, ...]
    frame_tokens: int
    kept_bytes: int = 0

    def attention_macs(self, as_run: bool = False) -> int:
        """Scores and values; as published, or as our code runs it."""
        return self.run.of_attention(padded=True) if as_run else self.published.of_attention(padded=False)

    def linear_macs(self, as_run: bool = False) -> int:
        return self.run.linear if as_run else self.published.linear

    def macs(self, as_run: bool = False) -> int:
        return self.attention_macs(as_run) + self.linear_macs(as_run)


def count(build: Callable[[], nn.Module], num_frames: int, crop: int | Sequence[int], memory: bool = True) -> Cost:
    """build: makes the model that takes clips of (num_frames, crop); memory: whether to count kept_bytes as well."""
    size = clip_size(num_frames, crop)
    with torch.device("meta"):
        model = build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        video = torch.empty(1, 3, *size)
        cost = _forward(model.eval(), video)
        return replace(cost, kept_bytes=_kept(model.train(), video)) if memory else cost


def _forward(model: nn.Module, video: Tensor) -> Cost:
    steps: list[Step] = []
    hooks = [module.register_forward_hook(_noting(name, steps)) for name, module in _places(model)]
    with _in_full(model):
        published = _products(model, video)
    skipped = sum(getattr(module, "skipped_macs", 0) for module in model.modules())
    for hook in hooks:
        hook.remove()
    changes = [step for last, step in zip([None, *steps], steps, strict=False) if _differ(last, step)]
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        published=replace(published, linear=published.linear + skipped),
        run=_products(model, video),
        steps=tuple(changes),
        frame_tokens=_frame_tokens(model, video),
    )


def _products(model: nn.Module, video: Tensor) -> Products:
    with _Counter(model) as counted:
        model(video)
    return Products(dict(counted.attention), counted.between_activations, counted.with_weights)


@contextmanager
def _in_full(model: nn.Module) -> Iterator[None]:
    """Every block in full, also where the model leaves out what nobody reads."""
    able = [module for module in model.modules() if hasattr(module, "in_full")]
    for module in able:
        setattr(module, "in_full", True)  # noqa: B010  mypy takes what a module is given for a tensor
    try:
        yield
    finally:
        for module in able:
            setattr(module, "in_full", False)  # noqa: B010


class _Counter(TorchDispatchMode):
    """Counts multiply-accumulates of everything that runs within it. Norms, softmax and sums are not counted."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.attention: Counter[Attention] = Counter()
        self.between_activations = self.with_weights = 0
        self._weights = {_storage(p) for p in model.parameters()}
        self._padded: dict[int, tuple[Tensor, int]] = {}  # the tensor is held: a freed storage gives its number away

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation is torch.ops.aten.constant_pad_nd and args[1][:1] == [0] and args[1][1] > 0:
            self._padded[_storage(out)] = (out, args[1][1])
        elif "scaled_dot_product" in func.name():
            self.attention[self._call(*args[:3])] += 1
        elif operation in flop_registry:
            macs = flop_registry[operation](*args, **(kwargs or {}), out_val=out) // 2
            weighted = any(_storage(arg) in self._weights for arg in args if isinstance(arg, Tensor))
            if operation in BATCHED_PRODUCTS and not weighted:
                self.between_activations += macs
            else:
                self.with_weights += macs
        return out

    def _call(self, q: Tensor, k: Tensor, v: Tensor) -> Attention:
        """(..., heads, L, d), (..., heads, L', d) twice -> what is counted of it.

        Zeros behind the values are there because the queries and keys are longer than a head, by as many: fused kernels
        want one width for all three.
        """
        padding = self._padded[_storage(v)][1] if _storage(v) in self._padded else 0
        heads = q.shape[-3] if q.ndim > 3 else 1
        width = (q.shape[-1] + v.shape[-1]) / 2 - padding
        width = int(width) if width.is_integer() else width
        return Attention(q.shape[:-2].numel() // heads, heads, q.shape[-2], k.shape[-2], width, padding)


def _kept(model: nn.Module, video: Tensor) -> int:
    """Bytes of the storages that the graph of a training step holds, each once, without parameters and buffers."""
    own = {_storage(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(video)
    del logits
    return sum(storage.nbytes() for storage in kept.values())


def _storage(tensor: Tensor) -> int:
    """A number for the storage; fake tensors have no address that could tell theirs apart."""
    return tensor.untyped_storage()._cdata


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The patch embedding, and the entries of each list of modules that is not within another: blocks or stages."""
    within: list[str] = []
    for name, module in model.named_modules():
        if name == "patch_embed":
            yield name, module
        elif isinstance(module, nn.Sequential | nn.ModuleList) and not name.startswith(tuple(within)):
            within.append(f"{name}.")
            for number, child in enumerate(module):
                yield f"{name}.{number}", child


def _noting(name: str, steps: list[Step]) -> Callable[..., None]:
    def note(module: nn.Module, args: tuple, out: Tensor | tuple[Tensor, ...]) -> None:
        parts = [part for part in (out if isinstance(out, tuple) else (out,)) if isinstance(part, Tensor)]
        if parts:
            width = parts[0].shape[-1]
            steps.append(Step(name, sum(part.numel() for part in parts) // width, width))

    return note


def _differ(last: Step | None, step: Step) -> bool:
    return last is None or (last.tokens, last.width) != (step.tokens, step.width)


def _frame_tokens(model: nn.Module, video: Tensor) -> int:
    """N, from the first convolution, which cuts the patches; pixels where a model has none."""
    height, width = video.shape[-2:]
    strides = (module.stride for module in model.modules() if isinstance(module, nn.Conv3d))
    _, h, w = next(strides, (1, 1, 1))
    return -(-height // h) * -(-width // w)
