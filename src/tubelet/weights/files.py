"""A file of weights as {name: tensor}: torch's, safetensors, numpy's .npz, flax's msgpack. No code in it is run."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tubelet.weights.msgpack import unpack

RECORD = "tubelet"  # the key under which a checkpoint of ours holds what rebuilds it
MAP_BEGINS = {*range(0x80, 0x90), 0xDE, 0xDF}  # of msgpack: flax's files are one map
TORCH = (b"PK", b"\x80")  # how its files begin, zipped and as before 2020
# Under which published checkpoints hold the model, beside the optimiser and what else they have.
NESTED = ("model_state", "state_dict", "model", "module", "model_state_dict", "net")


@dataclass
class Weights:
    """settings: of JSON files beside the weights, as transformers and timm write them
    record: what a checkpoint of ours says of itself: its resolved config and its classes
    """

    state: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] | None = None


def read_weights(path: Path) -> Weights:
    """Raises ValueError, with the reason in one line, where the file is not a file of weights."""
    with open(path, "rb") as file:
        head = file.read(64)
    _refuse_other_kinds(head, path.suffix)
    if path.suffix == ".safetensors":
        return Weights(_safetensors(path), _settings(path.parent))
    if path.suffix == ".npz":
        return Weights(_numpy(path))
    if head.startswith(TORCH) or path.suffix in (".pt", ".pth", ".pyth", ".bin", ".ckpt", ".tar"):
        return _torch(path)
    if head[0] not in MAP_BEGINS:
        raise ValueError(
            "by its first bytes it is none of what is read: torch's files, safetensors, .npz, flax's msgpack"
        )
    return Weights(flattened(unpack(path.read_bytes())))


def _refuse_other_kinds(head: bytes, suffix: str) -> None:
    """Raises ValueError where the first bytes are of no file of weights, or of another kind than its name says."""
    if not head:
        raise ValueError("it is empty, of 0 bytes; download or copy it again")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError("it is a web page, not weights; download the file that the page shows")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError("it is what Git LFS leaves in the place of a file; fetch the file itself: git lfs pull")
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        line = head.decode().strip().partition("\n")[0].rstrip()
        raise ValueError(f"it is a text, not weights; it begins with {line!r}")
    safetensors = head[8:9] == b"{" and not head.startswith(b"PK")  # 8 bytes for the length of its JSON, then that
    if safetensors and suffix != ".safetensors" and head[9:10] == b'"':
        raise ValueError("it is a file of safetensors by its first bytes; give its name the ending .safetensors")
    if suffix == ".safetensors" and not safetensors:
        kind = "a file of torch, whose names end in .pt" if head.startswith(TORCH) else "something else"
        raise ValueError(f"its name says safetensors, but by its first bytes it is {kind}")
    if suffix == ".npz" and not head.startswith(b"PK"):
        raise ValueError("its name says .npz, but its first bytes are not those of one")


def _torch(path: Path) -> Weights:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # VideoMAE's keep the arguments of their script
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead to
        found = re.search(r"GLOBAL (\S+)", str(error))  # torch's own words end in the advice to run what is in it
        reason = f"it has an object of {found[1]}; save its state_dict()" if found else "it is cut, or not torch's"
        raise ValueError(f"it cannot be read as weights alone, and nothing else in a file is run: {reason}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not parameters by name")
    if RECORD in content:
        return Weights(dict(content["state_dict"]), record=content[RECORD])
    for key in NESTED:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(repr, list(content)[:8])) or "no keys at all"
        raise ValueError(
            f"it holds no parameters where they are looked for ({', '.join(NESTED)}, or by their names), but {keys}; "
            "save the one that is meant by itself"
        )
    return Weights(state, _settings(path.parent) if path.name == "pytorch_model.bin" else {})


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError("a .safetensors file needs `pip install safetensors`") from error
    try:
        return load_file(path)
    except Exception as error:  # safetensors has an error class of its own
        raise ValueError(f"it cannot be read as safetensors: {error}") from error


def _numpy(path: Path) -> dict[str, Tensor]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            read = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy and zipfile raise whatever the bytes lead to
        raise ValueError(
            "it is no whole .npz of numbers: cut, or something else, or with objects, which are not run"
        ) from error
    return {name: torch.from_numpy(array) for name, array in read.items() if array.dtype.kind == "f"}


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Nested mappings of arrays -> {"outer/inner": tensor}; what is no array of numbers is left out."""
    flat: dict[str, Tensor] = {}
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}/")
        elif isinstance(value, Tensor):
            flat[f"{prefix}{key}"] = value
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            flat[f"{prefix}{key}"] = torch.from_numpy(value.copy())
    return flat


def _settings(folder: Path) -> dict[str, Any]:
    """config.json and preprocessor_config.json of one folder, in one mapping."""
    settings: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "config.json"):
        if (folder / name).is_file():
            try:
                settings |= json.loads((folder / name).read_text())
            except (ValueError, TypeError) as error:  # TypeError: JSON, but no mapping
                raise ValueError(
                    f"{folder / name} beside it is no JSON of settings: {error}; mend or delete it"
                ) from error
    return settings
