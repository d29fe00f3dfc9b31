"""Our training loop beside a bare PyTorch loop: what Lightning, our callbacks and the logging add to a step.

    python benchmarks/loop.py [--rounds 5] [--steps 30] [overrides of train.py ...]

Both train the same model from the same weights on the same batches, which lie in memory, with the same optimiser,
schedule, clipping, loss and precision; ours is what `train.py` builds, with its callbacks and loggers. Each round times
both, one after the other, and an overhead is of two readings of one round. The largest difference between the weights
with which they end is printed: they do the same. One thread of a CPU has its own time, which other programs hardly
change; a GPU is timed by the wall clock.
"""

import argparse
import copy
import logging
import math
import platform
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory

import lightning as L
import torch
from measure import clock
from omegaconf import DictConfig
from torch import Tensor, nn

from tubelet.training import build
from tubelet.training.classifier import Classifier
from tubelet.training.launch import compose_config, quieten
from tubelet.training.train import assemble, close_loggers
from tubelet.video.annotations import Catalogue, Video

WARM_UP = 5  # steps of a run before those that are timed
NUM_BATCHES = 4  # that are made; steps take them in turn
CLASSES = [f"class {i}" for i in range(8)]
# A tiny ViViT on longer clips: a step of about 100 ms on one core.
STEP_OF_100_MS = ["model=vivit_joint_tiny", "clip.num_frames=16", "clip.crop=64", "clip.resize=72"]
SETTINGS = [
    *("experiment=demo", "augment=none", "trainer.limit_val_batches=0", "trainer.num_sanity_val_steps=0"),
    *("data.batch_size=4", "optim.total_batch=4", "data.num_workers=0", "trainer.max_epochs=1", "recipe=none"),
]


@dataclass
class Round:
    """Seconds of a step, in each of the two loops, and the weights with which both end."""

    ours: float
    bare: float
    weights: tuple[dict[str, Tensor], dict[str, Tensor]]


class Ready(list):
    """The batches of one epoch, in the place of a loader."""

    waited = 0.0  # seconds


class Stopwatch(L.Callback):
    """From the start of the first step after the warm-up to the end of the last one."""

    def __init__(self, device: torch.device, num_steps: int):
        self.now, self.num_steps, self.seconds = clock(device.type, torch.get_num_threads()), num_steps, math.nan

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: dict, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            self.started = self.now()
        if batch_idx == WARM_UP + self.num_steps:  # all that comes between two steps is in it
            self.seconds = (self.now() - self.started) / self.num_steps


def batches(cfg: DictConfig) -> list[dict]:
    """As a training loader gives them."""
    size, views = (cfg.clip.num_frames, cfg.clip.crop, cfg.clip.crop), cfg.data.repeats
    made, draw = [], torch.Generator().manual_seed(0)
    for _ in range(NUM_BATCHES):
        videos = cfg.data.batch_size
        label = torch.randint(len(CLASSES), (videos,), generator=draw)
        made.append({
            "video": torch.randint(256, (videos, views, 3, *size), dtype=torch.uint8, generator=draw),
            "label": label,
            "shown": label[:, None].expand(-1, views),
            "frames": torch.arange(size[0]).expand(videos, views, -1),
            "fps": torch.full((videos,), 25.0),
            "index": torch.arange(videos),
            "reader": ["memory"] * videos,
            "failure": [""] * videos,
        })  # fmt: skip
    if torch.cuda.is_available():
        made = [{key: one.pin_memory() if isinstance(one, Tensor) else one for key, one in b.items()} for b in made]
    return made


def our_loop(cfg: DictConfig, num_steps: int) -> tuple[float, Classifier, dict[str, Tensor]]:
    """Seconds of a step, what trained, and the weights that it began with."""
    num_videos = cfg.data.batch_size * (WARM_UP + num_steps + 1)
    videos = [Video(f"{i}.mp4", i % len(CLASSES)) for i in range(num_videos)]
    catalogue = Catalogue(CLASSES, videos, videos[:8], videos[:8])
    classifier, data, trainer = assemble(cfg, catalogue, {}, partial(build.build_trainer, progress_bar=False))
    start = copy.deepcopy(classifier.predictor.model.state_dict())
    made = batches(cfg)
    epoch = Ready(made[i % NUM_BATCHES] for i in range(WARM_UP + num_steps + 1))
    data.train_dataloader = lambda: epoch
    watch = Stopwatch(trainer.strategy.root_device, num_steps)
    trainer.callbacks.append(watch)
    trainer.fit(classifier, data)
    close_loggers(trainer)
    return watch.seconds, classifier, start


