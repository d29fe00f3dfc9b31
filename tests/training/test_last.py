"""Where a run goes on: which folder and checkpoint `ckpt=last` means, and at which video of the epoch."""

import json
import math
import os
from itertools import product

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from tubelet.training import build
from tubelet.training.alone import Refused
from tubelet.training.last import (
    earlier_start,
    into_the_same_folder,
    refuse_scattered_ranks,
    refuse_to_replace,
    result_of,
)
from tubelet.training.launch import config_dir
from tubelet.training.record import run_id
from tubelet.training.resume import load_resumed, recount


def checkpoint(folder, name, modified):
    file = folder / "checkpoints" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (modified, modified))
    return file


def test_ckpt_last_is_the_newest_run_of_the_same_model_and_data_and_goes_on_in_its_folder(tmp_path):
    runs = tmp_path / "runs"
    for folder, modified in (
        ("a/1", 5),
        ("mvit_tiny_motion/1", 3),
        ("mvit_tiny_motion/2", 4),
        ("mvit_tiny_motion/3", 2),
    ):
        checkpoint(runs / folder, "last.ckpt", modified)
    overrides = ["experiment=demo", "model=mvit_tiny", f"runs={runs}"]
    newest = runs / "mvit_tiny_motion/2"
    expected = [*overrides, f"run_dir='{newest}'", f"ckpt='{newest}/checkpoints/last.ckpt'"]
    assert into_the_same_folder([*overrides, "ckpt=last"], config_dir()) == expected
    checkpoint(runs / "mvit_tiny_motion/4", "previous.ckpt", 6)  # killed between two moves
    assert into_the_same_folder([*overrides, "ckpt=last"], config_dir())[-1] == (
        f"ckpt='{runs}/mvit_tiny_motion/4/checkpoints/previous.ckpt'"
    )


def test_ckpt_last_of_a_given_folder_is_that_of_the_folder(tmp_path):
    run = f"run_dir={tmp_path}"
    with pytest.raises(FileNotFoundError, match=f"ckpt=last: there is no {tmp_path}/checkpoints/last.ckpt"):
        into_the_same_folder([run, "ckpt=last"], config_dir())
    file = checkpoint(tmp_path, "last.ckpt", 1)
    assert into_the_same_folder([run, "ckpt=last"], config_dir()) == [run, f"ckpt='{file}'"]


def test_a_checkpoint_that_is_not_there_is_an_error_before_a_folder_is_made_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ckpt=typo/checkpoints/last\.ckpt: there is no such file"):
        into_the_same_folder(["ckpt=typo/checkpoints/last.ckpt"], config_dir())
    assert list(tmp_path.iterdir()) == []


def test_ckpt_last_without_a_run_says_where_it_looked(tmp_path, run_script):
    told = run_script("train.py", "experiment=demo", "ckpt=last", cwd=tmp_path, check=False)
    assert told.returncode == 1
    assert told.stderr == "error: ckpt=last: there is no runs/vivit_joint_tiny_motion/*/checkpoints/last.ckpt\n"


def test_a_sweep_goes_on_in_its_folder_which_must_be_given(tmp_path):
    with pytest.raises(ValueError, match=r"a sweep goes on in its folder; give hydra.sweep.dir=runs/sweep/... too"):
        into_the_same_folder(["-m", "seed=0,1", "ckpt=last"], config_dir())
    for there in ("grid/multirun.yaml", "search/search.journal", "copied/3/metrics.json"):
        (tmp_path / there).parent.mkdir(parents=True)
        (tmp_path / there).touch()
        arguments = ["-m", "seed=0,1", "ckpt=last", f"hydra.sweep.dir={tmp_path / there.partition('/')[0]}"]
        assert into_the_same_folder(arguments, config_dir()) == arguments


@pytest.mark.parametrize("kind", ["-m", "sweep=optuna_lr"])
def test_a_sweep_does_not_go_on_in_a_mistyped_folder(kind, tmp_path):
    (tmp_path / "runs/2026-11-26").mkdir(parents=True)
    (tmp_path / "runs/2026-11-26/metrics.json").touch()  # of a single run
    for folder in ("typo", "runs"):
        told = f"^ckpt=last: there is no sweep in hydra.sweep.dir={tmp_path / folder}; leave ckpt out to begin it$"
        with pytest.raises(FileNotFoundError, match=told):
            into_the_same_folder([kind, "ckpt=last", f"hydra.sweep.dir='{tmp_path / folder}'"], config_dir())


def record(folder, **content):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(content))


