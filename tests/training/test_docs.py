"""Every `python train.py ...` of the documents and of conf/ is one that runs, as far as its config goes."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import torch

from tubelet.training.build import build_model
from tubelet.training.groups import train_only
from tubelet.training.launch import compose_config

ROOT = Path(__file__).parents[2]
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "conf").rglob("*.yaml"))]


def commands():
    """What follows each, without its comment."""
    found = set()
    for path in WRITTEN:
        text = path.read_text().replace("\\\n", " ")
        for command in re.findall(r"python train\.py ([^`\n]*)", text):
            named = command.partition(" #")[0].strip().replace("model=<name>", "model=mvit_tiny")
            found.add(re.sub(r"<[^>]*>", "x", named))
    return sorted(found)


def jobs(command):
    """Of values separated by commas, the product of all, as -m makes it. What is left out (`...`) is left out."""
    words = [
        word for word in shlex.split(command) if word != "-m" and "..." not in word and not word.startswith("ckpt=")
    ]
    values = [word.partition("=")[2] for word in words]
    several = ["," in value and not re.search(r"[\[({]", value) for value in values]
    choices = [
        [f"{word.partition('=')[0]}={one}" for one in value.split(",")] if many else [word]
        for word, value, many in zip(words, values, several, strict=True)
    ]
    return itertools.product(*choices)


def test_the_commands_are_found():
    found = commands()
    assert "experiment=demo model=mvit_tiny" in found
    assert any("optim.trained=[time.readout,head]" in command and "model.pretrained" in command for command in found)
    assert len(found) > 60


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("--")])
def test_a_command_of_the_documents_has_a_right_config(command):
    for job in jobs(command):
        cfg = compose_config("train", [word for word in job if not re.search(r"=(range|interval)\(", word)])
        if cfg.optim.trained is not None:
            with torch.device("meta"):
                model = build_model(cfg.model, 5)
            train_only(model, cfg.optim.trained)
            assert {p.requires_grad for p in model.parameters()} == {True, False}
