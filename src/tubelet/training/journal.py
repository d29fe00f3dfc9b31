"""The study of a search: one file in the folder of the sweep, with which it can go on, and what came of its trials.

A trial whose job failed or was ended stays open, and is run again in its own folder when the search goes on. One that
diverged would do so again, and is closed.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tubelet.training.json_files import read_json
from tubelet.training.last import deciding
from tubelet.training.search import Space, in_words, overrides, points

log = logging.getLogger(__name__)
JOURNAL, NAME = "search.journal", "search"
ANOTHER = "another hydra.sweep.dir begins a new one"
DIVERGED = "diverged"  # the status of such a run, and what tells its trial from those that were pruned


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
        raise ValueError(f"{folder / JOURNAL} is of an earlier search; ckpt=last goes on with it, {ANOTHER}")
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
    before: dict[str, Any] = {key: json_to_distribution(of) for key, of in study.user_attrs.get("space", {}).items()}
    for key in sorted({*before, *space}) if before else ():  # a search that was killed at its start has noted nothing
        if before.get(key) != space.get(key):
            had, has = (in_words(of[key]) if key in of else "no values to search" for of in (before, space))
            raise ValueError(f"ckpt=last: {key} had {had} in the search in {folder}, this one has {has}; {ANOTHER}")
    then, now = (deciding(job) for job in (study.user_attrs.get("fixed", fixed), fixed))
    if then != now:
        raise ValueError(
            f"ckpt=last: the search in {folder} had {sorted(then - now)}, this one has {sorted(now - then)}; {ANOTHER}"
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


def settle(study: optuna.Study, trial: FrozenTrial, job: Sequence[str], run_dir: Path) -> bool:
    """Tell the study what the record of a job says. False where the trial stays open: it failed or was ended.

    job: its overrides; a record of another job is none of it

    For the sampler, what was pruned or has diverged is worse than all that finished.
    Raises ValueError for a run without a validation.
    """
    file = run_dir / "metrics.json"
    record = read_json(file) if file.exists() else {}
    if deciding(record.get("overrides", [])) != deciding(job):
        return False
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
