"""From the command line to a run: composing the config, running the job, and saying in one line what went wrong.

Nothing heavy is imported here, so that --help and misspelt overrides answer at once.
"""

import logging
import os
import re
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from tubelet.training import last
from tubelet.training.alone import LOCK, Refused, alone_in, is_started_first
from tubelet.training.apart import Reported, failures_last, interrupt, run_apart
from tubelet.training.explain import one_line, root
from tubelet.training.json_files import read_json, write_json
from tubelet.training.recipes import recipes_chosen, told
from tubelet.training.validate import check_keys, check_overrides

log = logging.getLogger(__name__)


def config_dir() -> str:
    """The folder of yaml files: `conf` beside `src` in a checkout, inside the package in a wheel."""
    package = Path(__file__).parents[1]
    places = (package.parents[1] / "conf", package / "conf")
    return str(next(place for place in places if (place / "train.yaml").exists()))


def launch(name: str) -> None:
    """Compose `name`.yaml with the overrides of the command line and run it: `train` or `eval`."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands its errors to us instead of printing them
    # torch's threads would spin while they wait for each other, and take the cores from the decoding processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Clips come in memory that is new to the process; on Linux, pages of 2 MB instead of 4 KB make that cheap.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    job = {"train": _train, "eval": _evaluate}[name]
    with told_in_one_line():
        last.refuse_scattered_ranks(sys.argv[1:])
        if name == "train":
            sys.argv[1:] = last.into_the_same_folder(sys.argv[1:], config_dir())
        with recipes_chosen(), failures_last(tabled=name == "train"):
            hydra.main(version_base="1.3", config_path=config_dir(), config_name=name)(job)()


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """The config that `launch` would run, without running it."""
    with hydra.initialize_config_dir(config_dir(), version_base="1.3"), recipes_chosen():
        cfg = hydra.compose(name, list(overrides))
    check_keys(cfg, name, config_dir())
    check_overrides(cfg, name, overrides)
    return cfg


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Errors that a user can mend end the process with one line and code 1; other errors keep their traceback."""
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except Reported as reported:
        sys.exit(f"error: {reported}")
    except KeyboardInterrupt as interrupted:
        print("interrupted", file=sys.stderr)
        received = interrupted.args[0] if interrupted.args else signal.SIGINT
        sys.exit(128 + received)  # what shells expect of a process that a signal ended
    except Exception as error:
        line = one_line(error, config_dir())
        if line is None:
            raise
        sys.exit(f"error: {line}")
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def mechanism(model: str) -> str:
    """The name of the mechanism behind one of the note's numbers: its yaml begins with the mechanism's."""
    file = Path(config_dir(), "model", f"{model}.yaml")
    if not re.match(r"vivit_\d", model) or not file.exists():
        return model
    return yaml.safe_load(file.read_text())["defaults"][0]


def _train(cfg: DictConfig) -> float:
    hydra_config = HydraConfig.get()
    choices = hydra_config.runtime.choices
    cfg.name = cfg.name or f"{mechanism(choices.model)}_{choices.data}"
    if hydra_config.mode == RunMode.MULTIRUN:
        _sorted_in_wandb(cfg, Path(hydra_config.sweep.dir).name, Path(hydra_config.runtime.output_dir).name)

    def job(overrides: list[str]) -> float:
        from tubelet.training.dry_run import dry_run
        from tubelet.training.train import train

        log.info(told(cfg.follows, choices))
        if cfg.dry_run:
            return dry_run(cfg, overrides).hours
        return last.result_of(train(cfg, overrides))

    return _run(job, cfg, "train")


def _sorted_in_wandb(cfg: DictConfig, sweep: str, job: str) -> None:
    """The jobs of a sweep are one group in W&B, and have its numbers in their names, unless they were given others."""
    for logger in (cfg.logger or {}).values():
        if logger and "group" in logger:
            logger.group = logger.group or sweep
            if logger.name == cfg.name:
                logger.name = f"{cfg.name} {job}"


def _evaluate(cfg: DictConfig) -> float:
    def job(overrides: list[str]) -> float:
        from tubelet.training.evaluate import evaluate

        return evaluate(cfg, overrides)[cfg.subset]["top1"]

    return _run(job, cfg, "eval")


