"""`model.pretrained`: from the name in a config to a model that begins with published weights."""

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tubelet.weights.account import Account
from tubelet.weights.catalogue import STAGES, STARTING_KEYS, Published
from tubelet.weights.checks import check_kind
from tubelet.weights.fetch import Found, find
from tubelet.weights.files import Weights, read_weights
from tubelet.weights.layouts import of_same_model
from tubelet.weights.resample import average, central_frame
from tubelet.weights.source import Source
from tubelet.weights.start import start_from
from tubelet.weights.understand import understand

INFLATE = {"central_frame": central_frame, "average": average}
ACCEPTED = ("normalisation", "frames", "crop", "strides")
TUBELET = "a checkpoint of tubelet's"
# Arguments of a model that leave what its weights compute as it is, or are settled where tables are resized.
MAY_DIFFER = {"_target_", "num_classes", "num_frames", "crop", "drop_path", "head_dropout", "position"}
PER_TOKEN = (".ClassToken", ".Mean")  # readouts before which each token is normed
# The names of transformers, whose fast, new and pytorch_tanh are one function.
EXACT_GELU = {"gelu": True, "gelu_fast": False, "gelu_new": False, "gelu_pytorch_tanh": False}
STRIDES: dict[str, list] = {**STAGES, "patch_stride": [2, 4, 4]}  # of every published MViT
OURS = "predictor.model."  # before each name in a checkpoint of a run


def load_pretrained(
    model: nn.Module, node: Mapping[str, Any], clip: Mapping[str, Any], classes: Sequence[str] | None = None
) -> Account:
    """Start `model` from what node["pretrained"] names. Raises ValueError or OSError, and then leaves it as it was.

    node: the `model` node of the config
    clip: the `clip` node; its mean and std must be those the weights were trained with
    classes: of the run; a head that one of our own runs trained for other ones is not taken
    """
    name, accept = str(node["pretrained"]), node.get("accept") or ()
    if isinstance(accept, str):
        raise ValueError(f"model.accept={accept}: it is a list; type model.accept=[{accept}]")
    inflate = node.get("inflate", "central_frame")
    if inflate not in INFLATE:
        raise ValueError(f"model.inflate={inflate}: there is no such way; there are: {', '.join(INFLATE)}")
    for word in accept:
        if word not in ACCEPTED:
            raise ValueError(f"model.accept={word}: there is no such difference; there are: {', '.join(ACCEPTED)}")
    found = find(name, dict(node))
    try:
        source = read_source(found, node, classes, type(model))
        check_kind(model, source)
        if "normalisation" not in accept:
            check_normalisation(source, clip)
        if source.of_mvit:
            check_pooling(source, node, accept)
        account = start_from(model, source, INFLATE[inflate], accept)
    except ValueError as error:
        raise ValueError(f"model.pretrained={name}: {error}") from error
    if "head.weight" in account.loaded and not source.layout.startswith(TUBELET):
        account.notes.append("the head is theirs: the classes of the data must be in the publisher's order")
    account.notes = ([f"from {found.told}"] if found.told else []) + account.notes
    return account


def read_source(found: Found, node: Mapping[str, Any], classes: Sequence[str] | None, kind: type) -> Source:
    """kind: the class of the model"""
    weights = read_weights(found.path)
    if weights.record:
        source = of_our_run(weights.state, weights.record["config"], node, kind)
        source.other_classes = classes is not None and list(classes) != list(weights.record["classes"])
        return source
    source = understand(weights.state)
    settle(source, weights, found.entry)
    return source


def of_our_run(state: Mapping[str, Tensor], config: Mapping[str, Any], node: Mapping[str, Any], kind: type) -> Source:
    """A checkpoint of tubelet: its config says all that other layouts leave to guess."""
    theirs, clip = config["model"], config["clip"]
    named = {name.removeprefix(OURS): value for name, value in state.items() if name.startswith(OURS)}
    crop = clip["crop"] if not isinstance(clip["crop"], int) else (clip["crop"], clip["crop"])
    their_kind = str(theirs["_target_"]).rpartition(".")[2]
    normalisation = (tuple(clip["mean"]), tuple(clip["std"]))
    source = of_same_model(f"{TUBELET} {their_kind}", named, normalisation)
    source.exact = theirs["_target_"] == node.get("_target_")
    if source.exact:
        refuse_other_function(theirs, node, kind)
    else:
        source.notes.append(f"trained as {their_kind}, and goes on as {kind.__name__}: its blocks may attend otherwise")
        source.exact_gelu = theirs.get("exact_gelu", ".vivit" not in theirs["_target_"])  # ViViT's is the tanh form
        if any(".norm_time." in name for name in source.weights):
            source.time_first = theirs.get("time_first", False)
        if target_of(theirs.get("readout")).endswith(".NormedMean"):  # then the norm comes after the mean
            source.weights = {re.sub(r"^norm\.", "fc_norm.", name): value for name, value in source.weights.items()}
    source.heads = theirs["heads"] if isinstance(theirs.get("heads"), int) else None  # a list: of each stage
    source.size = (clip["num_frames"], crop[0], crop[1])
    return source


