"""Switches that make a step faster or smaller and leave its numbers: they act in place, so weights keep their names."""

import logging
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

log = logging.getLogger(__name__)


def recompute_blocks(model: nn.Module) -> None:
    """Activation checkpointing: a block keeps only its input for the backward, and computes the rest again there.

    Costs about a third more time for a training step. Random draws are repeated too, so gradients do not change.

    Raises ValueError where a model has no list of blocks.
    """
    lists = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "blocks"]
    if not lists:
        raise ValueError(f"activation_checkpointing=true: {type(model).__name__} has no module named blocks")
    for block in (block for blocks in lists for block in blocks.children()):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def speed_up(model: nn.Module, compiled: bool, activation_checkpointing: bool) -> None:
    """What the config's `compile` and `activation_checkpointing` ask for."""
    if activation_checkpointing:
        recompute_blocks(model)
    if compiled:
        log.info(
            "compile: the first steps of training, of validation and of the test take minutes, and count in clips/s"
        )
        model.compile()


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ValueError for bfloat16 on a GPU that only emulates it, in many times the time of float32, for float16
    on a CPU, in whose place Lightning would take bfloat16, and for float64, which clips are not.

    precision: as trainer.precision has it
    """
    if precision == "64-true":
        raise ValueError("trainer.precision=64: clips are float32; type trainer.precision=32-true")
    if precision == "16-mixed" and device.type == "cpu":
        raise ValueError("trainer.precision=16-mixed: not on a CPU; type trainer.precision=bf16-mixed, or 32-true")
    if not precision.startswith("bf16") or device.type != "cuda":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ValueError(
            f"trainer.precision={precision}: {name} has no bfloat16; type trainer.precision=16-mixed, or 32-true"
        )
