"""A search: its space, its points, and what it does after an interruption. Needs Optuna, of the extra `search`."""

import json
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from tubelet.training.journal import open_study, report, settle, told  # noqa: E402
from tubelet.training.launch import compose_config  # noqa: E402
from tubelet.training.search import ask, batches, direction, distribution, ends, in_words, points  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
JOB = ["seed=3", "optim.lr=0.5"]
LR = {"optim.lr": FloatDistribution(1e-5, 1e-2, log=True)}


def parsed(override):
    return distribution(OverridesParser.create().parse_override(override))


def study_in(folder, space=LR, fixed=("seed=3",), go_on=False):
    return open_study(folder, space, "maximize", seed=5, at_once=1, fixed=list(fixed), go_on=go_on)


def test_the_space_is_written_in_hydras_words():
    assert parsed("a=interval(1,2.5)") == FloatDistribution(1.0, 2.5)
    assert parsed("a=tag(log,interval(1e-5,1e-2))") == FloatDistribution(1e-5, 1e-2, log=True)
    assert parsed("a=int(interval(1,8))") == IntDistribution(1, 8)
    assert parsed("a=range(2,9,3)") == IntDistribution(2, 8, step=3)  # 2, 5, 8
    assert parsed("a=choice(x,[1,2],5)") == CategoricalDistribution(["x", "[1,2]", "5"])
    assert parsed("a=range(9,2,-3)") == IntDistribution(3, 9, step=3)  # 9, 6, 3
    assert parsed("a=int(range(1.0,9.0))") == IntDistribution(1, 8)
    assert parsed("a=null,1") == CategoricalDistribution(["null", "1"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("tag(logarithmic,interval(1,2))", "tag logarithmic has no meaning in a search; there is: log"),
        ("glob(*)", "a search has no glob; choice(a,b) has the names themselves"),
        ("interval(2,1)", "an interval goes from a number up to another"),
        ("interval(1,inf)", "an interval goes from a number up to another"),
        ("int(interval(1.5,3))", "int(...) would cut its numbers to whole ones; give it such"),
        ("tag(log,int(range(1,4.5)))", "int(...) would cut its numbers to whole ones; give it such"),
        ("tag(log,interval(0,1))", "tag(log,...) is of numbers above 0, and a range in it has steps of 1"),
        ("tag(log,range(1,9,2))", "tag(log,...) is of numbers above 0, and a range in it has steps of 1"),
        ("range(1.5,3)", "a range of a search is of whole numbers; interval(a,b) is of others"),
        ("range(3,1)", "the range is empty; range(a,b,c) goes from a in steps of c, and ends before b"),
        ("range(1,9,0)", "the range is empty; range(a,b,c) goes from a in steps of c, and ends before b"),
    ],
)
def test_words_without_a_meaning_in_a_search_are_told_with_their_key_and_the_reason(words, told):
    with pytest.raises(ValueError, match=re.escape(f"optim.lr={words}: {told}") + "$"):
        parsed(f"optim.lr={words}")


@pytest.mark.parametrize(
    "words",
    ["tag(log,interval(0.5,2.5))", "interval(1e-05,2.0)", "range(1,9)", "range(2,9,3)", "choice(x,[1,2],5)", "null,2"],
)
def test_a_space_is_told_in_the_words_that_give_it(words):
    assert in_words(parsed(f"a={words}")) == words


def test_the_ends_of_a_space_have_each_word_of_a_choice_and_both_ends_of_a_range():
    space = {"a": IntDistribution(2, 7), "b": CategoricalDistribution(["x", "y", "z"])}
    assert list(ends(space)) == [["a=2", "b=x"], ["a=7", "b=y"], ["a=2", "b=z"]]


def test_a_search_that_goes_on_asks_for_other_points_in_folders_of_its_own(tmp_path):
    first = study_in(tmp_path)
    for trial in ask(first, LR, 4):
        status = "pruned" if trial.number == 1 and report_once(tmp_path) else "finished"
        run_dir = record(tmp_path / str(trial.number), status, {"val/top1": 0.25 + trial.number / 8})
        assert settle(first, trial, JOB, run_dir)
    again = study_in(tmp_path, go_on=True)
    asked = ask(again, LR, 4)
    assert [trial.number for trial in asked] == [4, 5, 6, 7]
    assert len({trial.params["optim.lr"] for trial in points(again)}) == 8
    lines = list(told(again, tmp_path))
    assert lines[0].endswith("3 finished, 1 pruned, 0 diverged, 4 failed")
    assert lines[1].startswith("best: trial 3, 0.6250 with optim.lr=")


