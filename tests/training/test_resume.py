"""A run that is ended at any step and resumed ends with the weights, to the bit, of one that never was.

The whole run decodes in its own process and some of the others in two workers, so their number plays no part either.
On two ranks: test_ranks.py. Many more: `make soak`.
"""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from soak import carried, difference, start

from tubelet.evaluation.checkpoint import load_checkpoint
from tubelet.training.build_data import build_catalogue
from tubelet.training.last import last_checkpoint
from tubelet.training.record import is_finished
from tubelet.training.resume import check_resumable, check_videos, told_videos
from tubelet.training.train import keep_records

ROOT = Path(__file__).parents[2]
SMALL = [  # as the run of the fixture `trained`
    *("experiment=demo", "data.train=24", "data.val=8", "data.test=16", "data.batch_size=4", "data.num_workers=1"),
    *("optim.total_batch=8", "trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"),
    "model.depth=1",
]
RUN = [  # 2 epochs of 6 steps of 2 batches; drop path draws from torch's generator in every step, and so does mixing
    *("experiment=demo", "augment=randaugment", "data.repeats=2", "optim.total_batch=8", "model.depth=2"),
    *("data.train=24", "data.val=8", "data.test=16", "data.batch_size=2"),
    *("model.drop_path=0.3", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.val_check_interval=0.5"),
    *("callbacks=ema", "callbacks.ema.decay=0.8", "callbacks.last.every_n_steps=1"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, motion_root, run_script):
    """The folder of the run that nothing ended."""
    cwd = tmp_path_factory.mktemp("whole")
    overrides = [*RUN, "logger=csv", "data.num_workers=0", f"data.root={motion_root}", "run_dir=run"]
    run_script("train.py", *overrides, cwd=cwd)
    return cwd / "run"


def ended_by(number, overrides, cwd):
    """Start the run, send it and its workers a signal soon after its second save, as a terminal or a scheduler does.

    Gives the exit code and the step it had reached.
    """
    with start(cwd, *overrides) as process:
        while not (cwd / "run/checkpoints/previous.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, number)
        code = process.wait(60)
    return code, torch.load(last_checkpoint(cwd / "run"), weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("number", "workers", "code", "status"),
    [
        (signal.SIGKILL, 0, -9, "running"),
        (signal.SIGINT, 2, 130, "interrupted"),
        (signal.SIGTERM, 2, 143, "interrupted"),
    ],
)
def test_an_ended_and_resumed_run_carries_on_with_what_a_whole_one_does(
    number, workers, code, status, whole, motion_root, tmp_path, run_script
):
    overrides = [*RUN, "logger=csv", f"data.root={motion_root}", f"data.num_workers={workers}", "run_dir=run"]
    left, step = ended_by(number, overrides, tmp_path)
    assert left == code
    assert 0 < step < 12
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == status
    run_script("train.py", *overrides, "ckpt=last", cwd=tmp_path)
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (record["status"], record["resumed_from"]) == ("finished", "run/checkpoints/last.ckpt")
    assert difference("", carried(whole), carried(tmp_path / "run")) == ""


def test_a_run_whose_max_time_is_over_is_stopped_not_tested_and_goes_on_to_what_a_whole_one_ends_with(
    whole, motion_root, tmp_path, run_script
):
    overrides = [*RUN, "logger=csv", f"data.root={motion_root}", "data.num_workers=0", "run_dir=run"]
    for step, more in enumerate(([], ["ckpt=last"]), 1):  # the time of a part is its own
        told = run_script("train.py", *overrides, "trainer.max_time=00:00:00:00", *more, cwd=tmp_path)
        assert f"stopped: trainer.max_time=00:00:00:00 is over after step {step}, saved and not tested" in told.stdout
        record = json.loads((tmp_path / "run/metrics.json").read_text())
        assert (record["status"], "test" in record, "error" in record) == ("stopped", False, False)
    run_script("train.py", *overrides, "ckpt=last", cwd=tmp_path)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == "finished"
    assert difference("", carried(whole), carried(tmp_path / "run")) == ""


def test_a_killed_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before_and_in_the_same_wandb_run(
    whole, motion_root, tmp_path, run_script
):
    overrides = [*RUN, f"data.root={motion_root}", "data.num_workers=2", "run_dir=run"]
    ended_by(signal.SIGKILL, overrides, tmp_path)
    damaged = tmp_path / "run/checkpoints/last.ckpt"
    content = damaged.read_bytes()
    middle = len(content) // 2
    damaged.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    told = run_script("train.py", *overrides, "ckpt=last", cwd=tmp_path)
    assert (
        "ckpt=run/checkpoints/last.ckpt is damaged: its content is not what was written; "
        "goes on from the one before it, run/checkpoints/previous.ckpt\n" in told.stdout + told.stderr
    )
    assert json.loads((tmp_path / "run/metrics.json").read_text())["resumed_from"] == "run/checkpoints/previous.ckpt"
    assert difference("", carried(whole), carried(tmp_path / "run")) == ""
    parts = [folder.name for folder in (tmp_path / "run/wandb").glob("offline-run-*")]
    assert len(parts) == 2
    assert {name.rpartition("-")[2] for name in parts} == {(tmp_path / "run/run_id").read_text().strip()}


def test_a_step_keeps_decay_of_the_average_and_takes_the_rest_from_the_weights(whole):
    last, before = (torch.load(whole / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("last", "previous"))
    assert (last["global_step"], before["global_step"]) == (12, 11)
    for name, weight in last["current_model_state"].items():
        if name.startswith("predictor.model."):
            expected = 0.8 * before["state_dict"][name] + 0.2 * weight
            torch.testing.assert_close(last["state_dict"][name], expected, rtol=0, atol=1e-6)  # float32
    name = "predictor.model.head.weight"
    assert (last["state_dict"][name] - last["current_model_state"][name]).abs().max() > 1e-4


def test_the_average_is_what_is_tested_and_loaded(whole, tmp_path, run_script):
    checkpoint = json.loads((whole / "metrics.json").read_text())["tested"]
    run_script("eval.py", f"ckpt={whole / checkpoint}", "run_dir=eval", cwd=tmp_path)
    assert (tmp_path / "eval/predictions.csv").read_text() == (whole / "predictions.csv").read_text()
    content, loaded = torch.load(whole / checkpoint, weights_only=True), load_checkpoint(str(whole / checkpoint))
    assert loaded.weights["head.weight"].equal(content["state_dict"]["predictor.model.head.weight"])
    assert not loaded.weights["head.weight"].equal(content["current_model_state"]["predictor.model.head.weight"])


def test_a_refused_resume_leaves_the_record_of_the_run_as_it_was(trained, motion_root, tmp_path, run_script):
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    before = {name: (folder / name).read_bytes() for name in ("metrics.json", "config.yaml", "metrics.csv")}
    same = [*SMALL, f"data.root={motion_root}", "ckpt=last", "run_dir=run"]
    for change, message in (
        ("model.depth=2", "its run had model.depth=1, this one has model.depth=2"),
        ("trainer.max_epochs=2", "has trained 2 of 2 epochs, so nothing is left; trainer.max_epochs=... goes further"),
    ):
        told = run_script("train.py", *same, change, cwd=tmp_path, check=False)
        assert told.returncode == 1
        assert message in told.stderr
        assert before == {name: (folder / name).read_bytes() for name in before}


@pytest.mark.parametrize(
    ("node", "key", "message"),
    [
        ("clip", "mean", r"its run had clip.mean=\[0.5, 0.5, 0.5\], this one has clip.mean=other"),
        ("optim", "lr", r"its run had optim.lr=0.001, this one has optim.lr=other"),
        ("data", "seed", r"its run had data.seed=0, this one has data.seed=other"),
        ("augment", "crop", r"this one has augment.crop=other"),
        ("trainer", "precision", r"its run had trainer.precision=32-true, this one has trainer.precision=other"),
        ("trainer", "limit_train_batches", r"its run had trainer.limit_train_batches=None, this one has .*=other"),
        ("trainer", "gradient_clip_algorithm", r"its run had trainer.gradient_clip_algorithm=norm, this one"),
        ("trainer", "devices", None),
        ("trainer", "val_check_interval", None),
        ("data", "num_workers", None),
        ("model", "pretrained", None),
    ],
)
def test_what_decides_the_result_must_be_the_same_and_the_rest_may_change(node, key, message, trained):
    checkpoint = load_checkpoint(str(trained[0] / "checkpoints/last.ckpt"))
    now = copy.deepcopy(checkpoint.config)
    now["trainer"]["max_epochs"] = 3
    now[node][key] = "other"
    if message is None:
        check_resumable(checkpoint, now, checkpoint.classes, finished=True)
        return
    with pytest.raises(ValueError, match=message):
        check_resumable(checkpoint, now, checkpoint.classes, finished=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda videos: videos[:-4], "its run had 24 training videos, this one has 20, so"),
        (lambda videos: videos[1:] + videos[:1], r"its run had other training videos, or .* \(24 in both\)"),
        (lambda videos: [(videos[0][0], 5), *videos[1:]], r"or other labels \(24 in both\)"),
    ],
)
def test_a_resume_with_other_training_videos_is_an_error(change, message, trained, motion_root):
    checkpoint = load_checkpoint(str(trained[0] / "checkpoints/last.ckpt"))
    videos = build_catalogue(OmegaConf.create(checkpoint.config["data"])).train
    check_videos(checkpoint, told_videos(videos, str(motion_root)))
    elsewhere = [(f"other/{path.removeprefix(str(motion_root))}", label) for path, label in videos]
    check_videos(checkpoint, told_videos(elsewhere, "other/"))
    with pytest.raises(ValueError, match=message):
        check_videos(checkpoint, told_videos(change(videos), str(motion_root)))


def test_a_resume_from_a_checkpoint_that_names_no_training_videos_is_told(trained, caplog):
    checkpoint = load_checkpoint(str(trained[0] / "checkpoints/last.ckpt"))
    checkpoint.videos = None
    check_videos(checkpoint, {"number": 23, "digest": "other"})
    assert "older checkpoints do not say what they were trained on" in caplog.text


def test_a_resume_with_another_average_of_the_weights_is_an_error(trained):
    checkpoint = load_checkpoint(str(trained[0] / "checkpoints/last.ckpt"))
    now = copy.deepcopy(checkpoint.config)
    now["callbacks"]["ema"] = {"_target_": "tubelet.training.averaging.AverageWeights", "decay": 0.9}
    with pytest.raises(ValueError, match=r"its run had averaging=None, this one has averaging=\{.*'decay': 0.9\}"):
        check_resumable(checkpoint, now, checkpoint.classes, finished=False)


def test_sigterm_while_videos_are_generated_leaves_nothing_half_made_and_is_recorded(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "train.py"), "experiment=demo", "data.root=motion", "run_dir=run"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("motion.partial-*/train/*/*.mp4")) and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(60) == 143
    assert not list(tmp_path.glob("motion*"))
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == "interrupted"


def test_an_evaluation_that_is_interrupted_says_so(trained, motion_root, tmp_path):
    ckpt = trained[0] / "checkpoints/last.ckpt"
    many = tmp_path / "many.txt"  # the same videos over and over: long enough to be interrupted
    many.write_text("".join(f"{path}\t0\n" for path in motion_root.glob("test/*/*.mp4")) * 1000)
    (tmp_path / "classes.txt").write_text("\n".join(load_checkpoint(str(ckpt)).classes))
    data = ["data=list", "data.train=many.txt", "data.val=many.txt", "data.names=classes.txt", "data.root=/"]
    command = [sys.executable, str(ROOT / "eval.py"), f"ckpt={ckpt}", "run_dir=eval", *data]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "eval/config.yaml").exists() and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(60) == 143
    assert json.loads((tmp_path / "eval/metrics.json").read_text())["status"] == "interrupted"


def test_the_first_rank_alone_asks_whether_a_run_has_finished_since_it_renames_the_record(tmp_path, monkeypatch):
    assert not is_finished(tmp_path)
    (tmp_path / "metrics.json").write_text('{"status": "finished"}')
    assert is_finished(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_finished(tmp_path)


def test_the_records_of_one_part_of_a_run_have_one_number_whichever_of_them_there_are(tmp_path):
    for part in (
        {"metrics.json", "metrics.csv"},
        {"metrics.json", "metrics.csv", "quarantine.jsonl"},
        {"metrics.json"},
    ):
        for name in part:
            (tmp_path / name).touch()
        keep_records(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("metrics.1.csv", "metrics.1.json", "metrics.2.csv", "metrics.2.json", "metrics.3.json", "quarantine.2.jsonl")
    ]
