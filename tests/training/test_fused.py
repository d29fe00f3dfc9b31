"""Fused optimisers, clipping under bf16-mixed, bfloat16 that a GPU lacks."""

from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tubelet.training.build import make_trainer
from tubelet.training.classifier import Classifier
from tubelet.training.launch import compose_config
from tubelet.training.optim import Optim
from tubelet.training.schedules import Cosine
from tubelet.training.speed import check_precision

REST = {"base_batch": None, "weight_decay": 0.5, "decay_vectors": False, "not_decayed": [], "layer_decay": 1.0}
REST |= {"trained": None, "warmup_epochs": 0, "warmup_lr": 0.0, "clip_norm": None, "total_batch": 8}


def optim(**fused):
    optimizer = partial(torch.optim.AdamW, **fused)
    return Optim(optimizer, lr=0.1, schedule=Cosine(0.0, True), label_smoothing=0.0, **REST)


@pytest.mark.parametrize(
    ("in_config", "on_gpu", "found"),
    [
        ({"fused": None}, True, True),
        ({"fused": None}, False, None),
        ({"fused": False}, True, False),
        ({"fused": True}, False, True),
        ({}, True, None),  # an optimiser that has no such argument
    ],
)
def test_an_open_choice_is_fused_on_a_gpu_and_another_one_is_kept(in_config, on_gpu, found):
    optimizer, _ = optim(**in_config).build(nn.Linear(2, 3), 4, 4, fused=on_gpu)
    assert [group["fused"] for group in optimizer.param_groups] == [found] * 2


class Clipped(L.LightningModule):
    """Clips as `Classifier` does. One matrix, whose gradient is (3, 4) times the batch."""

    configure_gradient_clipping = Classifier.configure_gradient_clipping
    _scales = Classifier._scales

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.norms = []

    def training_step(self, batch, _):
        return (self.weight * torch.tensor([3.0, 4.0])).sum()

    def on_before_zero_grad(self, optimizer):
        if self.weight.grad is not None:
            self.norms.append(self.weight.grad.norm().item())

    def configure_optimizers(self):
        return torch.optim.AdamW([self.weight], lr=0.1, fused=True)


@pytest.mark.parametrize(("limit", "norm"), [(0.5, 0.5), (None, 5.0)])
def test_gradients_of_a_fused_optimiser_are_clipped_under_bf16_mixed(limit, norm, tmp_path):
    module = Clipped()
    trainer = L.Trainer(
        **{
            "accelerator": "cpu",
            "precision": "bf16-mixed",
            "gradient_clip_val": limit,
            "max_steps": 2,
            "logger": False,
        },
        **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
        **{"gradient_clip_algorithm": "norm", "default_root_dir": tmp_path},
    )
    trainer.fit(module, DataLoader(torch.zeros(3, 1), batch_size=1))
    assert module.norms == pytest.approx([norm], rel=1e-4)  # of the first step, seen when the second begins


def test_bfloat16_on_a_gpu_without_it_is_an_error_and_elsewhere_is_not(monkeypatch):
    gpu, has = torch.device("cuda", 0), SimpleNamespace(bf16=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has.bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    message = r"trainer.precision=bf16-mixed: Tesla T4 has no bfloat16; type trainer.precision=16-mixed, or 32-true"
    with pytest.raises(ValueError, match=message):
        check_precision("bf16-mixed", gpu)
    check_precision("16-mixed", gpu)
    check_precision("bf16-mixed", torch.device("cpu"))
    with pytest.raises(ValueError, match=r"precision=16-mixed: not on a CPU"):
        check_precision("16-mixed", torch.device("cpu"))
    with pytest.raises(ValueError, match=r"precision=64: clips are float32"):
        check_precision("64-true", torch.device("cpu"))
    has.bf16 = True
    check_precision("bf16-mixed", gpu)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_with_what_would_do():
    cfg = compose_config("train", ["trainer=gpu", "run_dir=x", "name=x"])
    with pytest.raises(ValueError, match=r"trainer.accelerator=gpu: torch finds no GPU here; trainer=cpu"):
        make_trainer(cfg, [], [], progress_bar=False)
