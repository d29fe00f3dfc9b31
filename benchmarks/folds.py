"""How well a model tells apart the classes of a small folder, honestly: folds of whole groups, an interval, baselines.

    python benchmarks/folds.py path/to/UCF-101 --classes Punch,YoYo --group '_(g\\d+)_' --folds 6 \
        model=mvit_tiny clip.stride=4 trainer.max_epochs=20

Videos cut from one recording (a group) are all in one fold. Every video is answered once, by a model trained on the
other folds. The interval resamples groups, since the videos of one are not independent. Two baselines answer the same
folds: the most frequent class, and a logistic regression on the mean colour of the video.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelet.video.annotations import Video, list_class_folders
from tubelet.video.open import open_video

ROOT = Path(__file__).parents[1]
RESAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--classes", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--out", default="runs/folds")
    arguments, overrides = parser.parse_known_args()
    classes = arguments.classes.split(",")
    videos = list_class_folders(Path(arguments.root).absolute(), classes)
    matches = [re.search(arguments.group, Path(v.path).name) for v in videos]
    if None in matches:
        raise SystemExit(f"error: --group {arguments.group} does not match {videos[matches.index(None)].path}")
    groups = [f"{v.label} {m.group(1)}" for v, m in zip(videos, matches, strict=True) if m]
    fold = fold_of_group(groups, arguments.folds)
    folds, labels = torch.tensor([fold[g] for g in groups]), torch.tensor([v.label for v in videos])
    colours = mean_colours(videos)
    answered = {name: torch.empty(len(videos), dtype=torch.long) for name in ("model", "mean colour", "majority")}
    for k in range(arguments.folds):
        test, train = folds == k, folds != k
        answered["majority"][test] = labels[train].mode().values
        answered["mean colour"][test] = logistic_regression(colours[train], labels[train], colours[test])
        answered["model"][test] = train_and_test(videos, test, classes, Path(arguments.out, str(k)), overrides)
        right = (answered["model"] == labels)[folds <= k]
        print(f"fold {k + 1} of {arguments.folds}: {int(right.sum())} of {len(right)} right so far", flush=True)
    report = {"videos": len(videos), "groups": len(set(groups)), "folds": arguments.folds, "overrides": overrides}
    for name, answers in answered.items():
        low, high = interval(answers == labels, groups)
        report[name] = {"top1": (answers == labels).double().mean().item(), "interval": [low, high]}
        print(f"{name:12} top-1 {report[name]['top1']:.3f}   95 % interval {low:.3f} to {high:.3f}")
    Path(arguments.out, "folds.json").write_text(json.dumps(report, indent=2) + "\n")


def fold_of_group(groups: list[str], folds: int) -> dict[str, int]:
    """Groups dealt out like cards, class after class, so that the folds hold about as many of each."""
    return {group: i % folds for i, group in enumerate(dict.fromkeys(groups))}


def train_and_test(videos: list[Video], test: Tensor, classes: list[str], out: Path, overrides: list[str]) -> Tensor:
    """Answers (number of test videos,) of a model trained on the others, in a process of its own."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "classes.txt").write_text("\n".join(classes))
    for name, chosen in (("train", ~test), ("test", test)):
        lines = [f"{v.path}\t{v.label}\n" for v, taken in zip(videos, chosen.tolist(), strict=True) if taken]
        (out / f"{name}.txt").write_text("".join(lines))
    lists = [f"data.train={out}/train.txt", f"data.val={out}/test.txt", f"data.classes={out}/classes.txt"]
    command = [sys.executable, str(ROOT / "train.py"), "data=list", "data.root=/", *lists, f"run_dir={out}/run"]
    subprocess.run([*command, "logger=csv", *overrides], check=True, stdout=subprocess.DEVNULL)
    with open(out / "run/predictions.csv", newline="") as file:
        return torch.tensor([classes.index(row["predicted"]) for row in csv.DictReader(file)])


def mean_colours(videos: list[Video]) -> Tensor:
    """(videos, 3): over 16 frames spread over each video."""
    rows = []
    for video in videos:
        with open_video(video.path) as reader:
            frames = torch.linspace(0, reader.num_frames - 1, 16).long().tolist()
            rows.append(reader.read(frames).double().mean((0, 2, 3)))
    return torch.stack(rows)


def logistic_regression(x: Tensor, y: Tensor, x_test: Tensor) -> Tensor:
    """Answers for `x_test` (m, d) after fitting `x` (n, d), `y` (n,), standardised, with an L2 penalty of 1 / n."""
    mean, std = x.mean(0), x.std(0)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    weights = torch.zeros(x.shape[1] + 1, int(y.max()) + 1, dtype=x.dtype, requires_grad=True)
    fit = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        fit.zero_grad()
        value = F.cross_entropy(x @ weights[1:] + weights[0], y) + weights[1:].square().sum() / (2 * len(y))
        value.backward()
        return value

    fit.step(loss)
    return (x_test @ weights[1:] + weights[0]).argmax(1).detach()


def interval(right: Tensor, groups: list[str]) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of the accuracy when whole groups are drawn anew, with replacement."""
    members = [torch.tensor([g == name for g in groups]) for name in dict.fromkeys(groups)]
    hits = torch.stack([right[m].sum() for m in members]).double()
    sizes = torch.stack([m.sum() for m in members]).double()
    drawn = torch.randint(len(members), (RESAMPLES, len(members)), generator=torch.Generator().manual_seed(0))
    shares = hits[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = shares.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return low, high


if __name__ == "__main__":
    main()
