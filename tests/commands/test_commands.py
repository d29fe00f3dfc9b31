"""The `tubelet` command line, on the run that the tests share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tubelet.evaluation.checkpoint import load_checkpoint
from tubelet.training.launch import config_dir
from tubelet.video.annotations import Video
from tubelet.video.dataset import VideoDataset
from tubelet.video.order import Draw
from tubelet.video.sampling import forward


def tubelet(*arguments, cwd):
    command = [sys.executable, "-c", "from tubelet.commands.main import main; main()", *arguments]
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)


def test_help_lists_every_command_and_an_unknown_one_is_an_error(tmp_path):
    listed = tubelet("--help", cwd=tmp_path)
    assert listed.returncode == 0
    names = ("train", "eval", "predict", "order", "plot", "scan", "transcode", "browse", "profile", "table", "compare")
    for name in names:
        assert f"\n  {name} " in listed.stdout
    unknown = tubelet("trian", cwd=tmp_path)
    assert unknown.returncode == 1
    assert unknown.stderr == (
        "error: there is no command 'trian'; the commands are "
        "train, eval, predict, order, plot, scan, transcode, browse, profile, table, compare\n"
    )


def test_predict_gives_the_probabilities_of_the_model_on_the_views_of_the_test(trained, motion_root):
    folder, _ = trained
    ckpt, videos = folder / "checkpoints/best.ckpt", sorted(motion_root.glob("test/*/*.mp4"))[:2]
    printed = tubelet("predict", ckpt, *videos, "--clips", 2, "--crops", 3, "--top", 8, cwd=folder)
    assert printed.returncode == 0, printed.stderr

    checkpoint = load_checkpoint(str(ckpt))
    clip, views = checkpoint.config["clip"], checkpoint.build_views(2, 3)
    model = checkpoint.build_model()
    for path, line in zip(videos, printed.stdout.splitlines(), strict=True):
        dataset = VideoDataset([Video(str(path), 0)], views.sample, forward, views.transform, 0, "auto", False)
        shown = dataset[Draw(0, 0)]["video"].float() / 255  # (V, C, T, H, W)
        mean, std = (torch.tensor(clip[key]).view(-1, 1, 1, 1) for key in ("mean", "std"))
        with torch.inference_mode():
            expected = model((shown - mean) / std).softmax(-1).mean(0)
        name, answers = line.split(": ")
        assert name == str(path)
        told = dict(answer.split(" ") for answer in answers.split(", "))
        assert list(told) == [checkpoint.classes[k] for k in expected.argsort(descending=True)]
        for k, probability in enumerate(expected.tolist()):
            assert float(told[checkpoint.classes[k]]) == pytest.approx(probability, abs=6e-4)  # printed to 3 places


def test_predict_names_a_file_that_it_cannot_read(trained):
    folder, _ = trained
    printed = tubelet("predict", folder / "checkpoints/best.ckpt", folder / "config.yaml", cwd=folder)
    assert printed.returncode == 1
    assert printed.stderr.startswith(f"error: {folder / 'config.yaml'}: cannot open")
    assert len(printed.stderr.splitlines()) == 1


def test_predict_leaves_a_file_that_never_answers_after_its_seconds(trained, tmp_path):
    folder, _ = trained
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it waits for a writer that never comes
    printed = tubelet("predict", folder / "checkpoints/best.ckpt", "pipe.mp4", "--seconds", 0.5, cwd=tmp_path)
    assert (printed.returncode, printed.stderr) == (1, "error: pipe.mp4: cannot decode: no answer within 0.5 s\n")


@pytest.mark.parametrize("seconds", ["0", "-2", "nan", "inf"])
def test_predict_refuses_a_time_limit_that_is_none(seconds, tmp_path):
    printed = tubelet("predict", "x.ckpt", "x.mp4", "--seconds", seconds, cwd=tmp_path)
    assert printed.stderr == f"error: --seconds {seconds} is not a positive number of seconds\n"


def test_the_time_limit_of_predict_is_that_of_training_unless_it_is_given(tmp_path):
    default = yaml.safe_load(Path(config_dir(), "data/folder.yaml").read_text())["time_limit"]
    assert f"as data.time_limit ({default:g})" in " ".join(tubelet("predict", "--help", cwd=tmp_path).stdout.split())


def test_plot_draws_the_curves_and_the_confusion_matrix_of_a_run(trained):
    folder, _ = trained
    printed = tubelet("plot", folder, cwd=folder.parent)
    assert printed.stdout.splitlines() == ["written: run/curves.png", "written: run/confusion.png"]
    for picture in ("curves.png", "confusion.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_order_evaluates_forward_as_eval_does_and_every_other_order(trained, tmp_path):
    folder, _ = trained
    overrides = [f"ckpt={folder / 'checkpoints/best.ckpt'}", f"run_dir={tmp_path / 'orders'}", "data.num_workers=0"]
    printed = tubelet("order", *overrides, cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    figures = json.loads((tmp_path / "orders/orders.json").read_text())
    assert list(figures) == ["forward", "strided", "shuffled", "reversed", *(f"frozen at {i}" for i in range(8))]
    run = json.loads((folder / "metrics.json").read_text())["test"]
    assert figures["forward"]["top1"] == run["top1"]
    assert figures["forward"]["answered_twin"] == run["answered_twin"]
    assert (tmp_path / "orders/orders.png").exists()
