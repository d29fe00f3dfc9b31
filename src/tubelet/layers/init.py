"""Learned positions: how the tables and class tokens of a model start."""

import torch
from torch import nn


def learned_table(*shape: int) -> nn.Parameter:
    """A learned table (1, ..., D), truncated normal of deviation 0.02 as in ViT."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, *shape), std=0.02))


def init_linear(module: nn.Module) -> None:
    """For `nn.Module.apply`: truncated normal of deviation 0.02 for matrices, zero for biases, as in timm's ViT."""
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
