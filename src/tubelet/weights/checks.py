"""Whether weights and a model are of one kind and size; where not, the override that makes them so.

Letters: D width.
"""

import inspect
import re
from collections.abc import Iterable
from typing import TypeVar

from torch import nn

from tubelet.layers.attention import Attention
from tubelet.layers.block import FactorisedBlock, Mlp
from tubelet.weights.source import PATCHES, Source

M = TypeVar("M", bound=nn.Module)


def check_shapes(model: nn.Module, source: Source, of_time: set[str]) -> None:
    """Raises ValueError at the first difference of width, patches, depth, MLP, heads, GELU or order of attention.

    of_time: names of the model's blocks to which no block of the source belongs
    """
    if PATCHES not in source.weights:
        raise ValueError(f"it holds no {PATCHES}")
    theirs, ours = source.weights[PATCHES].shape, model.get_parameter(PATCHES).shape
    pools = "q_strides" in inspect.signature(type(model).__init__).parameters
    if pools and not source.exact:
        raise ValueError(advice(model, source, "model.tubelet"))  # pooling attention is no other model's
    if source.of_mvit and not pools:
        raise ValueError(advice(model, source, "model.q_strides"))
    if theirs[0] != ours[0]:
        raise ValueError(
            f"its width is {theirs[0]}, the model's {ours[0]}; {advice(model, source, f'model.dim={theirs[0]}')}"
        )
    if theirs[1] != ours[1]:
        channels = "1 channel" if theirs[1] == 1 else f"{theirs[1]} channels"
        raise ValueError(f"its patches have {channels}, the model's {ours[1]}; take weights of {ours[1]} channels")
    _check_patches(model, tuple(theirs[2:]), tuple(ours[2:]))
    for prefix, key in (("time.", "time_depth"), ("space.", "depth"), ("", "depth")):
        _check_depth(model, source, prefix, key, of_time)
        _check_mlp(model, source, prefix, theirs[0])
    attention = _first(model, Attention)
    if source.heads and attention and attention.heads != source.heads:
        override = advice(model, source, f"model.heads={source.heads}")
        raise ValueError(f"it has {source.heads} heads, the model {attention.heads}; {override}")
    mlp, forms = _first(model, Mlp), {True: "exact", False: "the tanh form"}
    exact = mlp is None or getattr(mlp.act, "approximate", "none") == "none"
    if source.exact_gelu not in (None, exact):
        override = advice(model, source, f"model.exact_gelu={str(source.exact_gelu).lower()}")
        raise ValueError(f"its GELU is {forms[not exact]}, the model's is {forms[exact]}; {override}")
    block, words = _first(model, FactorisedBlock), {True: "time", False: "space"}
    if block and source.time_first not in (None, block.time_first):
        override = advice(model, source, f"model.time_first={str(source.time_first).lower()}")
        first, ours_first = words[not block.time_first], words[block.time_first]
        raise ValueError(f"its blocks attend over {first} first, the model's over {ours_first}; {override}")


def advice(model: nn.Module, source: Source, override: str) -> str:
    """The override `model.key=value` in words, or, where the model has no such argument, which models there are."""
    key = override.removeprefix("model.").partition("=")[0].partition(".")[0]
    if key in inspect.signature(type(model).__init__).parameters:
        return f"type {override}"
    others = f"; those that can: {source.models}" if source.models else ""
    return f"{type(model).__name__} has no {key}, so it cannot take weights of {source.layout}{others}"


def note_of_heads(model: nn.Module, source: Source) -> list[str]:
    """Another number of heads loads in full, and gives other answers."""
    attention = _first(model, Attention)
    if attention is None or source.heads or source.exact:
        return []
    d = attention.qkv.in_features // attention.heads
    told = f"the number of heads does not stand in the file; the model has {attention.heads}, of {d} channels each"
    return [f"{told}, and published ones of 64"] if d != 64 else []


def _first(model: nn.Module, kind: type[M]) -> M | None:
    return next((module for module in model.modules() if isinstance(module, kind)), None)


def _check_patches(model: nn.Module, theirs: tuple[int, ...], ours: tuple[int, ...]) -> None:
    wanted = (ours[0], *theirs) if len(theirs) == 2 else theirs
    if wanted == ours:
        return
    arguments = inspect.signature(type(model).__init__).parameters
    override = f"model.tubelet=[{','.join(map(str, wanted))}]"
    if "patch_kernel" in arguments:
        override = f"model.patch_kernel=[{','.join(map(str, wanted))}]"
    sizes = ["x".join(map(str, size)) for size in (theirs, ours)]
    raise ValueError(f"its patches are {sizes[0]}, the model's {sizes[1]}; type {override}")


def _check_depth(model: nn.Module, source: Source, prefix: str, key: str, of_time: set[str]) -> None:
    theirs = _blocks(source.weights, prefix)
    names = {re.sub(r"^encoder\.", "", name): name for name, _ in model.named_parameters()}
    ours = _blocks(names, prefix)
    if prefix == "space." and not theirs and ours:
        theirs = _blocks(source.weights, "")  # one encoder goes where the encoder over space is
    if not theirs or not ours:
        return
    added = 0 if source.exact else len(of_time)
    if theirs != ours - added:
        # Where blocks over time stand between the others, the argument counts both.
        arguments = inspect.signature(type(model).__init__).parameters
        wanted = 2 * theirs if added and "time_depth" not in arguments else theirs
        kind = {"time.": "blocks over time", "space.": "blocks over space"}.get(prefix, "blocks")
        override = advice(model, source, f"model.{key}={wanted}")
        if "depths" in arguments and source.exact:
            override = "type the model.depths that the weights have"
        raise ValueError(f"it has {theirs} {kind}, the model {ours - added}; {override}")


def _check_mlp(model: nn.Module, source: Source, prefix: str, dim: int) -> None:
    theirs = source.weights.get(f"{prefix}blocks.0.mlp.fc1.weight")
    ours = {re.sub(r"^encoder\.", "", name): p for name, p in model.named_parameters()}.get(
        f"{prefix}blocks.0.mlp.fc1.weight"
    )
    if theirs is None or ours is None or len(theirs) == len(ours):
        return
    key = "time_mlp_ratio" if prefix == "time." else "mlp_ratio"
    override = advice(model, source, f"model.{key}={len(theirs) / theirs.shape[1]}")
    raise ValueError(f"its MLP is {len(theirs)} wide, the model's {len(ours)}; {override}")


def _blocks(names: Iterable[str], prefix: str) -> int:
    """How many blocks are named under a prefix."""
    return len({name.removeprefix(prefix).split(".")[1] for name in names if name.startswith(f"{prefix}blocks.")})
