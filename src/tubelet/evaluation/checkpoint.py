"""A checkpoint that stands alone: from the file to a model, its classes and its evaluation transform."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from tubelet.video.sampling import Dense, FirstOfEachPart, FirstToLast, Sampling, Segments, Starts
from tubelet.video.views import TestViews
from tubelet.weights.catalogue import STARTING_KEYS
from tubelet.weights.files import RECORD

DATA_SETS = {  # and of its data, only these functions are called
    "tubelet.video.annotations.read_folder",
    "tubelet.video.hmdb51.read_hmdb51",
    "tubelet.video.kinetics.read_kinetics",
    "tubelet.video.frame_lists.read_frame_list",
    "tubelet.video.lists.read_list",
    "tubelet.video.lists.read_ucf101",
    "tubelet.video.motion.read_motion",
    "tubelet.video.something.read_jester",
    "tubelet.video.something.read_ssv2",
}
# And of what chooses frames, only these classes are built.
SAMPLINGS: dict[str, Callable[..., Sampling]] = {
    f"tubelet.video.sampling.{kind.__name__}": kind for kind in (Dense, Segments)
}
STARTS: dict[str, Callable[[], Starts]] = {
    f"tubelet.video.sampling.{kind.__name__}": kind for kind in (FirstToLast, FirstOfEachPart)
}
BEFORE: dict[str, dict] = {  # what runs did whose checkpoints are from before there was a choice
    "clip": {"fps": None, "sampling": {"_target_": "tubelet.video.sampling.Dense", "_partial_": True}},
    "views": {"starts": {"_target_": "tubelet.video.sampling.FirstToLast"}},
    "data": {
        **{"classes": None, "fraction": 1.0, "repeats": 1},
        **{"scale_while_decoding": False, "frame_names": None, "first_frame": None},
    },
}
BUILDABLE = ("tubelet.models.", "tubelet.layers.", "torch.nn.")  # nothing else named in a checkpoint is imported


@dataclass
class Checkpoint:
    """config: the resolved config of the run, plain types; `clip` and `views` in it are the evaluation transform."""

    path: str
    config: dict[str, Any]
    classes: list[str]
    weights: dict[str, torch.Tensor]
    epochs: int = 0  # trained to their end
    videos: dict[str, Any] | None = None  # number and digest of the training videos; None where it is older than that

    def check_classes(self, found: Sequence[str]) -> None:
        """Raises ValueError where the data has other classes than the model was trained on, or another order."""
        pairs = list(zip_longest(self.classes, found))
        first = next((i for i, (trained, now) in enumerate(pairs) if trained != now), None)
        if first is not None:
            trained, now = (name if name is not None else "nothing" for name in pairs[first])
            raise ValueError(
                f"ckpt={self.path}: trained on {len(self.classes)} classes, the data has {len(found)}; the first that "
                f"differs is class {first}: {trained} in the checkpoint, {now} in the data"
            )

    def data(self) -> dict[str, Any]:
        """The `data` node of the config. Raises ValueError where building it would call something else."""
        node = self.config["data"]
        inner = str({key: value for key, value in node.items() if key != "_target_"})
        if node.get("_target_") not in DATA_SETS or "_target_" in inner or "${" in inner:
            named = node.get("_target_")
            raise ValueError(f"{self.path}: its config names the data set {named!r}, which is not ours; pass data=...")
        return node

    def check_sampling(self) -> None:
        """Raises ValueError where what chooses the frames is not of ours, or is given more than its name."""
        nodes = (self.config["clip"]["sampling"], SAMPLINGS), (self.config["views"]["starts"], STARTS)
        for node, ours in nodes:
            if node.get("_target_") not in ours or not set(node) <= {"_target_", "_partial_"}:
                raise ValueError(f"{self.path}: its config chooses frames by {node}, which is not ours")

    def build_views(self, num_clips: int | None = None, num_crops: int | None = None) -> TestViews:
        """The views of the run's own test, where None says so; or another number of them."""
        self.check_sampling()
        clip, views = self.config["clip"], self.config["views"]
        sampling = SAMPLINGS[clip["sampling"]["_target_"]](clip["num_frames"], clip["stride"], clip["fps"])
        starts = STARTS[views["starts"]["_target_"]]()
        num_clips = views["clips"] if num_clips is None else num_clips
        num_crops = views["crops"] if num_crops is None else num_crops
        return TestViews(sampling, clip["resize"], clip["crop"], num_clips, num_crops, starts)

    def build_model(self) -> nn.Module:
        """The trained model, in evaluation mode. Raises ValueError where the weights do not fit the config."""
        model = build_module(self.config["model"])
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise ValueError(f"{self.path}: the weights do not fit the model of its config: {error}") from error
        return model.eval()


def load_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint that a run wrote, without running any code from it. Raises FileNotFoundError or ValueError."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"ckpt={path}: there is no such file") from None
    except IsADirectoryError:
        raise ValueError(
            f"ckpt={path} is a folder; a run's checkpoints are in it: {path}/checkpoints/best.ckpt"
        ) from None
    except Exception as error:  # torch raises whatever the bytes lead to, and advises to read them without safety
        raise ValueError(f"ckpt={path} is not a checkpoint of plain tensors, or is damaged") from error
    if not isinstance(content, dict) or RECORD not in content:
        raise ValueError(f"ckpt={path} was not written by tubelet: it has no {RECORD!r} record")
    record = content[RECORD]
    prefix = "predictor.model."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] if "loops" in content else 0
    return Checkpoint(path, _completed(record["config"]), record["classes"], weights, epochs, record.get("videos"))


def _completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """With the keys that there were not when it was written."""
    done = {name: {**BEFORE[name], **node} if name in BEFORE else node for name, node in config.items()}
    if "data" in done:
        done["data"].setdefault("fraction_seed", config.get("seed", 0))
    return done


def build_module(node: dict[str, Any]) -> nn.Module:
    """{_target_: class, argument: value, ...} -> the module. Every target in it is checked before any is imported.

    What says which weights a run started from is no argument, and is left out.
    """
    _check_targets(node)
    return _build({key: value for key, value in node.items() if key not in STARTING_KEYS})


def _check_targets(node: Any) -> None:
    if isinstance(node, list):
        for child in node:
            _check_targets(child)
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and not (isinstance(target, str) and target.startswith(BUILDABLE)):
            raise ValueError(f"the checkpoint's config names {target!r}, which is not a model; it is not built")
        for child in node.values():
            _check_targets(child)


def _build(node: Any) -> Any:
    if isinstance(node, list):
        return [_build(child) for child in node]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {key: _build(value) for key, value in node.items()}
    module_name, _, class_name = node["_target_"].rpartition(".")
    found = getattr(importlib.import_module(module_name), class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"the checkpoint's config names {node['_target_']!r}, which is not a module class")
    arguments = {key: _build(value) for key, value in node.items() if key not in ("_target_", "_partial_")}
    return partial(found, **arguments) if node.get("_partial_") else found(**arguments)
