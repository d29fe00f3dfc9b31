"""Published weights of MViT under our names: from SlowFast, the official code, and from torchvision. D width.

Both functions only rename, join and reshape, so gradients by the published names convert as weights do.
"""

import torch
from torch import Tensor

from tubelet.weights.renames import renamed

# Their names and ours, replaced in this order.
OF_TORCHVISION = {
    "pos_encoding.class_token": "cls_token",
    "pos_encoding.class_pos": "pos_embed_class",
    "pos_encoding.spatial_pos": "pos_embed_spatial",
    "pos_encoding.temporal_pos": "pos_embed_temporal",
    "conv_proj.": "patch_embed.proj.",
    "head.1.": "head.",
    ".attn.project.0.": ".attn.proj.",
    ".project.": ".proj.",
    **{f".pool_{x}.pool.": f".pool_{x}." for x in "qkv"},
    **{f".pool_{x}.norm_act.0.": f".norm_{x}." for x in "qkv"},
    ".mlp.0.": ".mlp.fc1.",
    ".mlp.3.": ".mlp.fc2.",
}
OF_SLOWFAST = {"head.projection.": "head.", "pos_embed_temporal": "pos_embed.time"}


def from_slowfast(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The `model_state` of a checkpoint of SlowFast, MViT or MViTv2 -> a state dict of ours.

    Linear layers q, k and v, where they are separate, become one. Raises ValueError where two names become one, or
    where one of q, k and v is missing.
    """
    return renamed(join_class_position(join_qkv(state)), OF_SLOWFAST)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of torchvision's mvit_v1_b or mvit_v2_s -> one of ours. Raises ValueError as `from_slowfast`."""
    named = renamed(state, OF_TORCHVISION)
    for name, value in named.items():
        if name == "cls_token" or name.startswith("pos_embed_"):
            named[name] = value.view(1, -1, value.shape[-1])  # (D) or (rows, D) -> (1, rows, D)
    return from_slowfast(named)


def join_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`attn.q`, `attn.k` and `attn.v`, (D', D) or (D'), -> `attn.qkv`, (3 D', D) or (3 D')."""
    joined = {}
    for name, value in state.items():
        if ".attn.q." in name:
            names = [name.replace(".attn.q.", f".attn.{x}.") for x in "qkv"]
            if missing := [other for other in names if other not in state]:
                raise ValueError(f"weights: there is {name} but no {missing[0]}")
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([state[other] for other in names])
        elif ".attn.k." not in name and ".attn.v." not in name:
            joined[name] = value
    return joined


def join_class_position(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`pos_embed` (1, 1 + N, D), or `pos_embed_class` (1, 1, D) and `pos_embed_spatial` (1, s, D) -> ours.

    Ours has the class token, if it has a position, as the first row of the table of places.
    """
    state = dict(state)
    of_class, places = state.pop("pos_embed_class", None), state.pop("pos_embed_spatial", None)
    if places is not None:
        state["pos_embed.space"] = places if of_class is None else torch.cat([of_class, places], dim=1)
    if "pos_embed" in state:
        state["pos_embed.table"] = state.pop("pos_embed")
    return state
