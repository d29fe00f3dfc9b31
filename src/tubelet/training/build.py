"""From the config to objects: data, model, optimiser, trainer."""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import get_method, instantiate
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from tubelet.evaluation.predictor import Predictor
from tubelet.training.data import VideoData
from tubelet.training.progress import Progress
from tubelet.training.quarantine import Quarantine
from tubelet.training.ranks import is_first_rank
from tubelet.training.record import run_id
from tubelet.training.saving import AtomicCheckpoints, SaveLast
from tubelet.training.short_videos import ShortVideos
from tubelet.training.validate import BESIDE_TARGET, CHOOSING
from tubelet.training.waiting import Waiting
from tubelet.video.annotations import Catalogue
from tubelet.video.disk import leave_out_missing
from tubelet.video.doubts import tell_doubts, tell_frames_before
from tubelet.video.flips import with_true_labels
from tubelet.video.index import find_index, read_entries
from tubelet.video.known import KnownVideos, count_changed
from tubelet.video.mixing import Mix, OnBatch
from tubelet.video.sampling import FirstToLast, Sampling, order_named
from tubelet.video.subset import class_list, take_classes, take_fraction
from tubelet.video.transforms import Normalise
from tubelet.video.views import TestViews, TrainingView
from tubelet.weights.fetch import place_without_file
from tubelet.weights.pretrained import load_pretrained

log = logging.getLogger(__name__)
LOADING = BESIDE_TARGET["data"] - CHOOSING  # keys of `data` that say how videos are loaded; others say which there are


def build(node: Any, **given: Any) -> Any:
    """Instantiate a node; lists and mappings reach the code as plain Python ones."""
    return instantiate(node, _convert_="all", **given)


def listed_catalogue(data: DictConfig) -> Catalogue:
    """All videos of the classes taken, on disk or not.

    `data` holds the arguments of its `_target_`, which lists the videos, beside those of the loaders. Those that say
    which part of it is used may be arguments as well: class folders are listed by `classes`. A `~` before a path, which
    shells leave alone behind a `=`, is replaced in `data` itself: the record of a run holds whole paths.
    """
    for key, value in data.items():
        if isinstance(value, str) and value.startswith("~/"):
            data[key] = os.path.expanduser(value)
    taken = inspect.signature(get_method(data["_target_"])).parameters
    classes = class_list(data.get("classes"))
    given = {key: value for key, value in data.items() if key in taken or key not in BESIDE_TARGET["data"]}
    catalogue = build(given | ({"classes": classes} if "classes" in taken else {}))
    return catalogue if classes is None else take_classes(catalogue, classes)


def build_catalogue(
    data: DictConfig, needed: Sequence[str] = ("train", "val", "test"), trained_on: Sequence[str] = ("train",)
) -> Catalogue:
    """The videos to train or to evaluate on.

    needed: the splits that will be read; trained_on: those that do without what is not on disk, as in `disk.py`
    Raises ValueError or FileNotFoundError where they lack what is asked for.
    """
    listed = listed_catalogue(data)
    _refuse_wrong_labels(listed)
    catalogue = take_fraction(listed, data.get("fraction", 1.0), data.get("fraction_seed"))
    catalogue = leave_out_missing(catalogue, needed, data["on_error"], data.get("root"), trained_on)
    for split in needed:
        if not getattr(catalogue, split):
            raise ValueError(f"data.root={data.get('root')}: the {split} split holds no video")
    tell_doubts(catalogue, needed)
    return catalogue


def _refuse_wrong_labels(catalogue: Catalogue) -> None:
    wrong = catalogue.wrong_labels()
    if wrong:
        path, what = next(iter(wrong.items()))
        others = f"; {len(wrong) - 1} more: tubelet scan names all wrong labels" if len(wrong) > 1 else ""
        raise ValueError(f"{what} ({path}){others}")


def build_sampling(clip: DictConfig) -> Sampling:
    return build(clip.sampling)(num_frames=clip.num_frames, stride=clip.stride, fps=clip.fps)


