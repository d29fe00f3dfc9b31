"""The layouts of published weights: the names by which each is known, and how they become ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from tubelet.weights.mvit import from_slowfast, from_torchvision
from tubelet.weights.renames import (
    TIMESFORMER,
    VIDEOMAE,
    VIT_4,
    VIT_5,
    VIVIT_4,
    VIVIT_5,
    State,
    from_flax,
    from_timm,
    from_transformers,
)
from tubelet.weights.source import IMAGENET, KINETICS, PATCHES, Normalisation, Source


@dataclass(frozen=True)
class Layout:
    """name: in words; marks: regular expressions, each of which a name matches in full; absent: which none matches.

    patch_axes: of the patch kernel, 4 for an image, 5 for tubelets; None for either
    """

    name: str
    marks: tuple[str, ...]
    convert: Callable[[State], Source]
    models: str
    absent: tuple[str, ...] = ()
    patch_axes: int | None = None

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        found = [any(re.fullmatch(mark, name) for name in state) for mark in self.marks]
        unwanted = any(re.fullmatch(mark, name) for mark in self.absent for name in state)
        axes = next((value.ndim for name, value in state.items() if name.endswith(PATCHES)), None)
        return all(found) and not unwanted and self.patch_axes in (None, axes)


def _timm(state: State) -> Source:
    unused = {"pre_logits.": "belongs to their head", "head_dist.": "belongs to their head"}
    lookalike = "MAE, DeiT and DINO, which have ImageNet's, or of a space-only TimeSformer without its `model.`"
    return Source("", from_timm(state), image=True, expected_unused=unused, lookalike=lookalike)


def _timesformer(state: State) -> Source:
    weights = from_timm({name.removeprefix("model."): value for name, value in state.items()})
    image = "" if "time_embed" in weights else "an image ViT behind `model.`, of mean 0.5 and std 0.5"
    return Source("", weights, KINETICS, nearest=True, exact_gelu=True, lookalike=image)


def _transformers_vivit(names: Mapping[str, str], state: State) -> Source:
    return Source("", from_transformers(state, names), joint=True, exact_gelu=False)


def _transformers_vit(names: Mapping[str, str], state: State) -> Source:
    unused = {"vit.pooler.": "belongs to their head"}
    lookalike = "DINO and MAE, which have ImageNet's"
    return Source("", from_transformers(state, names), image=True, expected_unused=unused, lookalike=lookalike)


def _transformers_timesformer(state: State) -> Source:
    return Source("", from_transformers(state, TIMESFORMER), KINETICS, nearest=True, exact_gelu=True)


def _videomae(weights: State) -> Source:
    """Positions that are computed tell no clip; all that were released are of 16 frames of 224 pixels."""
    fixed = "pos_embed" not in weights
    size = (16, 224, 224) if fixed else None
    return Source("", weights, IMAGENET, joint=True, fixed_positions=fixed, exact_gelu=True, size=size)


def _videomae_pretraining(state: State) -> Source:
    encoder = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
    weights = from_timm(encoder) | {n: v for n, v in state.items() if not n.startswith("encoder.")}
    reason = "of the pretraining alone"
    source = _videomae(weights)
    source.expected_unused = {"decoder.": reason, "encoder_to_decoder.": reason, "mask_token": reason}
    return source


def _transformers_videomae(state: State) -> Source:
    reason = "of the pretraining alone"
    source = _videomae(from_transformers(state, VIDEOMAE))
    source.expected_unused = {"decoder.": reason, "encoder_to_decoder.": reason, "mask_token": reason}
    return source


def _flax(state: State, image: bool) -> Source:
    heads = next(value.shape[1] for name, value in state.items() if name.endswith("query/kernel"))
    source = Source("", from_flax(state), image=image, joint=not image, heads=heads)
    source.exact_gelu = None if image else False
    if any(".norm_time." in name for name in source.weights):
        source.notes.append("the order of space and time does not stand in the file; scenic's is model.time_first=true")
    plain = not any(
        name.startswith("space.") or "cls_token" in name or ".norm_time." in name for name in source.weights
    )
    if plain and not image:
        source.notes.append("the file does not tell joint attention from factorised dot product, so see to it")
    source.expected_unused = {"pre_logits.": "belongs to their head"} if image else {}
    return source


def of_same_model(layout: str, weights: State, normalisation: Normalisation) -> Source:
    """Of parameters under the names of a model of ours: its position class alone gives names that are not plain."""
    plain, joint = {}, False
    for name, value in weights.items():
        name = re.sub(r"^encoder\.", "", name)
        joint |= name == "pos_embed.table"
        name = re.sub(r"pos_embed\.(table|space)$", "pos_embed", name)
        plain[name.replace("pos_embed.time", "time_embed")] = value
    return Source(layout, plain, normalisation, exact=True, joint=joint)


def _slowfast(state: State) -> Source:
    return _mvit(from_slowfast(state))


def _torchvision(state: State) -> Source:
    return _mvit(from_torchvision(state))


def _mvit(weights: State) -> Source:
    # The large model, of 144 channels, is the one that was trained with ImageNet's figures.
    large = weights[PATCHES].shape[0] == 144
    return replace(of_same_model("", weights, IMAGENET if large else KINETICS), of_mvit=True)


OF_IMAGES = "timesformer*, vivit_* but vivit_hierarchical*"
OF_SCENIC = "vivit_joint, vivit_factorised_{encoder,attention,dot_product}, vivit_frame_mean"
QKV = r"blocks\.0\.attn\.qkv\.weight"
LAYOUTS = [
    Layout(
        "torchvision's MViT",
        (r"conv_proj\.weight", r"blocks\.0\.attn\.project\.0\.weight"),
        _torchvision,
        "mvit*",
    ),
    Layout(
        "SlowFast's MViT",
        (r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.(pool_k\.weight|rel_pos_h)|pos_embed_spatial"),
        _slowfast,
        "mvit*",
    ),
    Layout(
        "transformers' ViViT (version 5)",
        (r"vivit\.embeddings\.position_embeddings", r"vivit\.layers\.0\.attention\.q_proj\.weight"),
        partial(_transformers_vivit, VIVIT_5),
        "vivit_joint",
    ),
    Layout(
        "transformers' ViViT (version 4)",
        (
            r"vivit\.embeddings\.position_embeddings",
            r"vivit\.encoder\.layer\.0\.attention\.attention\.query\.weight",
        ),
        partial(_transformers_vivit, VIVIT_4),
        "vivit_joint",
    ),
    Layout(
        "transformers' image ViT (version 5)",
        (r"vit\.embeddings\.position_embeddings", r"vit\.layers\.0\.attention\.q_proj\.weight"),
        partial(_transformers_vit, VIT_5),
        OF_IMAGES,
    ),
    Layout(
        "transformers' image ViT (version 4)",
        (
            r"vit\.embeddings\.position_embeddings",
            r"vit\.encoder\.layer\.0\.attention\.attention\.query\.weight",
        ),
        partial(_transformers_vit, VIT_4),
        OF_IMAGES,
    ),
    Layout(
        "transformers' TimeSformer",
        (
            r"timesformer\.embeddings\.position_embeddings",
            r"timesformer\.encoder\.layer\.0\.attention\.attention\.qkv\.weight",
        ),
        _transformers_timesformer,
        "timesformer*",
    ),
    Layout(
        "transformers' VideoMAE",
        (
            r"videomae\.embeddings\.patch_embeddings\.projection\.weight",
            r"videomae\.encoder\.layer\.0\.attention\.attention\.query\.weight",
        ),
        _transformers_videomae,
        "vivit_joint",
    ),
    Layout("the official TimeSformer", (r"model\.pos_embed", r"model\." + QKV), _timesformer, "timesformer*"),
    Layout("the official TimeSformer, bare", (r"pos_embed", r"time_embed", QKV), _timesformer, "timesformer*"),
    Layout(
        "VideoMAE's pretraining",
        (r"encoder\.patch_embed\.proj\.weight", r"encoder\." + QKV),
        _videomae_pretraining,
        "vivit_joint",
    ),
    Layout(
        "VideoMAE",
        (r"patch_embed\.proj\.weight", QKV),
        lambda state: _videomae(from_timm(state)),
        "vivit_joint",
        absent=("cls_token",),
        patch_axes=5,
    ),
    Layout(
        "timm's image ViT",
        (r"cls_token", r"pos_embed", r"patch_embed\.proj\.weight", QKV),
        _timm,
        OF_IMAGES,
        absent=("time_embed", "reg_token"),
        patch_axes=4,
    ),
    Layout(
        "Google's image ViT (flax)",
        (r"embedding/kernel", r"Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"),
        partial(_flax, image=True),
        OF_IMAGES,
    ),
    Layout(
        "scenic's ViViT",
        (r"embedding/kernel", r"(Spatial)?Transformer/encoderblock_0/MultiHeadDotProductAttention_\w+/query/kernel"),
        partial(_flax, image=False),
        OF_SCENIC,
    ),
]
