"""How weights start. Papers and their official codes differ in this, so each model file says which it follows."""

import torch
from torch import nn

from tubelet.layers.attention import MultiHead
from tubelet.layers.readout import Attentive


def learned_table(*shape: int) -> nn.Parameter:
    """A learned table (1, ..., D), truncated normal of deviation 0.02 as in ViT."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, *shape), std=0.02))


def init_as_timm(module: nn.Module) -> None:
    """For `nn.Module.apply`: truncated normal of deviation 0.02 for linear layers, zero for their biases.

    So in timm's ViT and in TimeSformer's official code. Both leave the patches as torch starts a convolution.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        zero_bias(module)


def init_as_scenic(model: nn.Module) -> None:
    """Of a whole model: uniform after Glorot for matrices, LeCun's normal for patches, zero for biases and the `head`.

    So in ViT's and ViViT's official codes in JAX. There the biases of the MLP are normal of deviation 1e-6, which is
    nothing beside the rest, and zero here; queries, keys and values are three matrices, each with a start of its own.
    """
    qkv = {module.qkv for module in model.modules() if isinstance(module, MultiHead)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            for matrix in module.weight.chunk(3 if module in qkv else 1):
                nn.init.xavier_uniform_(matrix)
            zero_bias(module)
            if name == "head":
                zero_linear(module)
        if isinstance(module, nn.Conv3d):
            nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            zero_bias(module)
    for readout in (module for module in model.modules() if isinstance(module, Attentive)):
        readout.start()


def zero_bias(module: nn.Linear | nn.Conv3d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def zero_linear(linear: nn.Linear) -> None:
    """A head that begins with the same probability for every class, or a branch that begins by adding nothing."""
    nn.init.zeros_(linear.weight)
    zero_bias(linear)
