"""The whole way from video files to weights: whether data keeps up, clips a second, memory and MFU.

    python benchmarks/training.py [--peak-tflops 989.4] [overrides of train.py ...]

Four files as those of Kinetics are generated (340 x 256, H.264, 10 s), and stand in a folder under many names; a dry
run of `train.py` trains on them. Without overrides: MViTv2-S by its recipe, on one GPU, in bfloat16, compiled. MFU is
what the model's multiplications take (analysis/cost.py; a backward counts twice the forward) over the GPU's peak.
"""

import argparse
import csv
import logging
import os
import platform
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from pipelines.files import generated

from tubelet.analysis.cost import count
from tubelet.training.build import build_model
from tubelet.training.dry_run import Estimate, dry_run
from tubelet.training.launch import compose_config, quieten

NUM_CLASSES = 400
NUM_VIDEOS = {"train": 8000, "val": 400}
MVIT_ON_A_GPU = ["model=mvit", "trainer=gpu", "compile=true", "data.num_workers=14", "data.batch_size=32"]
H100_BF16 = 989.4  # TFLOP/s without sparsity, by NVIDIA's data sheet


def write_kinetics(root: Path) -> None:
    """In the layout of Kinetics-400: every class has equally many videos, which are links to four files."""
    files = [Path(video.path).absolute() for video in generated("kinetics", root / "files")]
    for split, num_videos in NUM_VIDEOS.items():
        (root / split).mkdir()
        with open(root / f"{split}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            for i in range(num_videos):
                name = f"{split:_<5}{i:06d}"
                rows.writerow([f"class {i % NUM_CLASSES:03d}", name, 0, 10, split])
                os.link(files[i % len(files)], root / split / f"{name}_000000_000010.mp4")


def measure(overrides: list[str]) -> tuple[Estimate, float]:
    """A dry run; FLOPs of a clip's training."""
    with TemporaryDirectory() as folder:
        write_kinetics(Path(folder))
        settings = ["data=kinetics400", f"data.root={folder}", "name=training", f"run_dir={folder}/run"]
        cfg = compose_config("train", [*settings, *overrides])
        Path(cfg.run_dir).mkdir()
        found = dry_run(cfg, overrides)
    cost = count(partial(build_model, cfg.model, NUM_CLASSES), cfg.clip.num_frames, cfg.clip.crop, memory=False)
    return found, 3 * 2 * cost.macs()


def row(found: Estimate, flops: float, peak: float) -> str:
    rate = flops * found.clips_per_second / 1e12
    return (
        f"| {found.clips_per_second:.1f} | {1000 * found.step_time:.1f} | {found.waiting:.1%} "
        f"| {found.peak_memory} | {rate:.2f} | {rate / peak:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of train.py; default: MViTv2-S on one GPU")
    parser.add_argument("--peak-tflops", type=float, default=H100_BF16, help="of the device; default: H100, bfloat16")
    options = parser.parse_args()
    quieten()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    overrides = options.overrides or MVIT_ON_A_GPU
    found, flops = measure(overrides)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    print(f"\n{date.today()}; {device}, {os.cpu_count()} cores; torch {torch.__version__}; `{' '.join(overrides)}`\n")
    print("| clips/s | step, ms | waiting for data | peak memory, MiB | TFLOP/s | MFU |")
    print("|---|---|---|---|---|---|")
    print(row(found, flops, options.peak_tflops))


if __name__ == "__main__":
    main()
