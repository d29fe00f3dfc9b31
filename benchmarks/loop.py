"""Our training loop beside a bare PyTorch loop: what Lightning, our callbacks and the logging add to a step.

    python benchmarks/loop.py [--pairs 30] [overrides of train.py ...]

Both train the same model from the same weights on the same batches, which lie in memory, with the same optimiser,
schedule, clipping, loss and precision; ours is what `train.py` builds, with its callbacks and loggers. They take turns:
ten steps of ours, as often as values are logged, then ten of the bare loop, so that what slows the machine down slows
both. The largest difference between the weights with which they end is printed: they do the same. One thread of a CPU
has its own time, which other programs hardly change; a GPU is timed by the wall clock.
"""

import argparse
import copy
import logging
import math
import platform
from contextlib import nullcontext
from datetime import date
from functools import partial
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory

import lightning as L
import torch
from measure import clock
from omegaconf import DictConfig
from torch import Tensor, nn

from tubelet.training import build
from tubelet.training.classifier import Classifier
from tubelet.training.launch import compose_config, quieten, told_in_one_line
from tubelet.training.speed import speed_up
from tubelet.training.train import assemble, close_loggers
from tubelet.video.annotations import Catalogue, Video

BLOCK = 10  # steps of a turn
NUM_BATCHES = 4  # that are made; steps take them in turn
log = logging.getLogger("loop")
CLASSES = [f"class {i}" for i in range(8)]
# A tiny ViViT on longer clips: a step of about 100 ms on one core.
STEP_OF_100_MS = ["model=vivit_joint_tiny", "clip.num_frames=16", "clip.crop=64", "clip.resize=72"]
SETTINGS = [
    *("experiment=demo", "augment=none", "trainer.limit_val_batches=0", "trainer.num_sanity_val_steps=0"),
    *("data.batch_size=4", "optim.total_batch=4", "data.num_workers=0", "trainer.max_epochs=1", "recipe=none"),
]


class Ready(list):
    """The batches of one epoch, in the place of a loader."""

    waited = 0.0  # seconds


class BareLoop:
    """Of a copy of the classifier's model."""

    def __init__(self, cfg: DictConfig, classifier: Classifier, device: torch.device, num_steps: int):
        self.device, self.mixed, self.made, self.step = device, cfg.trainer.precision == "bf16-mixed", batches(cfg), 0
        self.predictor = copy.deepcopy(classifier.predictor).to(device).train()
        speed_up(self.predictor.model, cfg.compile, cfg.activation_checkpointing)
        optim, fused = classifier.optim, device.type == "cuda"
        self.optimizer, self.schedule = optim.build(self.predictor.model, num_steps, num_steps, fused=fused)
        # In the optimiser's order, as Lightning clips: a norm summed in another order is rounded otherwise.
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.loss_of, self.clip_norm = nn.CrossEntropyLoss(label_smoothing=optim.label_smoothing), optim.clip_norm

    def run(self) -> None:
        """The steps of one turn."""
        for _ in range(BLOCK):
            batch = self.made[self.step % NUM_BATCHES]
            video, label = (batch[key].to(self.device, non_blocking=True) for key in ("video", "label"))
            with torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext():
                logits = self.predictor.model(self.predictor.normalise(video.flatten(0, 1))).float()
                loss = self.loss_of(logits, nn.functional.one_hot(label, len(CLASSES)).float())
            self.optimizer.zero_grad()
            loss.backward()
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            self.step += 1


