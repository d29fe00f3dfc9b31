"""Every key of a composed config against what it will reach: Hydra accepts a misspelt key in a file, or after a +.

The keys listed in conf/ are right without a look (tests compare them with the signatures). Other keys can only be
right where conf/ does not list all arguments of a target; then it is imported, which takes seconds.
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from tubelet.evaluation.published import STARTING_KEYS
from tubelet.training.explain import nearest

TARGET = "_target_"
LISTED_WHOLE = ("tubelet.", "lightning.Trainer")  # targets of which conf/ lists every argument
OF_HYDRA = {TARGET, "_partial_", "_convert_", "_recursive_", "_args_"}
NAMED_FREELY = {"augment", "callbacks", "logger"}  # mappings whose keys are names that the user may choose
BESIDE_TARGET = {  # see build.py
    "data": {"batch_size", "eval_batch_size", "num_workers", "reader", "on_error"},
    "model": STARTING_KEYS,
}


def check_keys(cfg: DictConfig, name: str, config_dir: str) -> None:
    """Raises ValueError at the first key of `cfg`, of `name`.yaml, that nothing reads or that has no value."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    known = _listed_keys(Path(config_dir))
    primary = yaml.safe_load(Path(config_dir, f"{name}.yaml").read_text())
    groups = {key for entry in primary["defaults"] if isinstance(entry, dict) for key in entry}
    top = (set(primary) | groups | {"model", "clip"}) - {"defaults", "hydra", "experiment"}
    _refuse_unknown("", plain, top)
    for key, node in plain.items():
        _refuse_missing(key, node)
        if isinstance(node, dict):
            _check_node(key, node, known, key in NAMED_FREELY)


def _check_node(path: str, node: dict, known: dict[str, set[str]], free: bool) -> None:
    if not free:
        allowed = known.get(node.get(TARGET, path), set()) | BESIDE_TARGET.get(path, set()) | OF_HYDRA
        whole = node.get(TARGET) in known and node[TARGET].startswith(LISTED_WHOLE)
        if TARGET in node and not whole and not set(node) <= allowed:
            allowed |= _signature(node[TARGET])
        if allowed > OF_HYDRA:
            _refuse_unknown(path, node, allowed)
    for key, child in node.items():
        _refuse_missing(f"{path}.{key}", child)
        if isinstance(child, dict):
            if free and TARGET not in child:
                raise ValueError(f"{path}.{key}: there is no such entry{nearest(key, set(node) - {key}, f'{path}.')}")
            _check_node(f"{path}.{key}", child, known, False)


def _refuse_missing(path: str, value: object) -> None:
    if value == "???":
        raise ValueError(f"{path} has no value; give it on the command line: {path}=...")


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


def _listed_keys(config_dir: Path) -> dict[str, set[str]]:
    """The keys that the files of conf/ list, by target, and by place for nodes without one (`clip`, `views`)."""
    listed: dict[str, set[str]] = {}
    for file in config_dir.glob("*/*.yaml"):
        content = yaml.safe_load(file.read_text()) or {}
        if file.parent.name == "experiment":
            continue
        whole = file.parent.name == "model"
        nodes = content.items() if whole else [(file.parent.name, content)]
        for path, node in nodes:
            for place, inner in _nodes(path, node):
                listed.setdefault(inner.get(TARGET, place), set()).update(inner)
    return listed


def _nodes(path: str, node: object) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from _nodes(f"{path}.{key}", child)
