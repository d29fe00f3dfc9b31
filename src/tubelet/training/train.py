"""A training run, from its config to its closing summary."""

import logging
import os
import sys
from pathlib import Path

import lightning as L
from omegaconf import DictConfig, OmegaConf

from tubelet.evaluation.results import Results
from tubelet.training import build
from tubelet.training.classifier import Classifier
from tubelet.training.progress import Progress
from tubelet.training.protocol import protocol
from tubelet.training.record import recorded
from tubelet.video.annotations import Catalogue

log = logging.getLogger(__name__)


def train(cfg: DictConfig, overrides: list[str]) -> dict:
    """Train, test the best checkpoint, write metrics.json. Returns its content."""
    with recorded(cfg.run_dir, name=cfg.name, overrides=overrides) as record:
        L.seed_everything(cfg.seed, workers=True, verbose=False)
        log.info("run: %s in %s", cfg.name, os.path.relpath(cfg.run_dir))
        catalogue = build.build_catalogue(cfg.data)
        cfg.model.num_classes = len(catalogue.classes)
        data = build.build_training_data(cfg, catalogue)
        predictor = build.build_predictor(cfg, len(catalogue.classes))
        config = OmegaConf.to_container(cfg, resolve=True)
        OmegaConf.save(OmegaConf.create(config), Path(cfg.run_dir, "config.yaml"))
        classifier = Classifier(predictor, build.build(cfg.optim), {"config": config, "classes": catalogue.classes})
        trainer = build.build_trainer(cfg, progress_bar=sys.stderr.isatty())
        _announce(cfg, catalogue, predictor, trainer)
        try:
            for logger in trainer.loggers:
                if not isinstance(logger, L.pytorch.loggers.CSVLogger):
                    logger.log_hyperparams(config)
            try:
                trainer.fit(classifier, data, ckpt_path=cfg.ckpt)
            except SystemExit:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from None
            record["best"], tested = _best(trainer)
            if catalogue.test == catalogue.val:  # the best one was chosen on these very videos
                tested = str(Path(cfg.run_dir, "checkpoints", "last.ckpt"))
            record["tested"] = os.path.basename(tested)
            record["val"] = {key: value.item() for key, value in trainer.callback_metrics.items() if "val/" in key}
            trainer.test(classifier, data, ckpt_path=tested, verbose=False, weights_only=True)
            record["test"] = finish_results(classifier.results, cfg, "test", catalogue)
        finally:
            record["clips_per_second"] = round(_progress(trainer).clips_per_second, 1)
            record["readers"], record["failures"] = dict(classifier.readers), dict(classifier.failures)
            close_loggers(trainer)
    _summary(cfg, record, tested)
    return record


def finish_results(results: Results, cfg: DictConfig, subset: str, catalogue: Catalogue) -> dict:
    """Write predictions.csv; returns what metrics.json says of the evaluation."""
    results.write_predictions(os.path.join(cfg.run_dir, "predictions.csv"))
    return {"protocol": protocol(cfg, subset, catalogue), **results.metrics()}


def close_loggers(trainer: L.Trainer) -> None:
    """End the W&B run of this job: without it, the next job of a multirun would write into the same one."""
    for logger in trainer.loggers:
        if hasattr(logger.experiment, "finish"):
            logger.experiment.finish(exit_code=int(sys.exc_info()[0] is not None))


def _announce(cfg, catalogue, predictor, trainer) -> None:
    counts = ", ".join(f"{len(getattr(catalogue, split))} {split}" for split in ("train", "val", "test"))
    parameters = sum(p.numel() for p in predictor.parameters())
    log.info("data: %d classes, videos: %s, from %s", len(catalogue.classes), counts, cfg.data.get("root"))
    log.info(
        "training: %.2f M parameters, %s epochs, %d videos a step (%d x %d devices x %d accumulated), %s on %s",
        parameters / 1e6,
        trainer.max_epochs,
        cfg.optim.total_batch,
        cfg.data.batch_size,
        trainer.world_size,
        trainer.accumulate_grad_batches,
        cfg.trainer.precision,
        trainer.strategy.root_device,
    )


def _progress(trainer: L.Trainer) -> Progress:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Progress))


def _best(trainer: L.Trainer) -> tuple[dict, str]:
    """The best validation figure and its checkpoint."""
    best = next(callback for callback in trainer.checkpoint_callbacks if callback.monitor)
    return {best.monitor: best.best_model_score.item()}, best.best_model_path


def _summary(cfg: DictConfig, record: dict, tested: str) -> None:
    test, where = record["test"], os.path.relpath(cfg.run_dir)
    log.info("")
    log.info("done in %.0f s, %.0f training clips/s", record["seconds"], record["clips_per_second"])
    log.info("best validation top-1  %.4f", record["best"]["val/top1"])
    log.info("test top-1  %.4f   top-5  %.4f   of %s", test["top1"], test["top5"], record["tested"])
    log.info("    %s", test["protocol"])
    if record["failures"]:
        unread, wrong = len(record["failures"]), test["failures"]
        log.warning("unreadable videos: %d, named in metrics.json; %d of the test, counted as wrong", unread, wrong)
    log.info("written: %s/{config.yaml,metrics.json,metrics.csv,predictions.csv}, checkpoints/{best,last}.ckpt", where)
    log.info("next:    python eval.py ckpt=%s", os.path.relpath(tested))
