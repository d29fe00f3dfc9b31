"""data.batch_size=auto: what is tried, what is found, and that the run is the one of the number found."""

import logging
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from tubelet.evaluation.checkpoint import load_checkpoint
from tubelet.evaluation.predictor import Predictor
from tubelet.training import batch_size
from tubelet.training.batch_size import Trial, check_place, find_batch_size, largest, sizes_that_divide
from tubelet.training.build import build
from tubelet.training.launch import compose_config
from tubelet.training.train import train
from tubelet.video.mixing import Mix, OnBatch
from tubelet.video.transforms import Normalise

SHAPE = (2, 3, 4, 5, 7)  # V, C, T, H, W


def test_only_sizes_are_tried_that_leave_the_total_batch_as_it_is():
    assert sizes_that_divide(total_batch=96, devices=4, repeats=2) == [12, 6, 4, 3, 2, 1]
    assert sizes_that_divide(total_batch=7, devices=7, repeats=1) == [1]
    with pytest.raises(ValueError, match=r"optim.total_batch=20 is not a multiple of 3 devices times data.repeats=2"):
        sizes_that_divide(20, 3, 2)


def test_the_first_that_fits_is_the_largest_and_none_is_none():
    asked = []
    assert largest([12, 6, 4, 3], lambda size: asked.append(size) or size < 5) == 4
    assert asked == [12, 6, 4]
    assert largest([12, 6], lambda size: False) is None


class Full(nn.Module):
    """Has no memory for more clips than `most`; draws from torch's generator as dropout does."""

    def __init__(self, most):
        super().__init__()
        self.most, self.fc, self.dtypes = most, nn.Linear(3, 5), set()

    def forward(self, video):
        if len(video) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.rand(3)
        logits = self.fc(video.mean((2, 3, 4)))
        self.dtypes.add(logits.dtype)
        return logits


def trial(model, augment=()):
    optim = build(compose_config("train", ["experiment=demo"]).optim)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(strategy=strategy, precision_plugin=MixedPrecision("bf16-mixed", "cpu"))
    return Trial(Predictor(model, Normalise([0.5] * 3, [0.5] * 3)), optim, augment, trainer, SHAPE)


def test_a_size_fits_if_whole_steps_of_its_clips_do_in_the_precision_of_the_run():
    tried = trial(Full(most=7))
    assert not tried.fits(4)  # videos of 2 clips
    assert tried.fits(3)
    assert not tried.fits(4)
    assert tried.predictor.model.dtypes == {torch.bfloat16}
    assert tried.optimizer.state  # its state takes memory too


def test_a_trial_leaves_weights_gradients_and_the_generator_alone():
    model = Full(most=7)
    before, drawn = model.fc.weight.clone(), torch.get_rng_state()
    assert trial(model).fits(2)
    assert model.fc.weight.equal(before)
    assert model.fc.weight.grad is None
    assert torch.get_rng_state().equal(drawn)


def test_a_trial_augments_as_the_run_does():
    class Noted(OnBatch):
        def forward(self, clips, shown):
            sizes.append((tuple(clips.shape), clips.dtype, tuple(shown.shape)))
            return clips, shown

    sizes = []
    assert trial(Full(most=7), [Noted()]).fits(3)
    assert sizes == [((6, *SHAPE[1:]), torch.float32, (6, 1))] * 2  # two steps of 3 videos of 2 clips


def test_mixing_needs_batches_of_two_videos(monkeypatch):
    monkeypatch.setattr(batch_size, "check_place", lambda device, trainer: None)
    monkeypatch.setattr(batch_size, "Trial", lambda *_: SimpleNamespace(fits=lambda size: asked.append(size)))
    cfg = compose_config("train", ["experiment=demo", "optim.total_batch=8", "data.repeats=2"])
    trainer = SimpleNamespace(world_size=1, strategy=SimpleNamespace(root_device=torch.device("cuda:0")))
    for augment, sizes, told in (
        ([], [4, 2, 1], "one video fits"),
        ([Mix(0.8, 1.0)], [4, 2], "2 videos, which mixing"),
    ):
        asked = []
        with pytest.raises(ValueError, match=f"data.batch_size=auto: not even {told}"):
            find_batch_size(cfg, None, None, augment, trainer)
        assert asked == sizes


def test_an_error_that_is_not_of_memory_is_not_taken_for_one():
    class Broken(Full):
        def forward(self, video):
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        trial(Broken(most=7)).fits(1)


def test_where_it_cannot_be_found_one_line_says_so():
    outside = SimpleNamespace(creates_processes_externally=True)
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(cluster_environment=outside))
    with pytest.raises(ValueError, match=r"data.batch_size=auto needs a GPU, .*; on cpu give a number"):
        check_place(torch.device("cpu"), trainer)
    with pytest.raises(ValueError, match=r"under torchrun or srun every rank would find its own; give a number"):
        check_place(torch.device("cuda:0"), trainer)


def config(folder, root, *overrides):
    small = ["experiment=demo", "data.train=24", "data.val=8", "data.test=16", "data.num_workers=0", "model.depth=1"]
    run = [
        "optim.total_batch=12",
        "optim.warmup_epochs=0",
        "trainer.accelerator=cpu",
        "trainer.max_steps=1",
        "logger=csv",
        "name=auto",
    ]
    return compose_config("train", [*small, *run, f"data.root={root}", f"run_dir={folder}", *overrides])


@pytest.mark.filterwarnings("ignore::UserWarning")  # those that a run silences itself
def test_a_run_records_the_size_found_and_a_resumed_one_keeps_it(tmp_path, motion_root, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="tubelet")
    step = Trial._step

    def full(self, size):
        if size > 4:
            raise torch.OutOfMemoryError
        step(self, size)

    monkeypatch.setattr(batch_size, "check_place", lambda device, trainer: None)
    monkeypatch.setattr(Trial, "_step", full)
    train(config(tmp_path, motion_root, "data.batch_size=auto"), [])
    assert "batch size: 4 videos fit on cpu, 6 do not" in caplog.messages
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["data"]["batch_size"] == 4
    ckpt = tmp_path / "checkpoints/last.ckpt"
    found = load_checkpoint(str(ckpt)).config["data"]["batch_size"]
    assert found == 4
    monkeypatch.setattr(batch_size, "largest", None)  # is not asked again
    again = config(tmp_path, motion_root, "data.batch_size=auto", "trainer.max_steps=2", f"ckpt='{ckpt}'")
    train(again, [])
    assert again.data.batch_size == 4
    assert [line for line in caplog.messages if "12 clips a step (4 videos x 1 devices x 3 accumulated)" in line]


def test_a_word_that_is_not_auto_is_refused(tmp_path, motion_root):
    with pytest.raises(ValueError, match=r"=large is not a whole number of at least 1, or in training auto"):
        train(config(tmp_path, motion_root, "data.batch_size=large"), [])
