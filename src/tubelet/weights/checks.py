"""Whether weights and a model are of one kind and size; where not, the override that makes them so.

Letters: D width.
"""

import inspect
import re
from collections.abc import Iterable
from itertools import groupby
from typing import TypeVar

from torch import nn

from tubelet.layers.attention import MultiHead, TimeAttention
from tubelet.layers.block import FactorisedBlock, Mlp
from tubelet.weights.source import PATCHES, Source

M = TypeVar("M", bound=nn.Module)


def check_shapes(model: nn.Module, source: Source, of_time: set[str]) -> None:
    """Raises ValueError at the first difference of width, patches, depth, MLP, heads, GELU or order of attention.

    of_time: names of the model's blocks to which no block of the source belongs
    """
    if PATCHES not in source.weights:
        raise ValueError(f"it holds no {PATCHES}")
    check_kind(model, source)
    if not any(re.fullmatch(r"(space\.|time\.|)(fc_)?norm\.weight", name) for name in source.weights):
        raise ValueError("it holds no last norm: the file is cut")
    theirs, ours = source.weights[PATCHES].shape, model.get_parameter(PATCHES).shape
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
    attention = next((one for one in model.modules() if isinstance(one, MultiHead)), None)
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


def check_kind(model: nn.Module, source: Source) -> None:
    """Raises ValueError where the weights are of another mechanism than the model, whatever its sizes."""
    pools = "q_strides" in inspect.signature(type(model).__init__).parameters
    if (pools and not source.exact) or (source.of_mvit and not pools):
        raise ValueError(advice(model, source, "model.tubelet" if pools else "model.q_strides"))
    names = {name for name, _ in model.named_parameters()}
    for word in ("rel_pos_", "temporal_attn.", "attn_time."):
        theirs, ours = (any(f".{word}" in name for name in some) for some in (source.weights, names))
        if source.of_mvit and word == "rel_pos_" and theirs != ours:
            kinds = ("MViT v1's", "MViTv2's") if theirs else ("MViTv2's", "MViT v1's")
            raise ValueError(
                f"they are {kinds[1]}, and the model is {kinds[0][:-2]}; type model=mvit_v{1 + theirs}_..."
            )
        if not source.exact and theirs and not ours:
            raise ValueError(
                f"its blocks have attention over time ({word[:-1]}), those of {type(model).__name__} have none such; "
                f"models that can take weights of {source.layout}: {source.models}"
            )
    over_time = any(isinstance(module, TimeAttention) for module in model.modules())
    if over_time and not source.exact and "time_embed" in source.weights and not source.of_time:
        raise ValueError(
            "its blocks attend to all places and times together (it has positions in time, no attention over time), "
            f"and those of {type(model).__name__} do not; TimeSformer's are for model=timesformer_joint"
        )


def advice(model: nn.Module, source: Source, override: str) -> str:
    """The override `model.key=value` in words, or, where the model has no such argument, which models there are."""
    key = override.removeprefix("model.").partition("=")[0].partition(".")[0]
    if key in inspect.signature(type(model).__init__).parameters:
        return f"type {override}"
    others = f"; those that can: {source.models}" if source.models else ""
    return f"{type(model).__name__} has no {key}, so it cannot take weights of {source.layout}{others}"


def note_of_heads(model: nn.Module, source: Source) -> list[str]:
    """Another number of heads loads in full, and gives other answers."""
    attention = next((one for one in model.modules() if isinstance(one, MultiHead)), None)
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
            override = f"type model.depths=[{','.join(map(str, stage_depths(source)))}]"
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


def stage_depths(source: Source) -> list[int]:
    """Of MViT: how many blocks follow each other with attention of one width."""
    widths = [len(source.weights[f"blocks.{i}.attn.proj.weight"]) for i in range(_blocks(source.weights, ""))]
    return [len(list(stage)) for _, stage in groupby(widths)]


def _blocks(names: Iterable[str], prefix: str) -> int:
    """How many blocks are named under a prefix."""
    return len({name.removeprefix(prefix).split(".")[1] for name in names if name.startswith(f"{prefix}blocks.")})
