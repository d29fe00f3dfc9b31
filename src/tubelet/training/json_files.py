"""Files, of JSON as a rule, that a reader never sees half. Nothing heavy is imported here, as in launch.py."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping) -> None:
    """Raises ValueError before anything is written where `content` holds what JSON cannot."""
    write_whole(path, json.dumps(finite(content), indent=2, default=str, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises ValueError that names a file that holds no JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{os.path.relpath(path)} is damaged: {error}; delete it") from error


def write_whole(path: Path, text: str) -> None:
    """Whole or not at all, also where the machine stops: a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def finite(content: Any) -> Any:
    """The same with null for what is no number, such as the loss over videos of which none could be read."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