def bare_loop(cfg: DictConfig, classifier: Classifier, start: dict[str, Tensor], num_steps: int) -> float:
    """Seconds of a step of the classifier's model, which begins again."""
    device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
    predictor = classifier.predictor.to(device).train()
    predictor.model.load_state_dict(start)
    optim, steps, now = classifier.optim, WARM_UP + num_steps + 1, clock(device.type, torch.get_num_threads())
    optimizer, schedule = optim.build(predictor.model, steps, steps, fused=device.type == "cuda")
    parameters = [p for p in predictor.model.parameters() if p.requires_grad]
    loss_of, made = nn.CrossEntropyLoss(label_smoothing=optim.label_smoothing), batches(cfg)
    mixed = cfg.trainer.precision == "bf16-mixed"
    for i in range(steps):
        if i == WARM_UP:
            started = now()
        if i == WARM_UP + num_steps:
            seconds = (now() - started) / num_steps
        batch = made[i % NUM_BATCHES]
        video, label = batch["video"].to(device, non_blocking=True), batch["label"].to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
            logits = predictor.model(predictor.normalise(video.flatten(0, 1))).float()
            loss = loss_of(logits, nn.functional.one_hot(label, len(CLASSES)).float())
        optimizer.zero_grad()
        loss.backward()
        if optim.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        optimizer.step()
        schedule.step()
    return seconds


def one_round(overrides: list[str], num_steps: int) -> Round:
    with TemporaryDirectory() as folder:
        cfg = compose_config("train", [*SETTINGS, *overrides, "run_dir=run", "name=loop"])
        cfg.run_dir, cfg.model.num_classes = folder, len(CLASSES)
        ours, classifier, start = our_loop(cfg, num_steps)
        ended = {name: value.cpu().clone() for name, value in classifier.predictor.model.state_dict().items()}
        bare = bare_loop(cfg, classifier, start, num_steps)
        again = {name: value.cpu() for name, value in classifier.predictor.model.state_dict().items()}
    return Round(ours, bare, (ended, again))


def told(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(rounds: list[Round]) -> list[str]:
    """Milliseconds of a step, what ours has more, and the share of that: median and range over the rounds."""
    ours, bare = ([1000 * getattr(one, name) for one in rounds] for name in ("ours", "bare"))
    more = [a - b for a, b in zip(ours, bare, strict=True)]
    shares = [100 * m / b for m, b in zip(more, bare, strict=True)]
    return [
        "| tubelet, ms a step | bare PyTorch, ms a step | overhead, ms | overhead, % |",
        "|---|---|---|---|",
        f"| {told(ours, '.1f')} | {told(bare, '.1f')} | {told(more, '.2f')} | {told(shares, '.2f')} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of train.py; default: a step of about 100 ms on one core")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="timed in each round, of each loop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quieten()
    logging.getLogger("tubelet").setLevel(logging.ERROR)
    overrides = options.overrides or STEP_OF_100_MS
    rounds = []
    for k in range(options.rounds):
        rounds.append(one_round(overrides, options.steps))
        print(f"round {k + 1} of {options.rounds}", file=sys.stderr)
    pairs = [pair for one in rounds for pair in zip(*(w.values() for w in one.weights), strict=True)]
    apart = max((a - b).abs().max().item() for a, b in pairs)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    print(
        f"{date.today()}; {machine}; torch {torch.__version__}, lightning {L.__version__}; `{' '.join(overrides)}`, "
        f"{options.rounds} rounds of {options.steps} steps: median (and range). "
        f"The weights of both end at most {apart:.1g} apart.\n"
    )
    print("\n".join(table(rounds)))


if __name__ == "__main__":
    main()