def test_a_job_of_a_sweep_goes_on_where_it_was_and_a_finished_one_gives_what_it_gave(tmp_path):
    def earlier(folder):
        return earlier_start(tmp_path / folder, ["seed=1", "ckpt=last"], "last")

    assert (earlier("0").over, earlier("0").checkpoint) == (False, None)
    record(tmp_path / "1", status="running", overrides=["seed=1"])
    assert (earlier("1").over, earlier("1").checkpoint) == (False, None)
    file = checkpoint(tmp_path / "1", "last.ckpt", 1)
    assert (earlier("1").over, earlier("1").checkpoint) == (False, str(file))
    finished = {"status": "finished", "overrides": ["seed=1"], "test": {"top1": 0.25}}
    record(tmp_path / "2", **finished, best={"val/top1": 0.5})
    assert earlier("2") == (True, 0.5, None)
    record(tmp_path / "3", **finished, best={})
    record(tmp_path / "4", **finished, best={"val/loss": None})
    for folder in ("3", "4"):  # of none the figure of the test
        assert earlier(folder).over
        assert math.isnan(earlier(folder).figure)
    stopped = {"status": "stopped", "overrides": ["seed=1"], "best": {"val/top1": 0.5}}
    record(tmp_path / "1", **stopped)
    assert (earlier("1").over, earlier("1").checkpoint) == (False, str(file))
    assert math.isnan(result_of(stopped))  # a search leaves its trial open
    with pytest.raises(Refused, match=r"3 had \['seed=1'\], this one has \['seed=2'\]"):
        earlier_start(tmp_path / "3", ["seed=2", "ckpt=last"], "last")


def test_a_job_of_a_sweep_goes_on_with_another_launcher_reader_or_order_of_words(tmp_path):
    then = ["seed=1", "optim.lr=0.1", "data.num_workers=4", "data.root=a", "trainer.max_time=00:01:00:00"]
    record(tmp_path / "0", status="interrupted", overrides=then)
    now = ["optim.lr=0.1", "launcher=slurm", "hydra.launcher.mem_gb=9", "seed=1", "ckpt=last", "data.num_workers=2"]
    assert not earlier_start(tmp_path / "0", now, "last").over
    told = r"had \['optim.lr=0.1'\], this one has \['data.fraction=0.5', 'optim.lr=0.2'\]"
    with pytest.raises(Refused, match=told):
        earlier_start(tmp_path / "0", ["optim.lr=0.2", "seed=1", "data.fraction=0.5", "ckpt=last"], "last")


def test_a_grid_grows_by_its_first_key_and_otherwise_trains_nothing_twice(tmp_path):
    def jobs(rates, seeds):
        swept = product(rates, seeds)
        return [(tmp_path / f"{n}", [f"lr={lr}", f"seed={seed}", "ckpt=last"]) for n, (lr, seed) in enumerate(swept)]

    for folder, overrides in jobs((0.1, 0.2), (0, 1)):
        record(folder, status="finished", overrides=overrides, best={"val/top1": 0.5})
    more_rates = [earlier_start(*job, "last").over for job in jobs((0.1, 0.2, 0.3), (0, 1))]
    assert more_rates == [True, True, True, True, False, False]
    more_seeds = jobs((0.1, 0.2), (0, 1, 2))
    way_out = "at the end of its first swept key; for others give another hydra.sweep.dir"
    for number, told in ((2, "had"), (3, "had"), (4, r"is in \S*/3 already")):
        with pytest.raises(Refused, match=f"job .*{told}.*{way_out}"):
            earlier_start(*more_seeds[number], "last")
    assert not earlier_start(*more_seeds[5], "last").over


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "metrics.json").touch()
    with pytest.raises(Refused, match=r"metrics.json is damaged: .*; delete it"):
        earlier_start(tmp_path, ["seed=1"], "last")


def test_a_job_of_a_sweep_begins_only_where_no_run_is(tmp_path):
    assert earlier_start(tmp_path / "0", ["seed=1"], "a.ckpt").checkpoint == "a.ckpt"
    record(tmp_path / "1", status="failed", overrides=["seed=1"])
    checkpoint(tmp_path / "2", "last.ckpt", 1)
    for folder in ("1", "2"):
        with pytest.raises(Refused, match=f"{folder} holds a run; ckpt=last goes on with the sweep"):
            earlier_start(tmp_path / folder, ["seed=1"], None)


