"""Small runs are ended at random steps and resumed, and must end as one that nothing ended: `make soak`, on Linux.

20 are killed, 5 more on two ranks, whole or one rank of them, and 5 are asked to end (SIGTERM). What is compared is all
that training carries on with: weights, their average, the optimiser's state and each rank's generator; and the best
checkpoint. What a kill leaves running must be gone within a minute. One line a trial, a table at the end, exit code 1
if anything differs.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
STEPS = 18  # of the run below: 3 epochs of 6 steps of 2 batches on one rank, of 1 batch on two
FIRST_SAVE = 2  # and then each second step, so that half of the kills lose one
RUN = [  # drop path draws from torch's generator; RandAugment, MixUp and CutMix from those of epoch, video and batch
    *("experiment=demo", "augment=randaugment", "data.repeats=2", "optim.total_batch=8", "data.batch_size=2"),
    *("data.train=24", "data.val=8", "data.test=16", "data.num_workers=2", "trainer.max_epochs=3"),
    *("model.depth=2", "model.drop_path=0.3", "callbacks=ema", "callbacks.ema.decay=0.8"),
    *(f"callbacks.last.every_n_steps={FIRST_SAVE}", "trainer.log_every_n_steps=1", "trainer.val_check_interval=0.5"),
    *("logger=csv", "+logger.csv.flush_logs_every_n_steps=1", "run_dir=run"),
]
TRAINER = {1: "trainer=cpu", 2: "trainer=ddp_cpu"}
CARRIED = (
    *("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "generators"),
    "losses",
)
PATIENCE = 60.0  # seconds in which everything of an ended run must be gone


@dataclass
class Trial:
    """victims: all processes, or rank 0, or rank 1. What follows is found out; left: processes after a minute."""

    number: int
    signal: str
    ranks: int
    victims: str
    step: int = 0
    code: int = 0
    seconds: float = 0.0
    left: int = 0
    saved: int = 0
    differs: str = ""

    def good(self) -> bool:
        return not self.differs and not self.left and self.seconds < PATIENCE


def trials(kills: int, on_two: int, terms: int) -> list[Trial]:
    victims = ("all", "rank 0", "rank 1")
    planned = [("SIGKILL", 1, "all")] * kills + [("SIGKILL", 2, victims[i % 3]) for i in range(on_two)]
    planned += [("SIGTERM", 1 + i % 2, "rank 0" if i % 4 < 2 else "all") for i in range(terms)]
    return [Trial(number, *plan) for number, plan in enumerate(planned, 1)]


def start(cwd: Path, *overrides: str) -> subprocess.Popen:
    """train.py in a session of its own, which tells its processes from all others."""
    environment = os.environ | {"HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    with open(cwd / "log.txt", "a") as log:
        return subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True)


def processes(session: int) -> dict[int, str]:
    """Id and command line of those of a session that have not ended."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(its_session) == session and state not in "ZX":
            found[int(folder.name)] = command
    return found


