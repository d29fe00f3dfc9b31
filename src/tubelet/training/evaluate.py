"""An evaluation: a checkpoint alone gives model, classes and transform."""

import logging
import os
import sys
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from tubelet.evaluation.checkpoint import Checkpoint, load_checkpoint
from tubelet.evaluation.predictor import Predictor
from tubelet.training import build, build_data
from tubelet.training.classifier import Evaluator
from tubelet.training.quarantine import Quarantine
from tubelet.training.ranks import children_run
from tubelet.training.record import recorded
from tubelet.training.train import finish_results
from tubelet.video.transforms import Normalise

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, overrides: list[str]) -> dict:
    """Evaluate `cfg.ckpt` and write metrics.json. Returns its content."""
    with recorded(cfg.run_dir, ckpt=cfg.ckpt, overrides=overrides) as record:
        checkpoint = load_checkpoint(cfg.ckpt)
        cfg = as_trained(cfg, checkpoint)
        if cfg.subset not in ("train", "val", "test"):
            raise ValueError(f"subset={cfg.subset} is not train, val or test")
        catalogue = build_data.build_catalogue(cfg.data, (cfg.subset,), trained_on=())
        checkpoint.check_classes(catalogue.classes)
        shown = replace(catalogue, test=getattr(catalogue, cfg.subset))
        data = build_data.build_data(cfg, shown, augment={}, step=1)
        predictor = Predictor(checkpoint.build_model(), Normalise(cfg.clip.mean, cfg.clip.std))
        quarantine = Quarantine(cfg.run_dir, len(shown.test), max_failed=1.0)  # each failure counts as wrong instead
        evaluator = Evaluator(predictor, quarantine, tested=cfg.subset)
        bar = cfg.trainer.enable_progress_bar and sys.stderr.isatty()
        trainer = build.build(
            cfg.trainer,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
            use_distributed_sampler=False,  # our samplers know the ranks
        )
        build.check_ranks(trainer, shown, ("test",))
        build.save_config(cfg)
        with children_run("eval", cfg.run_dir):
            trainer.test(evaluator, data, verbose=False)
            record |= {**evaluator.counts(), "quarantine": quarantine.told()}
        record[cfg.subset] = finish_results(evaluator.results, cfg, cfg.subset, catalogue)
    test = record[cfg.subset]
    log.info("top-1  %.4f   top-5  %.4f", test["top1"], test["top5"])
    log.info("    %s", test["protocol"])
    if test.get("within_twins") is not None:
        log.info("within twin pairs  %.4f   answered with the twin  %.4f", test["within_twins"], test["answered_twin"])
    named = f", named in {record['quarantine']}" if test["failures"] else ""
    log.info("videos %d, of them unreadable %d (counted as wrong)%s", test["videos"], test["failures"], named)
    log.info("written: %s/{metrics.json,predictions.csv}", os.path.relpath(cfg.run_dir))
    return record


def as_trained(cfg: DictConfig, checkpoint: Checkpoint) -> DictConfig:
    """The evaluation's config, with the checkpoint's values wherever it says null."""
    trained = OmegaConf.create(checkpoint.config)
    checkpoint.check_sampling()
    if "_target_" not in cfg.data:
        checkpoint.data()  # nothing that the file names is called unchecked
    merged = cfg.copy()
    OmegaConf.set_struct(merged, False)
    merged.clip = trained.clip
    for node in ("views", "data"):
        if "_target_" not in cfg[node]:  # data=as_trained, and views
            given = {key: value for key, value in cfg[node].items() if value is not None}
            merged[node] = OmegaConf.merge(trained[node], given)
    merged.trainer.precision = cfg.trainer.precision or trained.trainer.precision
    if cfg.order not in (None, "frozen") and cfg.frozen_at is None:
        merged.frozen_at = 0  # that of the training goes with its order only
    for key in ("order", "frozen_at", "seed"):
        merged[key] = trained[key] if merged[key] is None else merged[key]
    return merged
