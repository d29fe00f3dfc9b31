"""Which parameters are trained, which of them decay, and which learn more slowly than others."""

from collections.abc import Iterator, Sequence

from torch import nn


def train_only(model: nn.Module, names: Sequence[str]) -> None:
    """Freeze all but the modules of these names: no gradients, and no dropout or drop path in the frozen ones.

    Raises ValueError for a name that the model does not have.
    """
    known = dict(model.named_modules())
    for name in names:
        if name not in known or not name:
            within = ", ".join(child for child, _ in model.named_children())
            raise ValueError(f"optim.trained: {type(model).__name__} has no module {name!r}; it has {within}")
    model.requires_grad_(False).eval()
    for name in names:
        known[name].requires_grad_(True).train()


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_vectors: bool, not_decayed: Sequence[str], layer_decay: float
) -> Iterator[dict]:
    """Of all parameters that are trained. `rate`: factor on the learning rate of a group.

    decay_vectors: whether biases and norms decay too
    not_decayed: parameters with such a part in their name do not, whatever their shape
    layer_decay: rate of a block over that of the next one
    """
    depths, last = layers(model)
    groups: dict[tuple[float, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kept = (parameter.ndim <= 1 and not decay_vectors) or bool(set(not_decayed) & set(name.split(".")))
            depth = depths[name] if layer_decay != 1 else last
            groups.setdefault((0.0 if kept else weight_decay, depth), []).append(parameter)
    for (decay, depth), parameters in sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1])):
        yield {"params": parameters, "weight_decay": decay, "rate": layer_decay ** (last - depth)}


def layers(model: nn.Module) -> tuple[dict[str, int], int]:
    """Parameter -> its layer, and the last layer.

    As in BEiT, what comes before the first block is 0, and blocks count from 1. What comes after the last block (norm,
    head) is the last layer; what lies between two encoders belongs to the block before it.
    """
    blocks = [name for name, _ in model.named_modules() if name.rpartition(".")[0].rpartition(".")[2] == "blocks"]
    last, passed, found = len(blocks) + 1, 0, {}
    for name, _ in model.named_parameters():
        own = next((i for i, block in enumerate(blocks, start=1) if name.startswith(f"{block}.")), None)
        passed = own or passed
        found[name] = last if own is None and passed == len(blocks) else passed
    return found, last
