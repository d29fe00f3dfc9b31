"""A training run, from its config to its closing summary."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from tubelet.evaluation.results import Results
from tubelet.training import build, build_data
from tubelet.training.batch_size import AUTO, find_batch_size
from tubelet.training.classifier import Classifier
from tubelet.training.data import VideoData
from tubelet.training.explain import typed
from tubelet.training.memory import forget_peak_memory, peak_memory_mib
from tubelet.training.optim import accumulation
from tubelet.training.progress import Progress
from tubelet.training.protocol import protocol
from tubelet.training.pruning import PRUNED, Pruning
from tubelet.training.ranks import children_run, is_first_rank
from tubelet.training.record import is_finished, recorded
from tubelet.training.resume import check_resumable, check_videos, load_resumed, told_videos
from tubelet.training.saving import STOPPED, OutOfTime, SaveLast
from tubelet.training.speed import check_precision, speed_up
from tubelet.training.waiting import Waiting
from tubelet.training.wandb_run import WandbRun
from tubelet.video.annotations import Catalogue
from tubelet.video.failures import error_of

log = logging.getLogger(__name__)
C = TypeVar("C", bound=L.Callback)


def train(cfg: DictConfig, overrides: list[str]) -> dict:
    """Train, test one checkpoint, write metrics.json. Returns its content."""
    catalogue = begin(cfg)
    if cfg.ckpt:
        _prepare_resume(cfg, catalogue)
    begun = {"name": cfg.name, "recipe": cfg.follows, "overrides": overrides, "resumed_from": cfg.ckpt}
    with recorded(cfg.run_dir, **begun) as record:
        trainer_of = partial(build.build_trainer, progress_bar=sys.stderr.isatty())
        classifier, data, trainer = assemble(cfg, catalogue, record, trainer_of)
        try:
            for logger in trainer.loggers:
                if not isinstance(logger, L.pytorch.loggers.CSVLogger):
                    about = {name: record[name] for name in ("overrides", "git", "versions")}
                    logger.log_hyperparams(classifier.record["config"] | about)
            with children_run("train", cfg.run_dir):
                _fit(classifier, data, trainer, cfg, record)
                if record["status"] not in (PRUNED, STOPPED):
                    _test(classifier, data, trainer, cfg, record)
            if record["status"] not in (PRUNED, STOPPED):
                conclude(trainer, classifier.results, data, Path(cfg.run_dir), record["tested"])
        finally:
            record["peak_memory_mib"] = peak_memory_mib(trainer.strategy.root_device)
            speed = one(trainer, Progress).clips_per_second
            record["clips_per_second"] = None if speed is None else round(speed, 1)
            record |= {name: round(seconds, 4) for name, seconds in one(trainer, Waiting).times.items()}
            # Of this rank alone, for a run that ended early; a finished one has counted over all ranks.
            record.setdefault("readers", dict(classifier.readers))
            record.setdefault("failures", dict(classifier.failures))
            record["quarantine"] = classifier.quarantine.told()
            close_loggers(trainer)
    if record["status"] == PRUNED:
        log.info("pruned: the search ended this trial, best %s", record["best"])
    elif record["status"] == STOPPED:
        told = "stopped: trainer.max_time=%s is over after step %d, saved and not tested; ckpt=last goes on"
        log.info(told, cfg.trainer.max_time, trainer.global_step)
    else:
        _summary(cfg, record)
    return record


def begin(cfg: DictConfig) -> Catalogue:
    """The videos of a run; their number of classes is written into the config."""
    if not 0 <= cfg.seed < 2**32:
        raise ValueError(f"seed={cfg.seed} is not from 0 to {2**32 - 1}")
    log.info("run: %s in %s", cfg.name, os.path.relpath(cfg.run_dir))
    catalogue = build_data.build_catalogue(cfg.data)
    given, cfg.model.num_classes = cfg.model.num_classes, len(catalogue.classes)
    if given not in (None, cfg.model.num_classes):
        raise ValueError(f"model.num_classes={given}, but the data has {cfg.model.num_classes} classes; leave it out")
    return catalogue


def assemble(
    cfg: DictConfig, catalogue: Catalogue, record: dict, trainer_of: Callable[[DictConfig], L.Trainer]
) -> tuple[Classifier, VideoData, L.Trainer]:
    """All that a run consists of, told at its start and noted in its record, with its config written to its folder."""
    forget_peak_memory()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    on_clips, on_batches = build_data.build_augment(cfg, catalogue.classes)
    find_size = cfg.data.batch_size == AUTO
    if find_size:  # until there is a model to try it with
        cfg.data.batch_size = 1
    data = build_data.build_training_data(cfg, catalogue, on_clips)
    predictor = build.build_predictor(cfg, len(catalogue.classes))
    record["parameters"] = sum(p.numel() for p in predictor.parameters())
    record["pretrained"] = build.start_pretrained(predictor.model, cfg, catalogue.classes)
    speed_up(predictor.model, cfg.compile, cfg.activation_checkpointing)
    trainer, optim = trainer_of(cfg), build.build(cfg.optim)
    check_precision(str(trainer.precision), trainer.strategy.root_device)
    if find_size:
        cfg.data.batch_size = data.batch_size = find_batch_size(cfg, predictor, optim, on_batches, trainer)
    build_data.check_mixing(on_batches, data.batch_size)
    at_once = data.batch_size, trainer.world_size, cfg.data.repeats
    trainer.accumulate_grad_batches = accumulation(cfg.optim.total_batch, *at_once)
    carried = {"config": build.save_config(cfg), "classes": catalogue.classes}
    carried["videos"] = told_videos(catalogue.train, cfg.data.get("root"))
    classifier = Classifier(predictor, build.build_quarantine(cfg, catalogue), optim, on_batches, carried)
    build.check_ranks(trainer, catalogue, ("val", "test"))
    _announce(cfg, catalogue, record["parameters"], trainer)
    log.info("optimiser: %s", optim.told())
    return classifier, data, trainer


def _prepare_resume(cfg: DictConfig, catalogue: Catalogue) -> None:
    """Raises ValueError before anything of the run that is resumed is touched. A batch size that it found is kept."""
    run_dir, checkpoint = Path(cfg.run_dir), load_resumed(cfg.ckpt)
    cfg.ckpt = checkpoint.path
    if cfg.data.batch_size == AUTO:
        cfg.data.batch_size = checkpoint.config["data"]["batch_size"]
    config = OmegaConf.to_container(cfg, resolve=True)
    check_resumable(checkpoint, config, catalogue.classes, is_finished(run_dir))
    check_videos(checkpoint, told_videos(catalogue.train, cfg.data.get("root")))
    keep_records(run_dir)


def _fit(classifier: Classifier, data: VideoData, trainer: L.Trainer, cfg: DictConfig, record: dict) -> None:
    try:
        trainer.fit(classifier, data, ckpt_path=cfg.ckpt, weights_only=True)
    except OutOfTime:
        record["status"] = STOPPED
    best = _best(trainer)
    record["best"] = {} if best is None else {best.monitor: best.best_model_score.item()}
    record["last_val"] = {key: value.item() for key, value in trainer.callback_metrics.items() if "val/" in key}
    if any(isinstance(callback, Pruning) and callback.pruned for callback in trainer.callbacks):
        record["status"] = PRUNED


def _best(trainer: L.Trainer) -> ModelCheckpoint | None:
    """None where no validation was run."""
    kept = (c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))
    return next((c for c in kept if c.monitor and c.best_model_score is not None), None)


def _test(classifier: Classifier, data: VideoData, trainer: L.Trainer, cfg: DictConfig, record: dict) -> None:
    # Where validation and test are the same videos, the best checkpoint was chosen on them, and its figure is too good.
    shared, best = data.catalogue.test == data.catalogue.val, _best(trainer)
    tested = one(trainer, SaveLast).path if shared or best is None else best.best_model_path
    record["tested"] = os.path.relpath(tested, cfg.run_dir)
    trainer.test(classifier, data, ckpt_path=tested, verbose=False, weights_only=True)
    record["test"] = finish_results(classifier.results, cfg, "test", data.catalogue)
    record |= classifier.counts()


def keep_records(run_dir: Path) -> None:
    """Number the records of the part before a resume, which begins new ones: metrics.1.json, ..."""
    number = 1 + sum(1 for _ in run_dir.glob("metrics.*.json"))  # one for all: not every part has a quarantine.jsonl
    for path in (run_dir / name for name in ("metrics.json", "metrics.csv", "quarantine.jsonl")):
        if path.exists() and is_first_rank():
            path.rename(path.with_name(f"{path.stem}.{number}{path.suffix}"))


def finish_results(results: Results, cfg: DictConfig, subset: str, catalogue: Catalogue) -> dict:
    """Write predictions.csv; returns what metrics.json says of the evaluation."""
    if is_first_rank():
        results.write_predictions(os.path.join(cfg.run_dir, "predictions.csv"))
    return {"protocol": protocol(cfg, subset, catalogue, len(results.videos)), **results.metrics()}


def conclude(trainer: L.Trainer, results: Results, data: VideoData, run_dir: Path, tested: str) -> None:
    """What W&B shows of the test; of no other logger."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbRun):
            logger.conclude(results, data.test_set, run_dir / "predictions.csv", run_dir / tested)