def record(run_dir, status, best):
    run_dir.mkdir()
    (run_dir / "metrics.json").write_text(
        json.dumps({"status": status, "best": best, "overrides": JOB, "test": {"top1": 0.75}})
    )
    return run_dir


def report_once(folder):
    report(folder, 1, 1, 0.25, optuna.pruners.NopPruner())
    return True


def test_a_trial_that_was_being_asked_for_at_a_kill_is_not_run(tmp_path):
    space = {"optim.lr": LR["optim.lr"], "a": IntDistribution(1, 3)}
    study = study_in(tmp_path, space)
    first, second = ask(study, space, 2)
    for params in (second.params, {"a": 2}):  # an earlier point; not all values
        distributions = {key: space[key] for key in params}
        study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=distributions))
    assert [trial.number for trial in points(study_in(tmp_path, space, go_on=True))] == [first.number, second.number]


def test_a_trial_that_failed_or_was_lost_stays_open(tmp_path):
    study = study_in(tmp_path)
    failed, lost = ask(study, LR, 2)
    assert not settle(study, failed, JOB, record(tmp_path / "0", "failed", {}))
    assert not settle(study, lost, JOB, tmp_path / "1")
    other = record(tmp_path / "2", "finished", {"val/top1": 0.5})  # what lay in the folder before the search
    assert not settle(study, lost, ["seed=4", "optim.lr=0.5"], other)
    assert [trial.state for trial in points(study)] == [TrialState.RUNNING, TrialState.RUNNING]


def test_a_trial_that_diverged_is_a_result_worse_than_the_others(tmp_path):
    study = study_in(tmp_path)
    diverged, at_the_end, finished = ask(study, LR, 3)
    assert settle(study, diverged, JOB, record(tmp_path / "0", "diverged", {}))
    assert settle(study, at_the_end, JOB, record(tmp_path / "1", "finished", {"val/loss": None}))
    assert settle(study, finished, JOB, record(tmp_path / "2", "finished", {"val/loss": -7.0}))
    assert [trial.state for trial in points(study)] == [TrialState.PRUNED, TrialState.PRUNED, TrialState.COMPLETE]
    assert next(told(study, tmp_path)).endswith("1 finished, 0 pruned, 2 diverged, 0 failed")
    assert study.best_trial.number == 2


def test_a_search_does_not_choose_by_the_test(tmp_path):
    study = study_in(tmp_path)
    (trial,) = ask(study, LR, 1)
    with pytest.raises(ValueError, match="0 had no validation, and a search cannot choose by the test: it needs call"):
        settle(study, trial, JOB, record(tmp_path / "0", "finished", {}))
    assert study.trials[0].state == TrialState.RUNNING


def test_a_search_is_gone_on_with_only_when_asked_and_with_the_same_overrides(tmp_path):
    ask(study_in(tmp_path), LR, 1)
    with pytest.raises(ValueError, match=r"an earlier search; ckpt=last goes on with it, another hydra.sweep.dir b"):
        study_in(tmp_path)
    with pytest.raises(ValueError, match=r"had \['seed=3'\], this one has \['seed=4'\]"):
        study_in(tmp_path, fixed=["seed=4"], go_on=True)


def test_a_search_goes_on_with_the_same_words_in_another_order_and_run_in_another_way(tmp_path):
    study_in(tmp_path, fixed=["seed=3", "experiment=demo", "data.num_workers=2", "launcher=submitit_local"])
    study_in(
        tmp_path, fixed=["ckpt=last", "data.root=x", "++data.reader=pyav", "experiment=demo", "seed=3"], go_on=True
    )
    with pytest.raises(ValueError, match=r"had \[\], this one has \['data.fraction=0.5'\]"):
        study_in(tmp_path, fixed=["experiment=demo", "data.fraction=0.5", "seed=3"], go_on=True)


def test_a_search_goes_on_after_a_torn_line_and_names_a_damaged_journal(tmp_path, caplog):
    first, _ = ask(study_in(tmp_path), LR, 2)
    journal = tmp_path / "search.journal"
    journal.write_bytes(journal.read_bytes()[:-15])  # of the second trial's value
    study = study_in(tmp_path, go_on=True)
    assert "search.journal: its last line was not written whole; goes on without it" in caplog.text
    assert [trial.params for trial in points(study)] == [first.params]
    ask(study, LR, 1)
    assert len(points(study_in(tmp_path, go_on=True))) == 2
    journal.write_bytes(journal.read_bytes().replace(b"\n", b"x\n", 2))
    with pytest.raises(ValueError, match=r"search.journal is damaged, and the search cannot go on: Extra data"):
        study_in(tmp_path, go_on=True)


