"""Every key of a composed config against what it will reach: Hydra accepts a misspelt key in a file, or after a +.

The keys listed in conf/ are right without a look (tests compare them with the signatures). Other keys can only be
right where conf/ does not list all arguments of a target; then it is imported, which takes seconds.
"""

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from tubelet.evaluation.published import STARTING_KEYS
from tubelet.training.explain import nearest

TARGET = "_target_"
Kinds = dict[tuple[str, str], set[str | None]]  # (target or place, key) -> the kinds of the values in conf/
LISTED_WHOLE = ("tubelet.", "lightning.Trainer")  # targets of which conf/ lists every argument
OF_HYDRA = {TARGET, "_partial_", "_convert_", "_recursive_", "_args_"}
# Values of another kind than in conf/ that are right.
OTHER_KINDS = {
    "optim.clip_norm": {type(None)},
    "trainer.max_epochs": {type(None)},  # where trainer.max_steps ends the run
    "clip.crop": {list},  # (H, W): models take it, the data has squares only
}
NAMED_FREELY = {"augment", "callbacks", "logger"}  # mappings whose keys are names that the user may choose
BESIDE_TARGET = {  # see build.py
    "data": {"batch_size", "eval_batch_size", "num_workers", "reader", "on_error"},
    "model": STARTING_KEYS,
}


def check_keys(cfg: DictConfig, name: str, config_dir: str) -> None:
    """Raises ValueError at the first key of `cfg`, of `name`.yaml, that nothing reads or that has no value."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    listed, kinds = _listed(Path(config_dir))
    primary = yaml.safe_load(Path(config_dir, f"{name}.yaml").read_text())
    groups = {key for entry in primary["defaults"] if isinstance(entry, dict) for key in entry}
    of_model = {"model", "clip"} if name == "train" else set()  # an evaluation has those of its checkpoint
    top = (set(primary) | groups | of_model) - {"defaults", "hydra", "experiment"}
    _refuse_unknown("", plain, top)
    for key, node in plain.items():
        _refuse_missing(key, node)
        _refuse_other_kind(key, node, {_kind(primary.get(key))})
        if isinstance(node, dict):
            _check_node(key, node, listed, kinds, key in NAMED_FREELY)


def _check_node(path: str, node: dict, known: dict[str, set[str]], kinds: Kinds, free: bool) -> None:
    if not free:
        allowed = known.get(node.get(TARGET, path), set()) | BESIDE_TARGET.get(path, set()) | OF_HYDRA
        whole = node.get(TARGET) in known and node[TARGET].startswith(LISTED_WHOLE)
        if TARGET in node and not whole and not set(node) <= allowed:
            allowed |= _signature(node[TARGET])
        if allowed > OF_HYDRA:
            _refuse_unknown(path, node, allowed)
    for key, child in node.items():
        _refuse_missing(f"{path}.{key}", child)
        _refuse_other_kind(f"{path}.{key}", child, kinds.get((node.get(TARGET, path), key), set()))
        if isinstance(child, dict):
            if free and TARGET not in child:
                raise ValueError(f"{path}.{key}: there is no such entry{nearest(key, set(node) - {key}, f'{path}.')}")
            _check_node(f"{path}.{key}", child, known, kinds, False)


def _refuse_missing(path: str, value: object) -> None:
    if value == "???":
        raise ValueError(f"{path} has no value; give it on the command line: {path}=...")


def _kind(value: object) -> str | None:
    """What a value that conf/ lists must stay; None where it may become anything."""
    kinds = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
    return kinds.get(type(value))


def _refuse_other_kind(path: str, value: object, listed: set[str | None]) -> None:
    if len(listed) != 1 or (isinstance(value, str) and value.startswith("${")):
        return
    (kind,) = listed
    found = "a number" if kind == "a number" and type(value) is int else _kind(value)
    if kind and found != kind and type(value) not in OTHER_KINDS.get(path, ()):
        raise ValueError(f"{path}={'null' if value is None else value} is not {kind}")


def _refuse_unknown(path: str, node: dict, allowed: set[str]) -> None:
    for key in node:
        if key not in allowed:
            full = f"{path}.{key}" if path else key
            raise ValueError(
                f"{full}: there is no such key{nearest(key, allowed - OF_HYDRA, f'{path}.' if path else '')}"
            )


def _signature(target: str) -> set[str]:
    """The arguments of a target; a target that takes **kwargs has only those that conf/ lists."""
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{TARGET}={target} cannot be imported: {error}") from error
    parameters = inspect.signature(found).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


@cache
def _listed(config_dir: Path) -> tuple[dict[str, set[str]], Kinds]:
    """The keys that the files of conf/ list, by target, and by place for nodes without one (`clip`, `views`).

    And the kinds of their values, by target or place and key.
    """
    listed: dict[str, set[str]] = {}
    kinds: Kinds = {}
    for file in config_dir.glob("*/*.yaml"):
        content = yaml.safe_load(file.read_text()) or {}
        if file.parent.name == "experiment":
            continue
        whole = file.parent.name == "model"
        nodes = content.items() if whole else [(file.parent.name, content)]
        for path, node in nodes:
            for place, inner in _nodes(path, node):
                where = inner.get(TARGET, place)
                listed.setdefault(where, set()).update(inner)
                for key, value in inner.items():
                    if where.startswith("tubelet.") or TARGET not in inner or key in ("max_epochs", "max_steps"):
                        kinds.setdefault((where, key), set()).add(_kind(value))
    return listed, kinds


def _nodes(path: str, node: object) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from _nodes(f"{path}.{key}", child)