def close_loggers(trainer: L.Trainer) -> None:
    """End the W&B run of this job: without it, the next job of a multirun would write into the same one."""
    for logger in trainer.loggers:
        if hasattr(logger.experiment, "finish"):
            logger.experiment.finish(exit_code=int(sys.exc_info()[0] is not None))


def _announce(cfg, catalogue, parameters, trainer) -> None:
    counts = ", ".join(f"{len(getattr(catalogue, split))} {split}" for split in ("train", "val", "test"))
    log.info("data: %d classes, videos: %s, from %s", len(catalogue.classes), counts, cfg.data.get("root"))
    views, sampling = cfg.views, build_data.build_sampling(cfg.clip)
    told = sampling.told(build.build(views.starts))
    log.info("test: %d x %d views (clips x crops), %s", views.clips, views.crops, told)
    repeats = f" x {cfg.data.repeats} repeats" if cfg.data.repeats > 1 else ""
    at_once = f"{cfg.data.batch_size} videos{repeats} x {trainer.world_size} devices"
    log.info(
        "training: %.2f M parameters, %s, %d clips a step (%s), %s on %s",
        parameters / 1e6,
        _length(cfg.trainer),
        cfg.optim.total_batch,
        f"{at_once} x {trainer.accumulate_grad_batches} accumulated",
        cfg.trainer.precision,
        trainer.strategy.root_device,
    )


