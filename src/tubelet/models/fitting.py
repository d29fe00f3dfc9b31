"""Whether weights and a model are of one kind and size; where not, the override that makes them so.

Letters: D width.
"""

import inspect
import re
from collections.abc import Iterable

from torch import nn

from tubelet.layers.attention import Attention
from tubelet.layers.block import Mlp
from tubelet.models.source import PATCHES, Source


def check_shapes(model: nn.Module, source: Source, of_time: set[str]) -> None:
    """Raises ValueError at the first difference of width, patches, depth, MLP, heads or GELU.

    of_time: names of the model's blocks to which no block of the source belongs
    """
    if PATCHES not in source.weights:
        raise ValueError(f"it holds no {PATCHES}")
    theirs, ours = source.weights[PATCHES].shape, model.get_parameter(PATCHES).shape
    if theirs[0] != ours[0]:
        raise ValueError(f"its width is {theirs[0]}, the model's {ours[0]}; type model.dim={theirs[0]}")
    _check_patches(model, tuple(theirs[2:]), tuple(ours[2:]))
    for prefix, key in (("time.", "time_depth"), ("space.", "depth"), ("", "depth")):
        _check_depth(model, source, prefix, key, of_time)
        _check_mlp(model, source, prefix, theirs[0])
    attention = next((module for module in model.modules() if isinstance(module, Attention)), None)
    if source.heads and attention and attention.heads != source.heads:
        raise ValueError(f"it has {source.heads} heads, the model {attention.heads}; type model.heads={source.heads}")
    mlp = next((module for module in model.modules() if isinstance(module, Mlp)), None)
    if source.exact_gelu and mlp and getattr(mlp.act, "approximate", "none") != "none":
        raise ValueError("its GELU is exact, the model's is the tanh form; type model.exact_gelu=true")


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
        if "depths" in arguments:
            raise ValueError(f"it has {theirs} blocks, the model {ours}; type the model.depths that the weights have")
        kind = {"time.": "blocks over time", "space.": "blocks over space"}.get(prefix, "blocks")
        raise ValueError(f"it has {theirs} {kind}, the model {ours - added}; type model.{key}={wanted}")


def _check_mlp(model: nn.Module, source: Source, prefix: str, dim: int) -> None:
    theirs = source.weights.get(f"{prefix}blocks.0.mlp.fc1.weight")
    ours = {re.sub(r"^encoder\.", "", name): p for name, p in model.named_parameters()}.get(
        f"{prefix}blocks.0.mlp.fc1.weight"
    )
    if theirs is None or ours is None or len(theirs) == len(ours):
        return
    key = "time_mlp_ratio" if prefix == "time." else "mlp_ratio"
    raise ValueError(
        f"its MLP is {len(theirs)} wide, the model's {len(ours)}; type model.{key}={len(theirs) / theirs.shape[1]:g}"
    )


def _blocks(names: Iterable[str], prefix: str) -> int:
    """How many blocks are named under a prefix."""
    return len({name.removeprefix(prefix).split(".")[1] for name in names if name.startswith(f"{prefix}blocks.")})
