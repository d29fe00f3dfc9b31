"""From the config to objects: model, weights, trainer; the data are built in build_data.py."""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from tubelet.evaluation.predictor import Predictor
from tubelet.evaluation.whole import written_whole
from tubelet.training.explain import root
from tubelet.training.progress import Progress
from tubelet.training.quarantine import Quarantine
from tubelet.training.ranks import is_first_rank
from tubelet.training.record import run_id
from tubelet.training.saving import AtomicCheckpoints, SaveLast, TimeLimit
from tubelet.training.short_videos import ShortVideos
from tubelet.training.validate import BESIDE_TARGET
from tubelet.training.waiting import Waiting
from tubelet.video.annotations import Catalogue
from tubelet.video.transforms import Normalise
from tubelet.weights.fetch import place_without_file
from tubelet.weights.pretrained import load_pretrained

log = logging.getLogger(__name__)


def build(node: Any, **given: Any) -> Any:
    """Instantiate a node; lists and mappings reach the code as plain Python ones."""
    return instantiate(node, _convert_="all", **given)


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
        with written_whole(Path(cfg.run_dir, "config.yaml")) as path:  # tubelet table reads it while runs go on
            OmegaConf.save(OmegaConf.create(config), path)
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
            if cfg.optim.layer_decay < 1:  # which is meant for blocks that know something
                told += "; from scratch the first blocks should learn as the last: optim.layer_decay=1"
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


def _goes_on(cfg: DictConfig) -> bool:
    """Whether what the folder holds is of this run; that of a job of a sweep is, also before its first checkpoint."""
    return cfg.ckpt is not None or (HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)


def _build_logger(node: DictConfig, cfg: DictConfig) -> Logger:
    """One with an `id`, as that of W&B, has the same one in all parts of a run.

    Raises ValueError where the package of a logger is not installed.
    """
    new = "id" in node and node.id is None
    given = {"id": run_id(Path(cfg.run_dir), _goes_on(cfg))} if new else {}
    try:
        return build(node, **given)
    except InstantiationException as error:
        if not isinstance(root(error), ModuleNotFoundError):
            raise
        raise ValueError(f"logger: {node._target_.rpartition('.')[2]}: {root(error)}") from error


def build_trainer(cfg: DictConfig, progress_bar: bool) -> L.Trainer:
    """The trainer of a training run, with its callbacks and loggers."""
    loggers = [_build_logger(node, cfg) for node in (cfg.logger or {}).values() if node]
    own = (build(node) for node in (cfg.callbacks or {}).values() if node)
    callbacks = [Progress(), Waiting(), ShortVideos(), *own]
    last = next((callback for callback in callbacks if isinstance(callback, SaveLast)), None)
    if last is None:
        raise ValueError("callbacks.last is missing: without it a run leaves no checkpoint to resume from or to test")
    max_time = OmegaConf.to_container(cfg.trainer)["max_time"]
    if max_time is not None:
        callbacks.append(TimeLimit(max_time, last))
    # What others do at the end of a step or an epoch, averaging or keeping the best, belongs into its checkpoint.
    callbacks.sort(key=lambda callback: isinstance(callback, SaveLast))
    if not loggers:  # LearningRateMonitor refuses to run without one
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    return make_trainer(cfg, callbacks, loggers, progress_bar)


def _cluster() -> list[SLURMEnvironment]:
    """On SLURM, without what Lightning would do on SIGUSR1: save in the middle of a step, and resume without asking."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def make_trainer(cfg: DictConfig, callbacks: list[L.Callback], loggers: list, progress_bar: bool) -> L.Trainer:
    """What it accumulates is set by the caller, and so is what ends it when trainer.max_time is over.

    Raises ValueError where the devices are not there, or other processes were started than it has devices.
    """
    if cfg.trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={cfg.trainer.accelerator}: torch finds no GPU here; trainer=cpu trains without one, "
            "trainer=ddp_cpu on several processes"
        )
    trainer = build(
        cfg.trainer,
        logger=loggers or False,
        callbacks=callbacks,
        max_time=None,  # TimeLimit
        plugins=[AtomicCheckpoints(), *_cluster(), *(cfg.trainer.plugins or [])],
        gradient_clip_val=cfg.optim.clip_norm,
        enable_progress_bar=cfg.trainer.enable_progress_bar and progress_bar,
        enable_model_summary=False,
        # Lightning would add a ModelCheckpoint of its own where there is none.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        default_root_dir=cfg.run_dir,
        use_distributed_sampler=False,  # our samplers know the ranks
    )
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > trainer.world_size:
        raise ValueError(
            f"{started} processes were started, by torchrun perhaps, but the trainer has {trainer.world_size} devices; "
            "trainer=ddp makes them ranks of one run"
        )
    return trainer
