"""A search by Optuna over overrides: its space, and the points that are tried."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

REPEATS = 3  # points in a row that the sampler proposes again, after which one that was not tried is drawn
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


def overrides(trial: FrozenTrial) -> list[str]:
    return [f"{key}={value}" for key, value in trial.params.items()]