def test_a_search_goes_on_in_the_space_that_it_had(tmp_path):
    whole = LR | {"model.depth": IntDistribution(1, 8), "optim": CategoricalDistribution(["adamw", "sgd"])}
    ask(study_in(tmp_path, whole), whole, 1)
    study_in(tmp_path, whole, go_on=True)
    with pytest.raises(ValueError, match=r"model.depth had range\(1,9\) in the search in .* range\(1,10\); another hy"):
        study_in(tmp_path, whole | {"model.depth": IntDistribution(1, 9)}, go_on=True)
    with pytest.raises(ValueError, match=r"model.depth had range.*this one has no values to search"):
        study_in(tmp_path, LR, go_on=True)
    with pytest.raises(ValueError, match=r"seed had no values to search in .*this one has range\(0,5\)"):
        study_in(tmp_path, whole | {"seed": IntDistribution(0, 4)}, go_on=True)


@pytest.mark.parametrize(
    ("space", "num"),
    [
        ({"a": CategoricalDistribution(list("vwxyz")), "b": IntDistribution(2, 8, step=2)}, 20),
        ({"a": IntDistribution(1, 17, log=True), "b": CategoricalDistribution(["x", "x"])}, 17),
        ({"a": FloatDistribution(0.5, 0.5)}, 1),
    ],
)
def test_a_search_tries_every_point_of_a_small_space_once_and_then_ends(tmp_path, space, num):
    study = study_in(tmp_path, space)
    for _ in range(num):
        (trial,) = ask(study, space, 1)
        study.tell(trial.number, float(trial.params["a"] in ("v", 1)))  # a favourite, to which the sampler comes back
    assert ask(study, space, 2) == []
    assert len({tuple(trial.params.items()) for trial in points(study)}) == len(points(study)) == num


def test_the_best_trial_is_the_best_as_the_checkpoint_says(tmp_path):
    assert (direction("max"), direction("min")) == ("maximize", "minimize")
    with pytest.raises(ValueError, match=r"callbacks.best.mode=None: a search chooses by callbacks.best, whose mode"):
        direction(None)
    cfg = compose_config("train", ["sweep=optuna_lr", "callbacks.best.monitor=val/loss", "callbacks.best.mode=min"])
    assert cfg.callbacks.prune.monitor == "val/loss"
    study_in(tmp_path)
    with pytest.raises(ValueError, match=r"callbacks.best.mode: the search in .* was to maximize"):
        open_study(tmp_path, LR, "minimize", seed=5, at_once=1, fixed=["seed=3"], go_on=True)


def test_trials_that_run_side_by_side_are_at_different_points(tmp_path):
    space = {"a": IntDistribution(1, 13)}
    asked = ask(study_in(tmp_path, space), space, 15)
    assert sorted(trial.params["a"] for trial in asked) == list(range(1, 14))


def test_a_launch_has_trials_that_follow_each_other(tmp_path):
    trials = ask(study_in(tmp_path), LR, 7)
    chosen = [trial for trial in trials if trial.number != 2]
    assert [[trial.number for trial in batch] for batch in batches(chosen, 3)] == [[0, 1], [3, 4, 5], [6]]


def test_hydra_finds_the_sweeper():
    assert "hydra_plugins.tubelet_search.Search" in Plugins.instance().class_name_to_class


def test_a_search_has_no_dry_run(tmp_path, run_script):
    told = run_script("train.py", "sweep=optuna_lr", "dry_run=true", "hydra.sweep.dir=sweep", cwd=tmp_path, check=False)
    assert told.returncode == 1
    assert (
        told.stderr == "error: dry_run=true: a search has no figures of it to choose by; try one run, without sweep=\n"
    )
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.dept=choice(1,2)"], "model.dept: there is no such key; did you mean model.depth?"),
        (["model.depth=abc"], "model.depth=abc is not a whole number"),
        (["optim=choice(adamw,adamww)"], "optim=adamww: there is no such optim; did you mean optim=adamw?"),
    ],
)
def test_a_search_of_wrong_words_leaves_no_folder_behind(tmp_path, run_script, words, told):
    search = ["sweep=optuna_lr", "experiment=demo", "hydra.sweep.dir=sweep"]
    process = run_script("train.py", *search, *words, cwd=tmp_path, check=False)
    assert (process.returncode, process.stderr) == (1, f"error: {told}\n")
    assert not (tmp_path / "sweep").exists()
