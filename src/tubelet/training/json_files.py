"""JSON files. Nothing heavy is imported here, as in launch.py."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tubelet.evaluation.whole import written_whole


def write_json(path: Path, content: Mapping) -> None:
    """Raises ValueError before anything is written where `content` holds what JSON cannot."""
    text = json.dumps(finite(content), indent=2, default=str, allow_nan=False) + "\n"
    with written_whole(path) as partial:
        partial.write_text(text)


def read_json(path: Path) -> Any:
    """Raises ValueError that names a file that holds no JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{os.path.relpath(path)} is damaged: {error}; delete it") from error


def finite(content: Any) -> Any:
    """The same with null for what is no number, such as the loss over videos of which none could be read."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
