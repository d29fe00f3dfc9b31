"""Memory while loading: many clips through the training loader, and what the process and its workers hold.

    python benchmarks/loading_memory.py path/to/motion [--clips 20000] [overrides of conf/train.yaml]

Linux only: resident memory is read from /proc. Ends with code 1 where it grew by 50 MB or more after the first 1,000.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from tubelet.training.build_data import build_augment, build_catalogue, build_training_data
from tubelet.training.launch import compose_config

EVERY = 1000  # clips between two lines
LIMIT = 50  # MB


def resident_mb() -> float:
    """Of this process and its workers, in 10^6 bytes. Pages that they share count once for each."""
    children = Path("/proc/self/task").glob("*/children")
    processes = ["self", *(number for file in children for number in file.read_text().split())]
    status = [Path(f"/proc/{process}/status").read_text() for process in processes]
    return sum(int(text.split("VmRSS:")[1].split()[0]) for text in status) * 1024 / 1e6


def batches(root: str, overrides: list[str]) -> Iterator[int]:
    """Numbers of clips in the batches of epoch after epoch."""
    cfg = compose_config("train", ["experiment=demo", f"data.root='{root}'", "run_dir=none", "name=none", *overrides])
    catalogue = build_catalogue(cfg.data)
    data = build_training_data(cfg, catalogue, build_augment(cfg, catalogue.classes)[0])
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    loader, epoch = data.train_dataloader(), 0
    while True:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            yield len(batch["label"])
        epoch += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="where the motion videos are, or are to be generated")
    parser.add_argument("--clips", type=int, default=20_000, help="how many to load (%(default)s)")
    told, overrides = parser.parse_known_args()
    if told.clips < 2 * EVERY:
        parser.error(f"--clips {told.clips}: growth shows from {2 * EVERY} clips on")
    loaded, held, counted, started = 0, [], 0, 0.0
    print(f"{'clips':>8}{'resident':>12}{'clips/s':>10}")
    for number in batches(told.root, overrides):
        before, loaded = loaded, loaded + number
        if not before:  # the videos, which may have been generated, and the workers are there: speed counts from here
            counted, started = loaded, time.monotonic()
        if loaded // EVERY > before // EVERY:
            held.append(resident_mb())
            print(f"{loaded:8}{held[-1]:9.1f} MB{(loaded - counted) / (time.monotonic() - started):10.0f}", flush=True)
        if loaded >= told.clips:
            break
    grown = max(held) - held[0]
    print(f"after the first {EVERY}: {held[-1] - held[0]:+.1f} MB at the end, {grown:+.1f} MB at most (limit {LIMIT})")
    sys.exit(int(grown >= LIMIT))


if __name__ == "__main__":
    main()
