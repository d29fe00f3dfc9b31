"""A search by Optuna over overrides: its space, and the points that are tried."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep, Sweep
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

REPEATS = 3  # points in a row that the sampler proposes again, after which one that was not tried is drawn
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Space = Mapping[str, Distribution]  # by the key of an override
optuna.logging.set_verbosity(optuna.logging.WARNING)


def distribution(override: Override) -> Distribution:
    """From Hydra's words: `interval(a,b)`, `int(interval(a,b))`, `range(a,b)` without b, `choice(a,b)`, `tag(log,...)`.

    A choice is one of its words as they were typed.
    Raises ValueError for words that have no meaning in a search, or no value.
    """
    sweep, words = override.value(), override.input_line
    if isinstance(sweep, Glob):
        raise ValueError(f"{words}: a search has no glob; choice(a,b) has the names themselves")
    log = "log" in sweep.tags
    if unknown := sweep.tags - {"log"}:
        raise ValueError(f"{words}: tag {', '.join(sorted(unknown))} has no meaning in a search; there is: log")
    if not isinstance(sweep, IntervalSweep | RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    low, high, step = _bounds(sweep, words)
    if log and (low <= 0 or step > 1):
        raise ValueError(f"{words}: tag(log,...) is of numbers above 0, and a range in it has steps of 1")
    if vars(_without_int(words)) != vars(sweep):
        raise ValueError(f"{words}: int(...) would cut its numbers to whole ones; give it such")
    if isinstance(low, int):
        return IntDistribution(low, high, log=log, step=step)
    return FloatDistribution(low, high, log=log)


def _bounds(sweep: IntervalSweep | RangeSweep, words: str) -> tuple[float, float, int]:
    """The lowest and the highest value, and the step from one to the next, which is 1 in an interval."""
    if isinstance(sweep, IntervalSweep):
        if not -math.inf < sweep.start <= sweep.end < math.inf:
            raise ValueError(f"{words}: an interval goes from a number up to another")
        return sweep.start, sweep.end, 1
    if not all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step)):
        raise ValueError(f"{words}: a range of a search is of whole numbers; interval(a,b) is of others")
    if not sweep.step or not sweep.range():
        raise ValueError(f"{words}: the range is empty; range(a,b,c) goes from a in steps of c, and ends before b")
    low, high = sorted((sweep.range()[0], sweep.range()[-1]))
    return low, high, abs(sweep.step) if low < high else 1


def _without_int(words: str) -> Sweep:
    """The same before `int`, which Hydra applies to the bounds of what is in it."""
    return OverridesParser.create().parse_override(re.sub(r"\bint\(", "float(", words)).value()


def in_words(of: Distribution) -> str:
    """Hydra's, as it could have been typed."""
    if isinstance(of, CategoricalDistribution):
        listed = ",".join(map(str, of.choices))
        return listed if "null" in of.choices else f"choice({listed})"  # no function takes null
    if isinstance(of, FloatDistribution):
        linear = f"interval({of.low},{of.high})"
    else:
        linear = f"range({of.low},{of.high + 1}{f',{of.step}' if of.step > 1 else ''})"
    return f"tag(log,{linear})" if of.log else linear


def ends(space: Space) -> Iterator[list[str]]:
    """Overrides of a few points, in which both ends of all numbers and each word of all choices occur."""
    values = {
        key: of.choices if isinstance(of, CategoricalDistribution) else (of.low, of.high) for key, of in space.items()
    }
    for place in range(max(map(len, values.values()))):
        yield [f"{key}={of_key[place % len(of_key)]}" for key, of_key in values.items()]


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


def _num_values(of: Distribution) -> float:
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