def build_augment(cfg: DictConfig, classes: Sequence[str]) -> tuple[dict[str, nn.Module], list[OnBatch]]:
    """The augmentations of a clip, by name, in the workers; and those of a batch, on the device."""
    built = {key: build(node) for key, node in cfg.augment.items() if node is not None}
    on_batch = {key: one for key, one in built.items() if isinstance(one, OnBatch)}
    mixed = next((key for key, one in on_batch.items() if isinstance(one, Mix) and one.p > 0), None)
    if mixed and cfg.data.batch_size == 1:
        raise ValueError(f"augment.{mixed}: with data.batch_size=1 there is no other video to mix with; leave it out")
    on_clip = {key: one for key, one in built.items() if key not in on_batch}
    return with_true_labels(on_clip, classes), list(on_batch.values())


def build_data(cfg: DictConfig, catalogue: Catalogue, augment: Mapping[str, nn.Module], step: int) -> VideoData:
    """augment: of the clips; step: videos of one optimiser step"""
    order, clip, sampling = order_named(cfg.order, cfg.frozen_at), cfg.clip, build_sampling(cfg.clip)
    if not isinstance(clip.crop, int):
        raise ValueError(f"clip.crop={clip.crop}: videos are cropped to squares; give one number of pixels")
    training = TrainingView(sampling, augment, cfg.data.repeats)
    validation = TestViews(sampling, clip.resize, clip.crop, num_clips=1, num_crops=1, starts=FirstToLast())
    test = TestViews(sampling, clip.resize, clip.crop, cfg.views.clips, cfg.views.crops, build(cfg.views.starts))
    # What is left of `data`: max_failed is not about loading, but about what becomes of failures.
    loading = {key: value for key, value in cfg.data.items() if key in LOADING - {"max_failed", "repeats"}}
    loading["index"] = read_known(cfg.data, catalogue)
    built = VideoData(catalogue, training, validation, test, order, cfg.seed, step, **loading)
    if loading.get("first_frame") is not None:
        tell_frames_before(catalogue, loading["frame_names"], loading["first_frame"])
    return built


def read_known(data: DictConfig, catalogue: Catalogue) -> KnownVideos:
    """What the index says of the catalogue's videos; nothing where there is no index.

    Whether an entry is current is asked when its video is loaded; here only of some, to tell of an index that is old.
    Raises FileNotFoundError or ValueError.
    """
    file = find_index(data.root, data.get("index"))  # configs of older checkpoints have no such key
    if file is None:
        return KnownVideos()
    paths = (os.path.abspath(path) for path, _ in (*catalogue.train, *catalogue.val, *catalogue.test))
    places = dict.fromkeys(paths)
    known = KnownVideos(entry for entry in read_entries(file) if entry.path in places)
    log.info("index: %d of %d videos are in %s", len(known), len(places), os.path.relpath(file))
    changed, asked = count_changed(known, list(places))
    if changed:
        told = (
            "index: %d of %d files asked for have changed since, and are read as without it; `tubelet scan` renews it"
        )
        log.warning(told, changed, asked)
    return known