class Turns(L.Callback):
    """Runs ten steps of the bare loop after ten of ours, and times both. The last of the callbacks."""

    def __init__(self, bare: BareLoop):
        self.bare, self.now = bare, clock(bare.device.type, torch.get_num_threads())
        self.started, self.ours, self.bares = math.nan, [], []  # seconds of a turn
        self.apart = math.nan  # the largest difference between two weights after the last turn

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: dict, batch_idx: int) -> None:
        if batch_idx == 0 or batch_idx % BLOCK:
            return
        ended = self.now()  # all that comes between two steps is in it
        self.bare.run()
        started = self.now()
        if batch_idx > BLOCK:  # the first turn of each is the warm-up
            self.ours.append(ended - self.started)
            self.bares.append(started - ended)
            log.info("turn %d: %.3f s, bare %.3f s", len(self.ours), self.ours[-1], self.bares[-1])
        pairs = zip(module.predictor.model.parameters(), self.bare.predictor.model.parameters(), strict=True)
        self.apart = max((a - b).abs().max().item() for a, b in pairs)
        self.started = self.now()


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


def take_turns(cfg: DictConfig, num_pairs: int) -> Turns:
    """Raises ValueError for what the bare loop does not do."""
    if cfg.trainer.precision not in ("32-true", "bf16-mixed"):
        raise ValueError(f"trainer.precision={cfg.trainer.precision}: the bare loop has 32-true and bf16-mixed")
    if cfg.data.repeats != 1 or cfg.optim.total_batch != cfg.data.batch_size:
        raise ValueError("the bare loop makes a step of each batch: data.repeats=1 optim.total_batch=data.batch_size")
    num_steps = BLOCK * (1 + num_pairs)
    videos = [Video(f"{i}.mp4", i % len(CLASSES)) for i in range(cfg.data.batch_size * (num_steps + 1))]
    catalogue = Catalogue(CLASSES, videos, videos[:8], videos[:8])
    classifier, data, trainer = assemble(cfg, catalogue, {}, partial(build.build_trainer, progress_bar=False))
    made = batches(cfg)
    epoch = Ready(made[i % NUM_BATCHES] for i in range(num_steps + 1))
    data.train_dataloader = lambda: epoch
    turns = Turns(BareLoop(cfg, classifier, trainer.strategy.root_device, num_steps + 1))
    trainer.callbacks.append(turns)
    trainer.fit(classifier, data)
    close_loggers(trainer)
    return turns


def told(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def mean_told(values: list[float], form: str) -> str:
    """With its 95 % interval, by the normal distribution."""
    return f"{mean(values):{form}} ± {1.96 * stdev(values) / len(values) ** 0.5:{form}}"


def table(turns: Turns) -> list[str]:
    """Milliseconds of a step: medians and ranges of the turns; what ours has more, a mean over the pairs of turns."""
    ours, bare = ([1000 * seconds / BLOCK for seconds in taken] for taken in (turns.ours, turns.bares))
    more = [a - b for a, b in zip(ours, bare, strict=True)]
    shares = [100 * m / b for m, b in zip(more, bare, strict=True)]
    return [
        "| tubelet, ms a step | bare PyTorch, ms a step | overhead, ms | overhead, % |",
        "|---|---|---|---|",
        f"| {told(ours, '.1f')} | {told(bare, '.1f')} | {mean_told(more, '.2f')} | {mean_told(shares, '.2f')} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of train.py; default: a step of about 100 ms on one core")
    parser.add_argument("--pairs", type=int, default=30, help="of turns of ten steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quieten()
    logging.getLogger("tubelet").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    overrides = options.overrides or STEP_OF_100_MS
    with TemporaryDirectory() as folder:
        cfg = compose_config("train", [*SETTINGS, *overrides, "run_dir=run", "name=loop"])
        cfg.run_dir, cfg.model.num_classes = folder, len(CLASSES)
        with told_in_one_line():
            turns = take_turns(cfg, options.pairs)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    print(
        f"{date.today()}; {machine}; torch {torch.__version__}, lightning {L.__version__}; `{' '.join(overrides)}`, "
        f"{options.pairs} pairs of turns of {BLOCK} steps: medians (and ranges), means (and their 95 % intervals). "
        f"The weights of both end at most {turns.apart:.1g} apart.\n"
    )
    print("\n".join(table(turns)))


if __name__ == "__main__":
    main()