def test_an_evaluation_replaces_no_training_run_and_none_of_another_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_to_replace(tmp_path / "new", "a.ckpt")
    record(tmp_path / "0", status="failed", name="run", overrides=[])
    checkpoint(tmp_path / "1", "last.ckpt", 1)  # of a run without its record
    for folder in ("0", "1"):
        with pytest.raises(Refused, match=f"^{folder} holds a training run; give another run_dir"):
            refuse_to_replace(tmp_path / folder, "a.ckpt")
    record(tmp_path / "2", ckpt="a.ckpt", status="finished")
    refuse_to_replace(tmp_path / "2", str(tmp_path / "a.ckpt"))
    with pytest.raises(Refused, match=r"^2 holds an evaluation of a.ckpt, this one is of b.ckpt; give another run_dir"):
        refuse_to_replace(tmp_path / "2", "b.ckpt")
    record(tmp_path / "2", ckpt="typo.ckpt", status="failed")
    refuse_to_replace(tmp_path / "2", "b.ckpt")


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_ranks_that_torchrun_or_srun_starts_need_one_folder_and_cannot_sweep(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    refuse_scattered_ranks(["-m", "seed=0,1"])
    monkeypatch.setenv(variable, "3")
    with pytest.raises(ValueError, match="run_dir has no value: 3 ranks are started from outside"):
        refuse_scattered_ranks(["seed=0"])
    refuse_scattered_ranks(["run_dir=run"])
    with pytest.raises(ValueError, match="-m: 3 ranks are started from outside, for one job"):
        refuse_scattered_ranks(["-m", "run_dir=run", "seed=0,1"])


def test_a_run_that_goes_on_keeps_its_id_and_a_new_one_in_the_same_folder_has_its_own(tmp_path):
    first = run_id(tmp_path, goes_on=True)  # of a run from before there were ids
    assert len(first) == 8
    assert run_id(tmp_path, goes_on=True) == first
    assert run_id(tmp_path, goes_on=False) != first
    assert [path.name for path in tmp_path.iterdir()] == ["run_id"]


def test_a_job_of_a_sweep_goes_on_in_its_folder_also_without_a_checkpoint(monkeypatch):
    def goes_on(mode, ckpt):
        monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": {"mode": mode}}))
        return build._goes_on(OmegaConf.create({"ckpt": ckpt}))

    assert goes_on(RunMode.MULTIRUN, None)
    assert not goes_on(RunMode.RUN, None)
    assert goes_on(RunMode.RUN, "last.ckpt")


def loop(ready, completed, given, batch_size, world_size):
    """Lightning's state of a training loop, as far as it counts batches; in the third epoch of 12 batches."""
    current = {"ready": ready, "started": ready, "processed": ready, "completed": completed}
    return {
        "epoch_loop.batch_progress": {"current": current, "total": {key: 24 + n for key, n in current.items()}},
        "state_dict": {"combined_loader": [{"given": given, "batch_size": batch_size, "world_size": world_size}]},
    }


def counts(state):
    progress = state["epoch_loop.batch_progress"]
    return progress["current"], progress["total"]["ready"], state["state_dict"]["combined_loader"]


@pytest.mark.parametrize(
    ("batch_size", "world_size", "batches"), [(2, 1, 8), (2, 2, 4), (4, 2, 2), (4, 1, 4), (1, 2, 8)]
)
def test_a_resume_on_other_ranks_goes_on_at_the_same_video_of_the_epoch(batch_size, world_size, batches):
    state = loop(8, 7, given=8, batch_size=2, world_size=1)  # 16 videos
    recount(state, batch_size, world_size)
    current = {"ready": batches, "started": batches, "processed": batches, "completed": batches - 1}
    given = [{"given": batches, "batch_size": batch_size, "world_size": world_size}]
    assert counts(state) == (current, 32 + batches - 8, given)


def test_a_resume_on_other_ranks_counts_a_finished_epoch_as_finished():
    state = loop(12, 12, given=0, batch_size=2, world_size=1)
    recount(state, batch_size=2, world_size=3)
    finished = {"ready": 4, "started": 4, "processed": 4, "completed": 4}
    assert counts(state) == (finished, 36 - 8, [{"given": 0, "batch_size": 2, "world_size": 3}])


def test_a_resume_within_a_batch_of_the_new_size_is_an_error():
    with pytest.raises(ValueError, match="after 10 videos of an epoch, and that is not a whole number of batches of"):
        recount(loop(5, 4, given=5, batch_size=2, world_size=1), batch_size=2, world_size=2)


@pytest.mark.parametrize("damage", ["cut", "changed", "lost"])
def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before_it(damage, trained, tmp_path, caplog):
    content = (trained[0] / "checkpoints/last.ckpt").read_bytes()
    (tmp_path / "previous.ckpt").write_bytes(content)
    third = len(content) // 3
    changed = {"cut": content[:third], "changed": content[:third] + bytes([content[third] ^ 8]) + content[third + 1 :]}
    last = tmp_path / "last.ckpt"
    if damage in changed:
        last.write_bytes(changed[damage])
    assert load_resumed(str(last)).path == str(tmp_path / "previous.ckpt")
    assert f"goes on from the one before it, {tmp_path / 'previous.ckpt'}" in caplog.text
    (tmp_path / "previous.ckpt").write_bytes(content[:third])
    with pytest.raises(ValueError, match=r"previous.ckpt is not a checkpoint of plain tensors, or is damaged"):
        load_resumed(str(last))
