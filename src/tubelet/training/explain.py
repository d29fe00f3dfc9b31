"""Errors in the words of the person who typed the command: one line, the value, and the nearest right one."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tubelet.video.reader import DecodeError


def one_line(error: BaseException, config_dir: str) -> str | None:
    """What to tell of an error that a user can mend; None for any other, which deserves its traceback."""
    outer, error = error, root(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and name.startswith("submitit"):
            return f"{group}={name} needs pip install 'tubelet[submitit]'"
        return f"{group}={name}: there is no such {group}{nearest(name, error.options, f'{group}=')}"
    if isinstance(error, ConfigCompositionException) and getattr(error.__cause__, "full_key", None):
        return _unknown_key(error.__cause__, config_dir) + _of_other_data(error.__cause__)
    if isinstance(error, OverrideParseException):
        return _unreadable(error, config_dir)
    if isinstance(error, PermissionError):
        elsewhere = str(error.filename).startswith("runs")
        return f"{error}{'; runs=path/to/folder puts runs elsewhere' if elsewhere else ''}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value; give it on the command line: {error.full_key}=..."
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        why = "most often for want of memory, of which fewer data.num_workers or a smaller data.batch_size take less"
        return f"{_message(error).rstrip('. ')}; {why}"
    if isinstance(error, ValueError | OSError | DecodeError | HydraException | OmegaConfBaseException):
        return _message(error)
    called = re.search(r"target '([\w.]+)'", str(outer)) if isinstance(outer, InstantiationException) else None
    if called and isinstance(error, Exception):
        return f"{called[1]} fails with these values: {type(error).__name__}: {_message(error)}"
    return None


def _message(error: BaseException) -> str:
    """The first line; of an error in a DataLoader's process, which arrives with its traceback as text, the last one.

    Hydra breaks its sentences into lines. Python repeats a value of any length, of which the beginning is enough.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if lines[0].startswith("Caught ") and len(lines) > 1:
        return lines[-1].partition(": ")[2]
    told = " ".join(line.strip() for line in lines) if isinstance(error, HydraException) else lines[0]
    return re.sub(r"(\S{60})\S{200,}", r"\1...", told)


def _unreadable(error: OverrideParseException, config_dir: str) -> str:
    """Of an override that is none, or that Hydra takes for one with a function."""
    key, equals, value = str(error.override).partition("=")
    if not equals:
        return _without_value(key, config_dir)
    cannot, cause = f"cannot read {error.override}", error.__cause__  # a function's; other words have none
    if "NoneType" in str(cause):
        return f"{cannot}: no function takes null; a list without one does, such as {key}=null,1"
    if isinstance(cause, TypeError | ValueError):
        return f"{cannot}: {_message(cause)}"
    if unknown := re.search(r"Unknown function '(\w+)'\nAvailable: (.*)", str(cause)):
        cannot += f": there is no function {unknown[1]} among {unknown[2].replace(',', ', ')}"
    return f'{cannot}; a value with spaces or special letters needs quotes: "{key}={_quoted(value)}"'


def _quoted(value: str) -> str:
    """For Hydra: the whole, or of a list each name that needs it."""
    if re.fullmatch(r"\[.*\]", value):
        return f"[{','.join(_quoted(name.strip()) for name in value[1:-1].split(','))}]"
    plain = re.fullmatch(r"[\w.+-]+|'.*'|\".*\"", value, re.ASCII)
    return value if plain else "'{}'".format(value.replace("'", r"\'"))


def _without_value(word: str, config_dir: str) -> str:
    """Of a word that is no override, such as the name of a model alone."""
    choices = {path.stem: f"{path.parent.name}={path.stem}" for path in Path(config_dir).glob("*/*.yaml")}
    keys = yaml.safe_load(Path(config_dir, "train.yaml").read_text())
    close = [] if word in keys else difflib.get_close_matches(word, choices, n=1, cutoff=0.8)
    return f"{word} is not key=value; {f'did you mean {choices[close[0]]}?' if close else 'such as seed=1'}"


def typed(key: str, value: str) -> str:
    """An override as it can be pasted into a shell, quoted for Hydra where it must be."""
    return f"{key}={value}" if re.fullmatch(r"[\w./:+-]+", value, re.ASCII) else f"\"{key}='{value}'\""


def root(error: BaseException) -> BaseException:
    """The error that started it, without those of Hydra that only passed it on."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _unknown_key(error: OmegaConfBaseException, config_dir: str) -> str:
    """Of an override whose key the config does not have."""
    node, _, key = str(error.full_key).rpartition(".")
    known = [str(known) for known in error.parent_node or ()]
    if not node:
        known += [path.name for path in Path(config_dir).iterdir() if path.is_dir()]
    within = f"{node}." if node else ""
    return f"{error.full_key}: there is no such key{nearest(key, known, within)}"


def _of_other_data(error: OmegaConfBaseException) -> str:
    """What to do where a key is of a data set, and conf/data/as_trained.yaml stands for any of them."""
    node, _, key = str(error.full_key).rpartition(".")
    parent = error.parent_node
    if node != "data" or parent is None or "_target_" in parent or difflib.get_close_matches(key, map(str, parent)):
        return ""
    return f"; other data than those of the checkpoint need their data set too, such as data=list data.{key}=..."


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean ...?` with the closest of the known words, or a list of all where none is close."""
    names = sorted({str(name) for name in known})
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {prefix}{close[0]}?"
    return f"; there are: {', '.join(names)}" if names else ""
