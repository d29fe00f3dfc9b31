"""tubelet browse: that it shows what a run trains on, and what it leaves behind."""

import shutil
import sys

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from tubelet.analysis.browse import views_of_training, weights
from tubelet.commands.browse import prepare, run
from tubelet.evaluation.predictor import Predictor
from tubelet.training import build, build_data
from tubelet.training.classifier import Classifier
from tubelet.training.launch import compose_config
from tubelet.training.quarantine import Quarantine
from tubelet.video.batches import first_views_first
from tubelet.video.mixing import RandomErasing
from tubelet.video.pyav import write_video

SMALL = [
    *("experiment=demo", "data.train=24", "data.val=8", "data.test=16", "data.batch_size=4", "data.num_workers=1"),
    *("data.repeats=2", "optim.total_batch=16", "trainer.accelerator=cpu", "seed=3"),
]


def browse(arguments, monkeypatch) -> str | None:
    """What it ends with, where that is an error."""
    monkeypatch.setattr(sys, "argv", ["tubelet browse", *arguments])
    try:
        run()
    except SystemExit as end:
        return str(end)
    return None


class Recorder(nn.Module):
    """A model that keeps what it is given, and as a loss what it should have answered."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.head, self.given = nn.Linear(1, num_classes), []

    def forward(self, clips):
        self.given.append(clips.clone())
        return self.head(clips.mean((1, 2, 3, 4), keepdim=True).flatten(1))


class RecordedLoss(nn.CrossEntropyLoss):
    def forward(self, logits, shown):
        self.__dict__.setdefault("given", []).append(shown.clone())
        return super().forward(logits, shown)


def trained_on(cfg, run_dir):
    """Clips and labels of two batches of a training by Lightning, which is over before a warm-up would be."""
    cfg.optim.warmup_epochs = 0
    catalogue = build_data.build_catalogue(cfg.data)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    on_clips, on_batches = build_data.build_augment(cfg, catalogue.classes)
    data, predictor = build_data.build_training_data(cfg, catalogue, on_clips), build.build_predictor(cfg, 8)
    predictor = Predictor(Recorder(8), predictor.normalise)
    classifier = Classifier(predictor, Quarantine(str(run_dir), 24, 1.0), build.build(cfg.optim), on_batches, {})
    classifier.loss = RecordedLoss()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", max_steps=2, limit_val_batches=0, logger=False, **quiet)
    trainer.fit(classifier, data)
    return predictor.model.given, classifier.loss.given


def test_the_batches_are_to_the_bit_those_that_training_makes(motion_root, tmp_path):
    cfg = compose_config("train", [*SMALL, "augment=randaugment", "augment.flip.p=0.5", f"data.root={motion_root}"])
    given, labels = trained_on(cfg, tmp_path)
    training = prepare(cfg)
    assert any(isinstance(one, RandomErasing) for one in training.on_batches)
    catalogue = training.data.catalogue
    for i, (batch, clips, shares) in enumerate(training.batches(2)):
        assert torch.equal(clips, given[i])
        shown = shares @ one_hot(first_views_first(batch["shown"]), 8).float()
        assert torch.allclose(shown, labels[i], atol=1e-6)
        pixels = training.normalise.undone(clips)
        views = views_of_training(batch, pixels, shares, catalogue.train, catalogue, str(motion_root))
        for view, row in zip(views, labels[i].view(2, 4, 8).transpose(0, 1).flatten(0, 1), strict=True):
            told = {catalogue.classes.index(name): share for name, share in weights(view.sources).items()}
            assert [told.get(label, 0.0) for label in range(8)] == pytest.approx(row.tolist(), abs=1e-6)
    assert i == 1


def test_without_augmentation_what_is_shown_are_the_pixels_of_the_loader(motion_root):
    cfg = compose_config("train", [*SMALL, "augment=none", "~augment.flip", f"data.root={motion_root}"])
    training = prepare(cfg)
    with pytest.raises(ValueError, match="--num-batches 7 is more than the 6 of an epoch"):
        next(training.batches(7))
    ((batch, clips, shares),) = training.batches(1)
    assert torch.equal(training.normalise.undone(clips), first_views_first(batch["video"]))
    assert torch.equal(shares, torch.eye(8))


def test_it_writes_a_picture_and_a_film_of_training_and_test_and_tells_the_augmentation(
    motion_root, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = [*SMALL, "augment=randaugment", f"data.root={motion_root}", "--num-batches", "2", "--num-videos", "1"]
    assert browse([*arguments, "views=1x3", "--num-clips", "3"], monkeypatch) is None
    printed = capsys.readouterr().out.splitlines()
    files = ["train_0.png", "train_0.mp4", "train_1.png", "train_1.mp4", "test.png", "test.mp4"]
    assert printed == [
        "augmentation: RandAugment, RandomResizedCrop in workers (1); then Normalise, RandomErasing, Mix on cpu",
        f"written: runs/browse/motion/{{{','.join(files)}}}",
    ]
    assert sorted(path.name for path in (tmp_path / "runs/browse/motion").iterdir()) == sorted(files)


def folder_of(tmp_path):
    """root/{train,val}/<class>/ of real files, in which the first training video is broken"""
    frames = np.random.default_rng(0).integers(0, 255, (16, 56, 60, 3)).astype(np.uint8)
    write_video(str(tmp_path / "good.mp4"), frames, fps=10)
    for split in ("train", "val"):
        for name in ("dark $1$ 跳", "light"):
            (tmp_path / "videos" / split / name).mkdir(parents=True)
            for number in range(2):
                shutil.copy(tmp_path / "good.mp4", tmp_path / "videos" / split / name / f"{number}.mp4")
    (tmp_path / "videos/train/light/0.mp4").write_bytes(b"")
    return ["experiment=demo", "data=folder", f"data.root={tmp_path}/videos", "data.batch_size=4", "data.num_workers=1"]


def test_a_broken_video_ends_it_in_one_line_or_is_shown_with_its_stand_in(tmp_path, monkeypatch, capsys):
    arguments = [*folder_of(tmp_path), "optim.total_batch=4", "trainer.accelerator=cpu", "--out", str(tmp_path / "out")]
    told = browse(arguments, monkeypatch)
    assert len(told.splitlines()) == 1
    assert "videos/train/light/0.mp4: cannot open" in told
    assert browse([*arguments, "data.on_error=skip"], monkeypatch) is None
    assert (tmp_path / "out/train_0.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data=motion", "augment=randaugmnt"], "augment=randaugmnt: there is no such augment; did you mean"),
        (["data=motion", "--num-clips", "65"], "--num-clips 65 is not from 1 to 64"),
        (["data=motion", "--num-batches", "-1"], "--num-batches -1 is not from 0 to 64"),
        (
            ["experiment=demo", "data.batch_size=auto"],
            "tubelet browse needs a number, and finds none by trying: data.b",
        ),
    ],
)
def test_what_it_does_not_understand_is_an_error_in_one_line(arguments, told, monkeypatch):
    ended = browse(arguments, monkeypatch)
    assert told in ended
    assert len(ended.splitlines()) == 1
