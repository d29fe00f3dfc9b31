"""Published names of parameters into ours: those of timm's ViT, which TimeSformer and VideoMAE share.

Every function takes {name: tensor} and gives {name: tensor} with the names `patch_embed.proj`, `cls_token`,
`pos_embed`, `time_embed`, `blocks.N.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}`, `norm` or `fc_norm`, `head`;
blocks of divided and of factorised attention have further names, and those of a factorised encoder begin with
`space.` or `time.`. Shapes become torch's; nothing is left out here. D width, d = D / heads.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]

VIVIT_EMBEDDINGS = {
    "vivit.embeddings.cls_token": "cls_token",
    "vivit.embeddings.position_embeddings": "pos_embed",
    "vivit.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "vivit.layernorm.": "norm.",
}
LAYER = {  # of a layer in transformers, before version 5 and in classes that were not rewritten since
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".attention.attention.": ".attn.",
    ".attention.output.dense.": ".attn.proj.",
    ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
}
VIVIT_4 = {**VIVIT_EMBEDDINGS, "vivit.encoder.layer.": "blocks.", **LAYER, "classifier.": "head."}
VIVIT_5 = {
    **VIVIT_EMBEDDINGS,
    "vivit.layers.": "blocks.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".attention.o_proj.": ".attn.proj.",
    ".attention.q_proj.": ".attn.query.",
    ".attention.k_proj.": ".attn.key.",
    ".attention.v_proj.": ".attn.value.",
    "classifier.": "head.",
}
# transformers' image ViT has the same names behind another word.
VIT_4, VIT_5 = ({theirs.replace("vivit.", "vit."): ours for theirs, ours in n.items()} for n in (VIVIT_4, VIVIT_5))
TIMESFORMER = {
    "timesformer.embeddings.cls_token": "cls_token",
    "timesformer.embeddings.position_embeddings": "pos_embed",
    "timesformer.embeddings.time_embeddings": "time_embed",
    "timesformer.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "timesformer.layernorm.": "norm.",
    "timesformer.encoder.layer.": "blocks.",
    ".temporal_layernorm.": ".temporal_norm1.",
    ".temporal_attention.attention.": ".temporal_attn.",
    ".temporal_attention.output.dense.": ".temporal_attn.proj.",
    ".temporal_dense.": ".temporal_fc.",
    **LAYER,
    "classifier.": "head.",
}
VIDEOMAE = {
    "videomae.embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "videomae.layernorm.": "norm.",
    "videomae.encoder.layer.": "blocks.",
    **LAYER,
    "classifier.": "head.",
}
SCENIC = {  # flax names, joined by dots
    "SpatialTransformer.": "space.",
    "TemporalTransformer.": "time.",
    "Transformer.": "",
    "posembed_input.pos_embedding": "pos_embed",
    "encoderblock_": "blocks.",
    "encoder_norm.": "norm.",
    ".LayerNorm_0.": ".norm1.",
    ".LayerNorm_1.": ".norm2.",
    ".LayerNorm_2.": ".norm2.",
    ".LayerNorm_": ".norm_",
    ".MlpBlock.": ".mlp.",
    ".Dense_0.": ".fc1.",
    ".Dense_1.": ".fc2.",
    "embedding.": "patch_embed.proj.",
    "output_projection.": "head.",
    ".scale": ".weight",
}


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> State:
    """The names replaced in their order. Raises ValueError where two become one."""
    ours: State = {}
    for name, value in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if name in ours:
            raise ValueError(f"two of its parameters would both become {name!r}")
        ours[name] = value
    return ours


def from_transformers(state: Mapping[str, Tensor], names: Mapping[str, str]) -> State:
    """Renamed, with queries, keys and values stacked into one matrix."""
    return stacked(renamed(state, names))


def stacked(ours: State) -> State:
    """`query`, `key` and `value` (D, D) beside each other -> `qkv` (3 D, D), and so their biases."""
    ours = {re.sub(r"\.([qkv])_bias$", _bias_of_part, name): value for name, value in ours.items()}
    found = [re.fullmatch(r"(.+\.)(query|key|value)\.weight", name) for name in ours]
    for stem in dict.fromkeys(match[1] for match in found if match):
        parts = ("query", "key", "value")
        if missing := [part for part in parts if f"{stem}{part}.weight" not in ours]:
            raise ValueError(f"it has a part of the matrices of {stem[:-1]}, but not its {missing[0]}: the file is cut")
        ours[f"{stem}qkv.weight"] = torch.cat([ours.pop(f"{stem}{part}.weight") for part in parts])
    return with_joined_biases(ours)


def _bias_of_part(found: re.Match[str]) -> str:
    return {"q": ".query", "k": ".key", "v": ".value"}[found[1]] + ".bias"


def with_joined_biases(ours: State) -> State:
    """Biases of `query`, `key` and `value` (D) -> `qkv` (3 D). VideoMAE has none of the keys, in any block: zero.

    Where a block has none at all, it stays without. Raises ValueError where it has a part of them.
    """
    parts = ("query", "value", "key") if any(name.endswith(".key.bias") for name in ours) else ("query", "value")
    found = [re.fullmatch(r"(.+)\.(query|key|value)\.bias", name) for name in ours]
    for stem in dict.fromkeys(match[1] for match in found if match):
        if missing := [part for part in parts if f"{stem}.{part}.bias" not in ours]:
            raise ValueError(f"it has a part of the bias of {stem}, but not that of its {missing[0]}: the file is cut")
        bias = {part: ours.pop(f"{stem}.{part}.bias") for part in parts}
        bias.setdefault("key", torch.zeros_like(bias["query"]))
        ours[f"{stem}.qkv.bias"] = torch.cat([bias["query"], bias["key"], bias["value"]])
    return ours


def from_timm(state: Mapping[str, Tensor]) -> State:
    """timm's ViT, the official TimeSformer, VideoMAE: our names already, but for what is folded into others.

    VideoMAE has its biases in parts, and learned scales of a branch are as well in the branch's last layer.
    """
    ours = with_joined_biases({re.sub(r"\.([qkv])_bias$", _bias_of_part, name): v for name, v in state.items()})
    scales = {layer_of(name): name for name in ours if re.search(r"\.(gamma_[12]|ls[12]\.gamma)$", name)}
    blocks = {found[0] for name in ours if (found := re.match(r"blocks\.\d+", name))}
    scaled = {f"{block}.{layer}" for block in blocks for layer in ("attn.proj", "mlp.fc2")}
    if scales and scales.keys() != scaled:
        odd = sorted(scales.keys() ^ scaled)[0]
        raise ValueError(f"some of its layers have a learned scale, and others as {odd} have none: the file is cut")
    for layer, name in scales.items():
        scale = ours.pop(name)
        if missing := [part for part in ("weight", "bias") if f"{layer}.{part}" not in ours]:
            raise ValueError(f"it has {name}, but not {layer}.{missing[0]}: the file is cut")
        ours[f"{layer}.weight"] = ours[f"{layer}.weight"] * scale[:, None]
        ours[f"{layer}.bias"] = ours[f"{layer}.bias"] * scale
    return ours


def layer_of(name: str) -> str:
    """`blocks.3.ls2.gamma` or `blocks.3.gamma_2` -> `blocks.3.mlp.fc2`, the last layer of the branch that it scales."""
    stem, branch = name.split(".gamma_" if ".gamma_" in name else ".ls")
    return f"{stem}.attn.proj" if branch.startswith("1") else f"{stem}.mlp.fc2"


def from_flax(state: Mapping[str, Tensor]) -> State:
    """scenic's ViViT and Google's ViT, whose dense kernels are (in, out), and of attention (D, heads, d)."""
    dotted = {name.replace("/", "."): value for name, value in state.items()}
    short = {}
    for name, value in dotted.items():
        name = re.sub(r"^cls(_SpatialTransformer|_TemporalTransformer)?$", _class_token, name)
        name = re.sub(r"\.MultiHeadDotProductAttention_(space|time)\.", r".attn_\1.", name)
        name = re.sub(r"\.MultiHeadDotProductAttention_\d\.", ".attn.", name)
        short[re.sub(r"\.MlpBlock_\d\.", ".mlp.", name)] = value
    ours = renamed(short, SCENIC)
    shaped = {name: _as_torch(name, value) for name, value in ours.items()}
    ours = renamed(shaped, {"kernel": "weight", ".out.": ".proj."})
    return stacked(ours)


def _class_token(found: re.Match[str]) -> str:
    return {None: "cls_token", "_SpatialTransformer": "space.cls_token"}.get(found[1], "time.cls_token")


def _as_torch(name: str, value: Tensor) -> Tensor:
    """(in, out) -> (out, in), heads side by side; of patches (t, p, q, C, D) -> (D, C, t, p, q); others as they are."""
    if re.search(r"\.(query|key|value)\.", name):
        value = value.flatten(-2)  # (D, heads, d) -> (D, D)
    if name.endswith(".out.kernel"):
        value = value.flatten(0, 1)  # (heads, d, D) -> (D, D)
    if not name.endswith("kernel"):
        return value
    return value.movedim((-1, -2), (0, 1)).contiguous() if value.ndim > 2 else value.T.contiguous()