def gone(session: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while processes(session) and time.monotonic() < end:
        time.sleep(0.2)
    return not processes(session)


def steps_done(run: Path) -> int:
    """Optimiser steps that a run has done or begun, as it logged them."""
    if not (run / "metrics.csv").exists():
        return 0
    with open(run / "metrics.csv", newline="") as file:
        steps = [row.get("step") or "" for row in csv.DictReader(file)]  # the file may be half written
    return max((int(step) + 1 for step in steps if step.isdigit()), default=0)


def end(process: subprocess.Popen, number: int, victims: str) -> None:
    """Send the signal to `all`, as a terminal or a scheduler does, or to one rank."""
    if victims == "all":
        os.killpg(process.pid, number)
    elif victims == "rank 0":
        os.kill(process.pid, number)
    else:
        ranks = [pid for pid, command in processes(process.pid).items() if "tubelet.training.ranks" in command]
        os.kill(min(ranks), number)  # its loader's processes, which have the same command line, are younger


def difference(path: str, then: Any, now: Any) -> str:
    """The first place where two contents differ; empty where none does."""
    if isinstance(then, dict) and isinstance(now, dict) and then.keys() == now.keys():
        pairs = ((f"{path}.{key}", then[key], now[key]) for key in then)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = ((f"{path}.{i}", *pair) for i, pair in enumerate(zip(then, now, strict=True)))
    else:
        same = then.equal(now) if isinstance(then, torch.Tensor) and isinstance(now, torch.Tensor) else then == now
        return "" if same else path
    return next(filter(None, (difference(*pair) for pair in pairs)), "")


def carried(run: Path) -> dict[str, Any]:
    last, best = (torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("last", "best"))
    states = (state for key, state in last["callbacks"].items() if key.startswith("ModelCheckpoint"))
    kept = {"scores": [state["best_model_score"] for state in states]}
    kept |= {"step": best["global_step"], "weights": best["state_dict"]}
    return {name: last[name] for name in CARRIED if name in last} | {"best": kept}


def attempt(trial: Trial, draw: random.Random, overrides: list[str], wholes: dict[int, Path]) -> Trial:
    with tempfile.TemporaryDirectory() as folder:
        cwd, run = Path(folder), Path(folder, "run")
        overrides = [*overrides, TRAINER[trial.ranks]]
        at, pause = draw.randrange(FIRST_SAVE + 1, STEPS), draw.uniform(0, 0.3)
        with start(cwd, *overrides) as process:
            while process.poll() is None and steps_done(run) < at:
                time.sleep(0.02)
            time.sleep(pause)  # so that it is not always hit where it logs
            if process.poll() is not None:
                raise RuntimeError(f"trial {trial.number} ended before it was ended:\n{(cwd / 'log.txt').read_text()}")
            trial.step, began = steps_done(run), time.monotonic()
            end(process, signal.Signals[trial.signal], trial.victims)
            gone(process.pid, 2 * PATIENCE)
            trial.seconds, trial.left = round(time.monotonic() - began, 1), len(processes(process.pid))
            trial.code = process.wait(PATIENCE)
        trial.saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
        if start(cwd, *overrides, "ckpt=last").wait() != 0:
            raise RuntimeError(f"trial {trial.number} was not resumed:\n{(cwd / 'log.txt').read_text()}")
        trial.differs = difference("", carried(wholes[trial.ranks]), carried(run))
    print(f"{trial.number:3}  {'same' if trial.good() else 'DIFFERS'}  {trial}", flush=True)
    return trial


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="on one rank")
    parser.add_argument("--on-two", type=int, default=5, help="kills on two ranks")
    parser.add_argument("--terms", type=int, default=5, help="on one rank and on two in turns")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the steps")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    planned = trials(given.kills, given.on_two, given.terms)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        overrides, wholes = [*RUN, f"data.root={folder}/motion"], {}
        for ranks in sorted({trial.ranks for trial in planned}):
            cwd = Path(folder, f"{ranks}")
            cwd.mkdir()
            if start(cwd, *overrides, TRAINER[ranks], "data.num_workers=0").wait() != 0:
                raise RuntimeError((cwd / "log.txt").read_text())
            wholes[ranks] = cwd / "run"
        draws = [random.Random(f"{given.seed} {trial.number}") for trial in planned]
        done = list(pool.map(partial(attempt, overrides=overrides, wholes=wholes), planned, draws))
    print("\n  #  signal   ranks  to      at step  exit  ended in  left  resumed from  differs")
    for trial in done:
        print("{:3}  {:8} {:5}  {:7} {:7}  {:4}  {:6.1f} s  {:4}  step {:7}  {}".format(*astuple(trial)))
    failed = [trial.number for trial in done if not trial.good()]
    print(
        f"{len(done) - len(failed)} of {len(done)} ended as the run that nothing ended"
        + f"; not: {failed}" * bool(failed)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