def _length(trainer: DictConfig) -> str:
    """When the run ends, in words, by the `trainer` node."""
    limits = {"step": trainer.max_steps, "epoch": -1 if trainer.max_epochs is None else trainer.max_epochs}
    told = [f"{limit} {name}{'s' * (limit != 1)}" for name, limit in limits.items() if limit >= 0]  # -1: no limit
    return " or ".join(told) + ", whichever is less" * (len(told) > 1)


def one(trainer: L.Trainer, kind: type[C]) -> C:
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))


def _summary(cfg: DictConfig, record: dict) -> None:
    test, where = record["test"], os.path.relpath(cfg.run_dir)
    log.info("")
    speed = record["clips_per_second"]
    log.info("done in %.0f s%s", record["seconds"], "" if speed is None else f", {speed:.4g} training clips/s")
    for name, value in record["best"].items():
        log.info("best %s  %.4f", name, value)
    log.info("test top-1  %.4f   top-5  %.4f   of %s", test["top1"], test["top5"], record["tested"])
    log.info("    %s", test["protocol"])
    if record["failures"]:
        unread, wrong = len({error_of(failure).path for failure in record["failures"]}), test["failures"]
        told = "unreadable videos: %d, named in %s; %d of the test, counted as wrong"
        log.warning(told, unread, record["quarantine"], wrong)
    files = ("config.yaml", "metrics.json", "metrics.csv", "predictions.csv", "quarantine.jsonl")
    written = [name for name in files if Path(cfg.run_dir, name).exists()]
    written += [f"checkpoints/{path.name}" for path in sorted(Path(cfg.run_dir, "checkpoints").glob("*.ckpt"))]
    log.info("written: %s/{%s}", where, ",".join(written))
    log.info("next:    python eval.py %s", typed("ckpt", os.path.relpath(Path(cfg.run_dir, record["tested"]))))
