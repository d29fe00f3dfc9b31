"""Every key of a composed config against what it will reach: Hydra accepts a misspelt key in a file, or after a +.

The keys and targets listed in conf/ are right without a look (tests compare them with the signatures), and a value must
be of the kind of those listed in its place (kinds.py). Other keys can only be right where conf/ does not list all
arguments of a target; then, and for any other target, what it names is imported, which takes seconds.
"""

import importlib
import inspect
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from tubelet.training.explain import nearest
from tubelet.training.kinds import shown, unlike
from tubelet.weights.catalogue import STARTING_KEYS

TARGET, PARTIAL = "_target_", "_partial_"
Listed = dict[str, dict[str, list]]  # target, or place of a node without one -> key -> its values in conf/
LISTED_WHOLE = ("tubelet.", "lightning.Trainer")  # targets of which conf/ lists every argument
OF_HYDRA = {TARGET, PARTIAL, "_convert_", "_recursive_", "_args_"}
# Values that conf/ does not list, and that are as right as those it does.
ALSO_RIGHT: dict[str, list] = {
    "model.num_classes": [400],
    "model.time_mlp_ratio": [4.0],
    "model.drop_path": [0.0],
    "model.head_dropout": [0.0],
    "clip.crop": [[224, 224]],  # (H, W): models take it, the data has squares only
    "clip.mean": [[0.0, 0.0, 0.0]],
    "clip.fps": [None, 30.0],
    "clip.sampling": [
        {"_target_": f"tubelet.video.sampling.{name}", "_partial_": True} for name in ("Dense", "Segments")
    ],
    "views.starts": [{"_target_": f"tubelet.video.sampling.{name}"} for name in ("FirstToLast", "FirstOfEachPart")],
    "data.batch_size": ["auto"],
    "optim.clip_norm": [None, 1.0],
    "optim.base_batch": [None, 512],
    "optim.not_decayed": [[]],
    "optim.trained": [None, ["head"], ["readout", "head"]],
    "optim.schedule": [{"_target_": "tubelet.training.schedules.Steps", "epochs": [11, 14], "factors": [0.1, 0.01]}],
    "optim.schedule.epochs": [[11]],
    "optim.schedule.factors": [[0.1]],
    "trainer.max_epochs": [None],  # where trainer.max_steps ends the run
}
SIZES = ("model.", "clip.", "views.")  # whose numbers keep the sign that they have in conf/
NAMED_FREELY = {"augment", "callbacks", "logger"}  # mappings whose keys are names that the user may choose
CHOOSING = {"classes", "fraction", "fraction_seed"}  # of `data`: which part of any data set is used
ACROSS_GROUPS = {"experiment", "recipe", "sweep", "launcher"}  # whose files set keys of other groups
BESIDE_TARGET = {  # see build.py and build_data.py
    "data": {
        *("batch_size", "eval_batch_size", "num_workers", "reader", "on_error", "max_failed", "index"),
        *("time_limit", "scale_while_decoding", "frame_names", "first_frame", "repeats"),
        *CHOOSING,
    },
    "clip": {"sampling", "fps"},
    "model": STARTING_KEYS,
}


