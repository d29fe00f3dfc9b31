"""Hydra's side of a search: a sweeper that asks tubelet.training.search for points and runs a job for each.

Hydra finds sweepers in this namespace only, and imports all of it at every start, so Optuna is imported when used.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)
LAST = "ckpt=last"
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="tubelet_search",
    node={
        "_target_": f"{__name__}.Search",
        "trials": 20,
        "at_once": 1,
        "seed": 0,
        "params": {},
    },
)


class Search(Sweeper):
    """trials: in total, those of earlier parts of the search among them

    at_once: trials that the launcher gets at a time
    params: what is searched, by key, in Hydra's words for sweeps; a value on the command line replaces it
    """

    def __init__(self, params: dict[str, str], trials: int, at_once: int, seed: int):
        if trials < 1 or at_once < 1:
            raise ValueError(f"hydra.sweeper: trials={trials} and at_once={at_once} must be at least 1")
        self.params, self.trials, self.at_once, self.seed = params, trials, at_once, seed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config, self.task_function = hydra_context, config, task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        try:
            from tubelet.training import journal, search
        except ImportError as error:
            raise ValueError(f"a search needs Optuna: pip install 'tubelet[search]' ({error})") from error
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        typed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        chosen = {override.get_key_element(): override for override in typed}
        space = {key: search.distribution(one) for key, one in chosen.items() if one.is_sweep_override()}
        fixed = [str(one.input_line) for one in chosen.values() if not one.is_sweep_override()]
        if not space:
            raise ValueError(
                "hydra.sweeper.params has nothing to search; such as optim.lr: tag(log,interval(1e-5,1e-2))"
            )
        if self.config.dry_run:
            raise ValueError("dry_run=true: a search has no figures of it to choose by; try one run, without sweep=")
        self._refuse_wrong(fixed, space)
        direction = search.direction(OmegaConf.select(self.config, "callbacks.best.mode"))
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        study = journal.open_study(folder, space, direction, self.seed, self.at_once, fixed, LAST in fixed)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        failed = [one for batch in self._batches(study, space) for one in self._run(study, batch, fixed)]
        for line in journal.told(study, folder):
            log.info(line)
        for result in failed:
            _ = result.return_value  # raises its error
        return failed

    def _refuse_wrong(self, fixed: list[str], space: dict) -> None:
        """Before a study is opened, which would stay in the folder and keep the search that was meant out of it.

        Raises ValueError, or an error of Hydra, where a job at the ends of the space would have a wrong key or value.
        """
        from tubelet.training import search
        from tubelet.training.launch import config_dir
        from tubelet.training.validate import check_keys, check_overrides

        for words in search.ends(space):
            job = self.hydra_context.config_loader.load_sweep_config(self.config, [*fixed, *words])
            with open_dict(job):
                name = job.pop("hydra").job.config_name
            check_keys(job, name, config_dir())
            check_overrides(job, name, [*fixed, *words])

    def _batches(self, study: "optuna.Study", space: dict) -> Iterator[list["FrozenTrial"]]:
        """First the trials that are open, then new ones."""
        from tubelet.training import search

        opened = [trial for trial in search.points(study) if not trial.state.is_finished()]
        yield from search.batches(opened, self.at_once)
        while (left := self.trials - len(search.points(study))) > 0:
            asked = search.ask(study, space, min(left, self.at_once))
            if not asked:
                log.info("every point of the space is tried; %d trials are left out", left)
                return
            yield from search.batches(asked, self.at_once)

    def _run(self, study: "optuna.Study", batch: list["FrozenTrial"], fixed: list[str]) -> list[JobReturn]:
        """The jobs whose trials stay open."""
        from tubelet.training import journal, search

        jobs = [[*fixed, *search.overrides(trial)] for trial in batch]
        self.validate_batch_is_legal(jobs)
        results = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
        failed = []
        for trial, job, result in zip(batch, jobs, results, strict=True):
            if not journal.settle(study, trial, job, Path(self.config.hydra.sweep.dir, str(trial.number))):
                failed.append(result)
        return failed
