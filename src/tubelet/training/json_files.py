"""JSON files that a reader never sees half. Nothing heavy is imported here, as in launch.py."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping) -> None:
    """Whole or not at all: a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(finite(content), indent=2, default=str, allow_nan=False) + "\n")
    os.replace(partial, path)


def finite(content: Any) -> Any:
    """The same with null for what is no number, such as the loss over videos of which none could be read."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