def check_keys(cfg: DictConfig, name: str, config_dir: str) -> None:
    """Raises ValueError at the first key of `cfg`, of `name`.yaml, that nothing reads or whose value is not right."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    listed = read_listed(Path(config_dir), name)
    groups = {key for entry in listed[""]["defaults"][0] if isinstance(entry, dict) for key in entry}
    of_model = {"model", "clip"} if name == "train" else set()  # an evaluation has those of its checkpoint
    top = (set(listed[""]) | groups | of_model) - {"defaults", "hydra", *ACROSS_GROUPS}
    _refuse_unknown("", plain, top)
    for key, value in plain.items():
        _check_value(key, value, listed[""].get(key, []), listed)
    if name == "train":
        _refuse_two_answers(cfg, listed)
        if cfg.dry_run and cfg.ckpt:
            raise ValueError(f"dry_run=true resumes nothing; leave out ckpt={cfg.ckpt}")


def _check_value(path: str, value: Any, examples: list, listed: Listed) -> None:
    if value == "???":
        raise ValueError(f"{path} has no value; give it on the command line: {path}=...")
    right = examples + ALSO_RIGHT.get(path, [])
    wrong = unlike(value, right, signed=path.startswith(SIZES))
    if wrong:
        within = "" if wrong[0] is value else f": {shown(wrong[0])}"
        raise ValueError(f"{path}={shown(value)}{within} {wrong[1]}{_node_meant(path, value, right)}")
    if isinstance(value, dict):
        if path in NAMED_FREELY:
            _check_entries(path, value, listed)
        else:
            _check_node(path, value, [one for one in right if isinstance(one, dict) and TARGET in one], listed)


def _check_entries(path: str, node: dict, listed: Listed) -> None:
    for key, child in node.items():
        if isinstance(child, dict) and TARGET not in child:
            raise ValueError(f"{path}.{key}: there is no such entry{nearest(key, set(node) - {key}, f'{path}.')}")
        _check_value(f"{path}.{key}", child, [*listed.get(path, {}).get(key, []), None], listed)  # null leaves it out


def _check_node(path: str, node: dict, examples: list[dict], listed: Listed) -> None:
    """examples: the nodes with a target that conf/ has in its place"""
    where = node.get(TARGET, path)
    if TARGET in node:
        _check_target(path, node, examples, listed)
    allowed = set(listed.get(where, ())) | BESIDE_TARGET.get(path, set()) | OF_HYDRA
    whole = where in listed and where.startswith(LISTED_WHOLE)
    if TARGET in node and not whole and not set(node) <= allowed:
        allowed |= _arguments(_found(path, where, []))
    if whole or allowed > OF_HYDRA:
        _refuse_unknown(path, node, allowed)
    for key, child in node.items():
        _check_value(f"{path}.{key}", child, listed.get(where, {}).get(key, []), listed)


def _check_target(path: str, node: dict, examples: list[dict], listed: Listed) -> None:
    """Of a target that conf/ does not have in this place: that it exists, and may stand there."""
    target, known = node[TARGET], sorted({example[TARGET] for example in examples})
    if not isinstance(target, str):
        raise ValueError(f"{path}.{TARGET}={shown(target)} is not the name of a class or function")
    if target not in known and target not in listed:
        found = _found(path, target, known)
        if path.partition(".")[0] == "model" and not inspect.isclass(found):
            raise ValueError(f"{path}.{TARGET}={target} is not a class; there are: {', '.join(known)}")
    modules = {name.rpartition(".")[0] for name in known}
    if target.startswith("tubelet.") and modules and target.rpartition(".")[0] not in modules:
        raise ValueError(f"{path}.{TARGET}={target} is not of {' or '.join(sorted(modules))}")
    if examples and all(example.get(PARTIAL) for example in examples) and node.get(PARTIAL) is not True:
        raise ValueError(f"{path}.{PARTIAL} must stay true: it is built later, with more arguments")


def _found(path: str, target: str, known: list[str]) -> Any:
    module, _, attribute = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        why = nearest(target, known) or f": {error}"
        raise ValueError(f"{path}.{TARGET}={target} cannot be imported{why}") from error


def _arguments(found: Any) -> set[str]:
    """Those of a target; one that takes **kwargs has only those that conf/ lists."""
    parameters = inspect.signature(found).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _node_meant(path: str, value: object, examples: list) -> str:
    """Where nodes with a target stand in conf/, and something else was given: the one with the most similar name."""
    nodes = [one for one in examples if isinstance(one, dict) and TARGET in one]
    if not nodes or isinstance(value, dict):
        return ""
    word = str(value).rpartition(".")[2]
    meant = max(nodes, key=lambda one: SequenceMatcher(None, word, one[TARGET].rpartition(".")[2]).ratio())
    return f" with a {TARGET}; did you mean '{path}={shown(meant)}'?"


def _refuse_unknown(path: str, node: dict, allowed: set[str]) -> None:
    for key in node:
        if key not in allowed:
            full = f"{path}.{key}" if path else key
            raise ValueError(
                f"{full}: there is no such key{nearest(key, allowed - OF_HYDRA, f'{path}.' if path else '')}"
            )


def _refuse_two_answers(cfg: DictConfig, listed: Listed) -> None:
    """Keys of the model that are those of the clip in conf/."""
    for key, examples in listed.get(cfg.model.get(TARGET), {}).items():
        for source in {f"clip.{part}" for part in cfg.clip if f"${{clip.{part}}}" in examples}:
            own, followed = shown(cfg.model.get(key)), shown(OmegaConf.select(cfg, source))
            if own != followed:
                raise ValueError(f"model.{key}={own}, but {source}={followed}, which it follows; type {source}={own}")


def check_overrides(cfg: DictConfig, name: str, overrides: Iterable[str]) -> None:
    """Raises ValueError where the command line sets a key that has no effect; a yaml may have it for other choices."""
    typed = {override.lstrip("+").partition("=")[0] for override in overrides}
    if name == "eval" and "data.max_failed" in typed:
        raise ValueError(
            "data.max_failed has no effect in an evaluation, which counts each failure as wrong; leave it out"
        )
    if name == "train" and "model.accept" in typed and cfg.model.accept and cfg.model.pretrained is None:
        accepted = list(cfg.model.accept)
        raise ValueError(f"model.accept={accepted} is of weights to start from; give model.pretrained too")
    if name == "train" and "clip.stride" in typed and cfg.clip.sampling[TARGET].endswith(".Segments"):
        raise ValueError(
            f"clip.stride={cfg.clip.stride} has no effect with segments, which follow the length of each video; leave "
            "it out"
        )


@cache
def read_listed(config_dir: Path, name: str) -> Listed:
    """All keys of conf/ with their values: by target, by place for nodes without one, and by "" for groups.

    The arguments of other people's targets have no values here: they may be of many kinds.
    """
    listed: Listed = {"": {key: [value] for key, value in _content(config_dir / f"{name}.yaml").items()}}
    for file in config_dir.glob("*/*.yaml"):
        if file.parent.name in ACROSS_GROUPS or (file.stem == "as_trained" and name == "train"):
            continue
        content = {key: value for key, value in _content(file).items() if key != "defaults"}
        for path, node in content.items() if file.parent.name == "model" else [(file.parent.name, content)]:
            listed[""].setdefault(path, []).append(node)
            for place, inner in _nodes(path, node):
                where = inner.get(TARGET, place)
                for key, value in inner.items():
                    values = listed.setdefault(where, {}).setdefault(key, [])
                    if where.startswith("tubelet.") or TARGET not in inner or key in ("max_epochs", "max_steps"):
                        values.append(value)
    return listed


@cache
def _content(file: Path) -> dict[str, Any]:
    """Of a file, on top of those that its defaults name beside it."""
    content = yaml.safe_load(file.read_text()) or {}
    for base in content.get("defaults", []):
        if isinstance(base, str) and base != "_self_":
            content = _over(_content(file.with_stem(base)), content)
    return content


def _over(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _over(base.get(key), value) for key, value in changes.items()}


def _nodes(path: str, node: object) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from _nodes(f"{path}.{key}", child)