def build_training_data(cfg: DictConfig, catalogue: Catalogue, augment: Mapping[str, nn.Module]) -> VideoData:
    """Raises ValueError where not one optimiser step can be made of the training videos."""
    total, repeats, num_videos = cfg.optim.total_batch, cfg.data.repeats, len(catalogue.train)
    if num_videos < total // repeats:
        clips = num_videos * repeats
        raise ValueError(
            f"optim.total_batch={total} is more than the {clips} clips of {num_videos} training videos; "
            f"set it to at most {clips}, with a data.batch_size that divides it"
        )
    return build_data(cfg, catalogue, augment, step=max(total // repeats, 1))


def build_quarantine(cfg: DictConfig, catalogue: Catalogue) -> Quarantine:
    """Of a training run; a video that is listed twice is one that can fail."""
    return Quarantine(cfg.run_dir, len({video.path for video in catalogue.train}), cfg.data.max_failed)


def check_ranks(trainer: L.Trainer, catalogue: Catalogue, evaluated: Sequence[str]) -> None:
    """Raises ValueError where a rank would have no video to evaluate; before any further process is started."""
    for split in evaluated:
        num_videos = len(getattr(catalogue, split))
        if num_videos < trainer.world_size:
            raise ValueError(f"trainer.devices: {trainer.world_size} ranks, but only {num_videos} {split} videos")


def save_config(cfg: DictConfig) -> dict[str, Any]:
    """Write the resolved config to the run's folder; returns it as plain types."""
    config = OmegaConf.to_container(cfg, resolve=True)
    if is_first_rank():
        OmegaConf.save(OmegaConf.create(config), Path(cfg.run_dir, "config.yaml"))
    return config


def build_model(node: Mapping, num_classes: int) -> nn.Module:
    """`model` holds the arguments of its `_target_`, beside what says which weights it starts from."""
    arguments = {key: value for key, value in node.items() if key not in BESIDE_TARGET["model"]}
    return build(arguments, num_classes=num_classes)


def start_pretrained(model: nn.Module, cfg: DictConfig, classes: list[str]) -> dict[str, Any] | None:
    """Give the model the weights that model.pretrained names, tell what became of each; returns that for metrics.json.

    A resumed run has its weights from its checkpoint, and starts from nothing else.
    """
    if cfg.model.pretrained is None or cfg.ckpt:
        return None
    node = OmegaConf.to_container(cfg.model, resolve=True)
    if cfg.dry_run or not cfg.model.weights_required:
        place = place_without_file(cfg.model.pretrained, node)
        if place:
            told = "weights: model.pretrained=%s is not on this machine: trained from scratch; the file belongs at %s"
            log.warning(told, cfg.model.pretrained, place)
            return {"name": cfg.model.pretrained, "absent": str(place)}
    account = load_pretrained(model, node, cfg.clip, classes)
    log.info("weights: model.pretrained=%s", cfg.model.pretrained)
    for line in account.lines():
        log.info("  %s", line)
    return {"name": cfg.model.pretrained, **account.record()}


def build_predictor(cfg: DictConfig, num_classes: int) -> Predictor:
    model = build_model(cfg.model, num_classes)
    log.info("model: %s", inspect.getdoc(type(model)).split("\n")[0])
    return Predictor(model, Normalise(cfg.clip.mean, cfg.clip.std))


def _build_logger(node: DictConfig, cfg: DictConfig) -> Logger:
    """One with an `id`, as that of W&B, has the same one in all parts of a run."""
    if "id" not in node or node.id is not None:
        return build(node)
    return build(node, id=run_id(Path(cfg.run_dir), resumed=cfg.ckpt is not None))


def build_trainer(cfg: DictConfig, progress_bar: bool) -> L.Trainer:
    """The trainer of a training run, with its callbacks and loggers."""
    loggers = [_build_logger(node, cfg) for node in (cfg.logger or {}).values() if node]
    for logger in loggers:  # Lightning always hands W&B this argument, and W&B warns that it has no effect
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)
    own = (build(node) for node in (cfg.callbacks or {}).values() if node)
    callbacks = [Progress(), Waiting(), ShortVideos(), *own]
    # What others do at the end of a step, such as averaging, belongs into the checkpoint of that step.
    callbacks.sort(key=lambda callback: isinstance(callback, SaveLast))
    if not any(isinstance(callback, SaveLast) for callback in callbacks):
        raise ValueError("callbacks.last is missing: without it a run leaves no checkpoint to resume from or to test")
    if not loggers:  # LearningRateMonitor refuses to run without one
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    return make_trainer(cfg, callbacks, loggers, progress_bar)


def make_trainer(cfg: DictConfig, callbacks: list[L.Callback], loggers: list, progress_bar: bool) -> L.Trainer:
    """What it accumulates is set by the caller."""
    return build(
        cfg.trainer,
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints(), *(cfg.trainer.plugins or [])],
        gradient_clip_val=cfg.optim.clip_norm,
        enable_progress_bar=cfg.trainer.enable_progress_bar and progress_bar,
        enable_model_summary=False,
        # Lightning would add a ModelCheckpoint of its own where there is none.
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        default_root_dir=cfg.run_dir,
        use_distributed_sampler=False,  # our samplers know the ranks
    )