def target_of(node: object) -> str:
    return str(node.get("_target_")) if isinstance(node, Mapping) else ""


def refuse_other_function(theirs: Mapping[str, Any], ours: Mapping[str, Any], kind: type) -> None:
    """Raises ValueError where an argument would let the same weights compute something else.

    kind: the class of both; its defaults stand for what a node leaves out, such as arguments younger than a checkpoint
    """
    parameters = inspect.signature(kind).parameters
    plain = {k: p.default for k, p in parameters.items() if isinstance(p.default, bool | int | float | str)}
    theirs, ours = plain | dict(theirs), plain | dict(ours)
    before, now = (target_of(node.get("readout")) for node in (theirs, ours))
    probed = now.endswith(".Attentive") and before.endswith(PER_TOKEN)  # it reads what was read before
    for key in sorted(theirs.keys() - MAY_DIFFER - STARTING_KEYS - ({"readout"} if probed else set())):
        if key in ours and theirs[key] != ours[key]:
            wanted, given = typed(theirs[key]), typed(ours[key])
            raise ValueError(f"its model has {key}={wanted}, this one {given}; type model.{key}={wanted}")


def typed(value: object) -> str:
    """As an override has it in a shell, so without spaces and quotes."""
    return "null" if value is None else re.sub(r"[ '\"]", "", str(value))


def settle(source: Source, weights: Weights, entry: Published | None) -> None:
    """What stands beside the weights, or in the catalogue, goes before what a layout usually is."""
    settings = weights.settings
    told = settings.get("pretrained_cfg", settings)
    mean, std = (told.get(key, settings.get(f"image_{key}")) for key in ("mean", "std"))
    if mean and std:
        source.normalisation = (tuple(mean), tuple(std))
    elif source.lookalike:
        mean, std = (f"{values[0]:g}" for values in source.normalisation)
        taken = f"taken for {source.layout}, of mean {mean} and std {std}"
        source.notes.append(f"{taken}; the same names could be those of {source.lookalike}")
    if settings.get("use_mean_pooling", True) is False:
        raise ValueError(
            "its config.json has use_mean_pooling=false: its head reads the first token, and no model here does"
        )
    source.heads = settings.get("num_attention_heads", source.heads)
    if "hidden_act" in settings:
        if settings["hidden_act"] not in EXACT_GELU:
            names = ", ".join(EXACT_GELU)
            raise ValueError(
                f"its config.json has hidden_act={settings['hidden_act']}; models here have one of {names}"
            )
        source.exact_gelu = EXACT_GELU[settings["hidden_act"]]
    if "attention_type" in settings:
        source.layout += f" ({settings['attention_type']})"
    if {"num_frames", "image_size"} <= settings.keys():
        side = settings["image_size"]
        source.size = (settings["num_frames"], *((side, side) if isinstance(side, int) else side))
    if entry:
        source.size = source.size or entry.size


def check_pooling(source: Source, node: Mapping[str, Any], accept: Collection[str]) -> None:
    """Raises ValueError where published weights of MViT would pool otherwise than they did in training.

    A kernel fits every stride, so no shape tells; all that were released pool alike, and read out the class token.
    """
    for key, published in STRIDES.items() if "strides" not in accept else ():
        ours: Any = node.get(key, published)
        if len(ours) == len(published) and typed(ours) != typed(published):
            raise ValueError(
                f"weights of {source.layout} were trained with {key}={typed(published)}, and this model has "
                f"{typed(ours)}; type model.{key}={typed(published)}, or model.accept=[strides] if others are meant"
            )
    readout = target_of(node.get("readout")).rpartition(".")[2]
    if readout not in ("", "ClassToken"):
        source.notes.append(f"published ones are read out by the class token, this model by {readout}")


def check_normalisation(source: Source, clip: Mapping[str, Any]) -> None:
    """Raises ValueError where pixels would reach the model otherwise than the weights know them."""
    ours = [[float(value) for value in clip[key]] for key in ("mean", "std")]
    theirs = [[float(value) for value in values] for values in source.normalisation]
    if any(abs(a - b) > 1e-4 for pair in zip(ours, theirs, strict=True) for a, b in zip(*pair, strict=True)):
        mean, std = ("[" + ",".join(f"{value:g}" for value in values) + "]" for values in theirs)
        raise ValueError(
            f"weights of {source.layout} expect clip.mean={mean} clip.std={std}, and this run has "
            f"mean {ours[0]} and std {ours[1]}; type clip.mean={mean} clip.std={std}, or "
            "model.accept=[normalisation] if these weights are others"
        )
