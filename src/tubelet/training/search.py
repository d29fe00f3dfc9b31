"""A search by Optuna over overrides. Its study is one file in the folder of the sweep, with which it can go on.

A trial whose job failed or was ended stays open, and is run again in its own folder when the search goes on. One that
diverged would do so again, and is closed.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tubelet.training.last import deciding

JOURNAL, NAME = "search.journal", "search"
DIVERGED = "diverged"  # the status of such a run, and what tells its trial from those that were pruned
REPEATS = 3  # points in a row that the sampler proposes again, after which one that was not tried is drawn
log = logging.getLogger(__name__)
Space = Mapping[str, BaseDistribution]  # by the key of an override
optuna.logging.set_verbosity(optuna.logging.WARNING)


def distribution(override: Override) -> BaseDistribution:
    """From Hydra's words: `interval(a,b)`, `int(interval(a,b))`, `range(a,b)` without b, `choice(a,b)`, `tag(log,...)`.

    A choice is one of its words as they were typed.
    """
    sweep, key = override.value(), override.key_or_group
    log = "log" in sweep.tags
    if unknown := sweep.tags - {"log"}:
        raise ValueError(f"{key}: tag {', '.join(sorted(unknown))} has no meaning in a search; there is: log")
    if isinstance(sweep, IntervalSweep):
        of = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
        return of(sweep.start, sweep.end, log=log)
    if not isinstance(sweep, RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    values = list(sweep.range())
    if not all(isinstance(value, int) for value in values):
        raise ValueError(f"{key}: a range of a search is of whole numbers; interval(a,b) is of others")
    return IntDistribution(values[0], values[-1], log=log, step=values[1] - values[0] if len(values) > 1 else 1)


def direction(mode: str | None) -> str:
    """From that of the checkpoint of the best validation, by which a search chooses."""
    directions = {"max": "maximize", "min": "minimize"}
    if mode not in directions:
        raise ValueError(f"callbacks.best.mode={mode}: a search chooses by callbacks.best, whose mode is max or min")
    return directions[mode]


def open_study(
    folder: Path, space: Space, direction: str, seed: int, at_once: int, fixed: list[str], go_on: bool
) -> optuna.Study:
    """The study of this folder. Each part of a search draws from a seed of its own, and so no points twice.

    direction: maximize or minimize; at_once: trials that run side by side; fixed: the overrides of all jobs; when it
    goes on, those that decide a result must be the same
    Raises ValueError where there is a study of something else, or one that nobody asked to go on with.
    """
    there = (folder / JOURNAL).exists()
    if there and not go_on:
        raise ValueError(f"{folder / JOURNAL} is of an earlier search; ckpt=last goes on with it")
    if there:
        _cut_torn_line(folder / JOURNAL)
    study = _load(folder, direction)
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=at_once > 1)
    if there:
        _check_same(study, folder, space, direction, fixed)
        _close_left_over(study, space)
    study.set_user_attr("space", {key: distribution_to_json(of) for key, of in space.items()})
    study.set_user_attr("fixed", sorted(deciding(fixed)))
    return study


def _cut_torn_line(journal: Path) -> None:
    """What a crash of the machine left of a last line. The next one would be written behind it, and none read again."""
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        log.warning("%s: its last line was not written whole; goes on without it", journal)
        os.truncate(journal, len(whole))


def _load(folder: Path, direction: str) -> optuna.Study:
    try:
        return optuna.create_study(storage=_storage(folder), study_name=NAME, direction=direction, load_if_exists=True)
    except ValueError as error:  # of a line that is no JSON
        raise ValueError(f"{folder / JOURNAL} is damaged, and the search cannot go on: {error}") from error


def _check_same(study: optuna.Study, folder: Path, space: Space, direction: str, fixed: list[str]) -> None:
    """Raises ValueError where the search would go on as another one."""
    before = {key: json_to_distribution(of) for key, of in study.user_attrs.get("space", {}).items()}
    for key in sorted({*before, *space}) if before else ():  # a search that was killed at its start has noted nothing
        if before.get(key) != space.get(key):
            had, has = (of.get(key, "no values to search") for of in (before, space))
            raise ValueError(f"ckpt=last: {key} had {had} in the search in {folder}, this one has {has}")
    then, now = (deciding(job) for job in (study.user_attrs.get("fixed", fixed), fixed))
    if then != now:
        raise ValueError(
            f"ckpt=last: the search in {folder} had {sorted(then - now)}, this one has {sorted(now - then)}"
        )
    if study.direction.name.lower() != direction:
        raise ValueError(f"callbacks.best.mode: the search in {folder} was to {study.direction.name.lower()}")


def _close_left_over(study: optuna.Study, space: Space) -> None:
    """Trials that a kill left while they were asked for: without all their values, or at a point of an earlier one."""
    trials = study.trials
    for trial in trials:
        repeats = any(trial.params == earlier.params for earlier in trials[: trial.number])
        if trial.state == TrialState.RUNNING and (repeats or trial.params.keys() != space.keys()):
            study.tell(trial.number, state=TrialState.FAIL)


def _storage(folder: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


def points(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but those that were never to be run: they alone are marked as failed."""
    return [trial for trial in study.trials if trial.state != TrialState.FAIL]