def _run(job: Callable[[list[str]], float], cfg: DictConfig, name: str) -> float:
    """Run one job; of a sweep, in a process of its own."""
    hydra_config = HydraConfig.get()
    cfg.run_dir = hydra_config.runtime.output_dir
    about = {"name": cfg.name, "resumed_from": cfg.ckpt} if name == "train" else {"ckpt": cfg.get("ckpt")}
    about["overrides"] = list(hydra_config.overrides.task)
    log_file = Path(cfg.run_dir, f"{hydra_config.job.name}.log")
    if hydra_config.mode != RunMode.MULTIRUN:
        return _alone(job, cfg, name, about, log_file, None)
    reported = Reported(os.path.relpath(cfg.run_dir))
    return run_apart(partial(_alone, job, cfg, name, about, log_file, reported), log_file, about, reported)


def _alone(job: Callable, cfg: DictConfig, name: str, about: dict, log_file: Path, reported: Reported | None) -> float:
    """Run one job, unless its folder is another's; that is told in a line, and nothing there is touched.

    reported: what to raise after an error; None for a single run, which ends
    """
    try:
        with alone_in(Path(cfg.run_dir)):
            if name == "eval":
                last.refuse_to_replace(Path(cfg.run_dir), about["ckpt"])
            elif reported:
                earlier = last.earlier_start(Path(cfg.run_dir), about["overrides"], cfg.ckpt)
                if earlier.over:
                    return earlier.figure
                cfg.ckpt = about["resumed_from"] = earlier.checkpoint
            return _checked(job, cfg, name, about, log_file, reported)
    except Refused as refused:
        if reported is None:
            sys.exit(f"error: {refused}")
        with open(log_file, "a") as file:  # all that is seen of a job on another machine
            file.write(f"error: {refused}\n")
        print(f"error: {refused}", file=sys.stderr)
        raise reported from refused


def _checked(
    job: Callable, cfg: DictConfig, name: str, about: dict, log_file: Path, reported: Reported | None
) -> float:
    """Run one job; what goes wrong is one line on the screen, with its traceback in the log file of the job."""
    overrides = about["overrides"]
    try:
        if reported is None:
            last.refuse_folder_of_no_sweep(HydraConfig.get().overrides.hydra)
        check_keys(cfg, name, config_dir())
        check_overrides(cfg, name, overrides)
    except ValueError as error:
        if reported is None:  # nothing was run, so nothing is left behind
            if {path.name for path in Path(cfg.run_dir).iterdir()} <= {log_file.name, LOCK}:
                shutil.rmtree(cfg.run_dir)
            sys.exit(f"error: {error}")
        _report(error, log_file, about)
        raise reported from error
    try:
        quieten()
        return job(overrides)
    except KeyboardInterrupt as interrupted:
        _record_early_end(log_file.parent, interrupted, about)
        raise
    except Exception as error:
        _report(error, log_file, about)
        if reported:
            raise reported from error
        sys.exit(1)


def _report(error: Exception, log_file: Path, about: dict[str, Any]) -> None:
    """Tell an error in a line, with its traceback in the log file, and see to it that a record of it exists.

    about: what the record of the job begins with
    """
    with open(log_file, "a") as file:
        traceback.print_exception(error, file=file)
    _record_early_end(log_file.parent, error, about)
    line = one_line(error, config_dir()) or f"{type(root(error)).__name__}: {root(error)}"
    print(f"error: {line}\n(traceback in {os.path.relpath(log_file)})", file=sys.stderr)


def _record_early_end(run_dir: Path, error: BaseException, about: dict[str, Any]) -> None:
    """metrics.json of a job that ended before it began its own; one of an earlier start of this job learns of it too.

    That of a single run to be resumed stays as it is, since its folder was chosen by hand, and maybe by mistake.
    """
    from tubelet.training.record import ended_by, recorded  # here, since it imports torch

    path = run_dir / "metrics.json"
    if not path.exists():
        with suppress(BaseException), recorded(str(run_dir), **about):
            raise error
    elif HydraConfig.get().mode == RunMode.MULTIRUN:
        record = read_json(path)
        if record["status"] not in last.OVER:
            write_json(path, record | ended_by(error))


def quieten() -> None:
    """Silence advertisements, warnings that a user of this package can do nothing about, and ranks above 0."""
    if not is_started_first():
        logging.getLogger("tubelet").setLevel(logging.ERROR)  # rank 0 tells, warnings too
    os.environ.setdefault("WANDB_SILENT", "true")
    connector = "lightning.pytorch.trainer.connectors.checkpoint_connector"
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed", connector):
        logging.getLogger(name).setLevel(logging.WARNING)
    without_use = ("many workers", "LeafSpec", "`anonymous`", "litlogger", "is not empty", "the logging interval")
    without_use += (r"module\(s\) in eval mode",)  # those that optim.trained freezes
    without_use += ("could not find the monitored key",)  # where trainer.max_steps ends a run before a validation
    for message in without_use:
        warnings.filterwarnings("ignore", f".*{message}.*")
