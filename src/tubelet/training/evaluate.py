"""An evaluation: a checkpoint alone gives model, classes and transform."""

import logging
import os
import sys
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from tubelet.evaluation.checkpoint import Checkpoint, load_checkpoint
from tubelet.evaluation.predictor import Predictor
from tubelet.training import build
from tubelet.training.classifier import Evaluator
from tubelet.training.record import recorded
from tubelet.training.train import finish_results
from tubelet.video.transforms import Normalise

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, overrides: list[str]) -> dict:
    """Evaluate `cfg.ckpt` and write metrics.json. Returns its content."""
    with recorded(cfg.run_dir, ckpt=cfg.ckpt, overrides=overrides) as record:
        checkpoint = load_checkpoint(cfg.ckpt)
        cfg = as_trained(cfg, checkpoint)
        catalogue = build.build_catalogue(cfg.data)
        if list(catalogue.classes) != list(checkpoint.classes):
            raise ValueError(_other_classes(checkpoint.classes, catalogue.classes))
        shown = replace(catalogue, test=getattr(catalogue, cfg.subset))
        data = build.build_data(cfg, shown, augment={}, step=1)
        evaluator = Evaluator(Predictor(checkpoint.build_model(), Normalise(cfg.clip.mean, cfg.clip.std)))
        bar = cfg.trainer.enable_progress_bar and sys.stderr.isatty()
        trainer = build.build(
            cfg.trainer, logger=False, enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=bar
        )
        trainer.test(evaluator, data, verbose=False)
        record["test"] = finish_results(evaluator.results, cfg, cfg.subset, catalogue)
        record["readers"] = dict(evaluator.readers)
    test = record["test"]
    log.info("top-1  %.4f   top-5  %.4f", test["top1"], test["top5"])
    log.info("    %s", test["protocol"])
    if "within_twins" in test:
        log.info("within twin pairs  %.4f   answered with the twin  %.4f", test["within_twins"], test["answered_twin"])
    log.info("videos %d, of them unreadable %d (counted as wrong)", test["videos"], test["failures"])
    log.info("written: %s/{metrics.json,predictions.csv}", os.path.relpath(cfg.run_dir))
    return record


def as_trained(cfg: DictConfig, checkpoint: Checkpoint) -> DictConfig:
    """The evaluation's config, with the checkpoint's values wherever it says null."""
    trained = OmegaConf.create(checkpoint.config)
    merged = cfg.copy()
    OmegaConf.set_struct(merged, False)
    merged.clip = trained.clip
    for node in ("views", "data"):
        given = {key: value for key, value in cfg[node].items() if value is not None}
        merged[node] = given if "_target_" in given else OmegaConf.merge(trained[node], given)
    merged.trainer.precision = cfg.trainer.precision or trained.trainer.precision
    return merged


def _other_classes(trained: list[str], found: list[str]) -> str:
    both = zip(trained, found, strict=False)
    first = next((i for i, (a, b) in enumerate(both) if a != b), min(len(trained), len(found)))
    names = [classes[first] if first < len(classes) else "nothing" for classes in (trained, found)]
    return (
        f"the checkpoint was trained on {len(trained)} classes, the data has {len(found)}; "
        f"the first that differs is class {first}: {names[0]} in the checkpoint, {names[1]} in the data"
    )