def ask(study: optuna.Study, space: Space, count: int) -> list[FrozenTrial]:
    """So many trials at new points; fewer where the space has no more."""
    asked: list[FrozenTrial] = []
    while len(asked) < count and len(points(study)) < num_points(space):
        asked.append(_proposed(study, space) or _drawn(study, space))
    return asked


def num_points(space: Space) -> float:
    return math.prod(_num_values(one) for one in space.values())


def _num_values(of: BaseDistribution) -> float:
    if isinstance(of, CategoricalDistribution):
        return len(set(of.choices))
    if isinstance(of, IntDistribution):
        return (of.high - of.low) // of.step + 1
    return 1 if of.single() else math.inf


def _proposed(study: optuna.Study, space: Space) -> FrozenTrial | None:
    """Where the sampler expects most. It learns nothing from having been there, and may propose a point for ever."""
    for _ in range(REPEATS):
        trial = study.ask(dict(space))
        *earlier, new = study.trials
        if all(new.params != other.params for other in earlier):
            return new
        study.tell(trial, state=TrialState.FAIL)
    return None


def _drawn(study: optuna.Study, space: Space) -> FrozenTrial:
    """Any point that was not tried, of which there must be one."""
    tried = points(study)
    draw = partial(optuna.samplers.RandomSampler(len(study.trials)).sample_independent, study, tried[0])
    params = tried[0].params
    while any(params == other.params for other in tried):
        params = {key: draw(key, of) for key, of in space.items()}
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=dict(space)))
    return study.trials[-1]


def batches(trials: Iterable[FrozenTrial], size: int) -> Iterator[list[FrozenTrial]]:
    """Trials that follow each other by number, as the jobs of one launch do."""
    batch: list[FrozenTrial] = []
    for trial in trials:
        if batch and (len(batch) == size or trial.number != batch[-1].number + 1):
            yield batch
            batch = []
        batch.append(trial)
    if batch:
        yield batch


def settle(study: optuna.Study, trial: FrozenTrial, run_dir: Path) -> bool:
    """Tell the study what the record of a job says. False where the trial stays open: it failed or was ended.

    For the sampler, what was pruned or has diverged is worse than all that finished.
    Raises ValueError for a run without a validation.
    """
    file = run_dir / "metrics.json"
    record = json.loads(file.read_text()) if file.exists() else {"status": "lost"}
    status, best = record["status"], list(record.get("best", {}).values())
    if status == "finished" and not best:
        raise ValueError(
            f"{os.path.relpath(run_dir)} had no validation, and a search cannot choose by the test: it needs "
            "callbacks.best, and a validation before the run ends"
        )
    if status == "finished" and best[0] is not None:
        study.tell(trial.number, best[0])
    elif status in ("finished", "pruned", DIVERGED):  # finished with a figure that is no number: diverged at its end
        optuna.trial.Trial(study, trial._trial_id).set_user_attr(DIVERGED, status != "pruned")
        study.tell(trial.number, state=TrialState.PRUNED)
    return status in ("finished", "pruned", DIVERGED)


def told(study: optuna.Study, folder: Path) -> Iterator[str]:
    """What came of it so far, in lines."""
    trials = points(study)
    num = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    diverged = sum(trial.user_attrs.get(DIVERGED, False) for trial in trials if trial.state == TrialState.PRUNED)
    counts = f"{num[TrialState.COMPLETE]} finished, {num[TrialState.PRUNED] - diverged} pruned, {diverged} diverged"
    counts += f", {num[TrialState.RUNNING]} failed"
    yield f"search: {len(trials)} trials in {os.path.relpath(folder)}: {counts}"
    if num[TrialState.COMPLETE]:
        best = study.best_trial
        yield f"best: trial {best.number}, {best.value:.4f} with {' '.join(overrides(best))}"


def overrides(trial: FrozenTrial) -> list[str]:
    return [f"{key}={value}" for key, value in trial.params.items()]


def report(folder: Path, number: int, step: int, value: float, pruner: optuna.pruners.BasePruner) -> bool:
    """Note the figure of a trial at a validation; whether the trial is to be ended.

    step: number of the validation, from 1 on; one that was noted before, of a resumed run, stays as it was
    """
    study = optuna.load_study(storage=_storage(folder), study_name=NAME, pruner=pruner)
    frozen = study.trials[number]
    trial = optuna.trial.Trial(study, frozen._trial_id)
    if step not in frozen.intermediate_values:
        trial.report(value, step)
    return trial.should_prune()
