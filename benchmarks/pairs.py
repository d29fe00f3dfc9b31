"""Peers' video transformers beside ours, with the same weights: what benchmarks/models.py compares.

A peer's class is built with random values in every parameter, and ours takes them as it takes published weights.
Nothing is dropped at random in either, so that both are one function in training as well. A peer whose package is not
installed raises ModuleNotFoundError; our models need torch alone. Letters: B clips, C channels, T frames, H W pixels.
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tubelet.layers.pooling import PoolingAttention
from tubelet.layers.position import SpaceTime
from tubelet.models.mvit import MViT, block_widths
from tubelet.models.timesformer import Divided, SpaceOnly
from tubelet.models.vivit import Joint
from tubelet.weights.mvit import from_torchvision
from tubelet.weights.start import start_from
from tubelet.weights.understand import understand

CLASSES = 400


@dataclass(frozen=True)
class Pair:
    """Two models that give the same logits.

    package: the peer's, with its version, and how its attention is computed
    build: makes ours, without the weights
    to_peer: (B, C, T, H, W) -> the clip in the axes that the peer takes; ours takes it as it is
    """

    package: str
    peer: nn.Module
    ours: nn.Module
    build: Callable[[], nn.Module]
    to_peer: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """pair: from (num_frames, crop); num_frames, crop: as published; clips: how many count as one of a batch."""

    pair: Callable[[int, int], Pair]
    num_frames: int
    crop: int = 224
    clips: int = 1


class Logits(nn.Module):
    """A model of transformers, which gives logits in a record, as one that gives logits."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        """(B, T, C, H, W) -> logits (B, classes)."""
        return self.model(video).logits


def vivit_joint(num_frames: int, crop: int) -> Pair:
    from transformers import VivitConfig, VivitForVideoClassification

    peer = VivitForVideoClassification(VivitConfig(num_frames=num_frames, image_size=crop, num_labels=CLASSES))
    return of_transformers(peer, partial(Joint, CLASSES, num_frames, crop))


def timesformer(num_frames: int, crop: int) -> Pair:
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    config = TimesformerConfig(num_frames=num_frames, image_size=crop, num_labels=CLASSES)
    peer = TimesformerForVideoClassification(config)
    return of_transformers(peer, partial(Divided, CLASSES, num_frames, crop, drop_path=0.0))


def of_transformers(peer: Any, build: Callable[[], nn.Module]) -> Pair:
    """With the attention that their library chooses by itself: SDPA where the class has it."""
    ours = build()
    start_from(ours, understand(filled(peer).state_dict()))
    package = f"{version('transformers')} ({peer.config._attn_implementation} attention)"
    return Pair(package, Logits(peer), ours, build, lambda video: video.transpose(1, 2))


def mvit_v2_s(num_frames: int, crop: int) -> Pair:
    build = partial(MViT, CLASSES, num_frames, crop, drop_path=0.0, head_dropout=0.0)
    return of_torchvision(num_frames, crop, build, v2=True)


def mvit_v1_b(num_frames: int, crop: int) -> Pair:
    build = partial(
        MViT, CLASSES, num_frames, crop, drop_path=0.0, head_dropout=0.0,
        attention=PoolingAttention, position=SpaceTime, widen_in_mlp=True,
    )  # fmt: skip
    return of_torchvision(num_frames, crop, build, v2=False)


def of_torchvision(num_frames: int, crop: int, build: Callable[[], nn.Module], v2: bool) -> Pair:
    peer, ours = filled(torchvision_mvit(num_frames, crop, v2)), build()
    ours.load_state_dict(from_torchvision(peer.state_dict()), strict=True)
    return Pair(f"{version('torchvision')} (attention written out)", peer, ours, build, lambda video: video)


def torchvision_mvit(num_frames: int, crop: int, v2: bool) -> nn.Module:
    """Their mvit_v2_s or mvit_v1_b for any size of clip: `mvit_v2_s(spatial_size=...)` raises a TypeError."""
    from torchvision.models.video.mvit import MSBlockConfig
    from torchvision.models.video.mvit import MViT as Theirs

    depths, pool = (1, 2, 11, 2), [3, 3, 3]
    stages = [stage for stage, depth in enumerate(depths) for _ in range(depth)]
    blocks = []
    for i, (stage, (before, _, after)) in enumerate(zip(stages, block_widths(96, depths, not v2), strict=True)):
        strided = i > 0 and stage > stages[i - 1]
        of_q = [1, 2, 2] if strided else [1, 1, 1]
        pooled = v2 or strided  # v1 pools no other queries
        of_kv = [1, 8 // 2**stage, 8 // 2**stage]
        heads = 2**stage
        blocks.append(MSBlockConfig(heads, before, after, pool if pooled else [], pool, of_q if pooled else [], of_kv))
    return Theirs(
        (crop, crop), num_frames, blocks, residual_pool=v2, residual_with_cls_embed=False, rel_pos_embed=v2,
        proj_after_attn=v2, dropout=0.0, stochastic_depth_prob=0.0, num_classes=CLASSES,
    )  # fmt: skip


def vit_b(num_frames: int, crop: int) -> Pair:
    """The roof: an image model of the same width, whose time is nearly all matrix products. Clips of one frame."""
    import timm

    build = partial(SpaceOnly, CLASSES, num_frames, crop, drop_path=0.0)
    peer, ours = timm.create_model("vit_base_patch16_224", num_classes=CLASSES, img_size=crop), build()
    start_from(ours, understand(filled(peer).state_dict()))
    ours.head.load_state_dict(peer.head.state_dict())  # left out above: a head for images tells nothing about clips
    return Pair(f"{version('timm')} (sdpa attention)", peer, ours, build, lambda video: video[:, :, 0])


CASES = {
    "mvit_v2_s": Case(mvit_v2_s, 16),
    "mvit_v1_b": Case(mvit_v1_b, 16),
    "vivit_joint": Case(vivit_joint, 32),
    "timesformer": Case(timesformer, 8),
    "vit_b": Case(vit_b, 1, clips=8),
}


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


@torch.no_grad()
def filled(model: nn.Module) -> nn.Module:
    """Every parameter drawn, those that start at zero too, so that none can be forgotten; activations stay near 1."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        added = parameter.ndim == 1 or any(word in name for word in ("pos", "token", "time_embeddings"))
        parameter.normal_(std=0.25 if added else parameter[0].numel() ** -0.5, generator=generator)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)
    return model
