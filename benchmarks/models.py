"""Our models against the peers' on one machine in one run: the same weights, the same clips, the same logits.

    python benchmarks/models.py --models mvit_v2_s,vivit_joint --rounds 5              # CPU, fp32, one thread
    python benchmarks/models.py --device cuda --dtype bf16 --batch 8 --compile

Peers: torchvision (mvit_v2_s, mvit_v1_b), transformers (vivit_joint, timesformer) and timm (vit_b: ViT-B on images,
the roof). One that is not installed is left out. Logits are compared first, in float32. Then each reading of the peer
is followed by one of ours, and a ratio is of two readings of one round. Progress goes to the standard error; the tables
to the standard output and to OUT/models.md, and every reading to OUT/models.csv, after each model.
"""

import argparse
import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from contest import Contest, Setting
from pairs import CASES
from tables import Readings, table, write_csv

from tubelet.analysis.cost import count
from tubelet.layers import linear

ROOT = Path(__file__).parents[1]
MARK = "<!-- written by benchmarks/models.py -->"
SMALL = (8, 112)  # frames, pixels
BF16_PEAKS = {"H100": 989.4, "H200": 989.4}  # TFLOP/s, dense, of the SXM boards: NVIDIA's data sheets


def main() -> None:
    told = arguments()
    if told.device == "cpu":
        torch.set_num_threads(told.threads)
        linear.AMD &= not told.torchs_products
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    setting = Setting(told.device, told.dtype == "bf16", told.threads, told.rounds, told.compile, peak(told))
    pages, readings = [head(told)], list[Readings]()
    for name in told.models:
        try:
            page, of_model = compare(name, told.size == "small", told.batch, setting, told.profile)
        except ModuleNotFoundError as error:
            tell(f"{name} is left out: {error.name} is not installed")
            continue
        pages, readings = [*pages, page], readings + of_model
        print(f"{page}\n", flush=True)
        told.out.parent.mkdir(parents=True, exist_ok=True)
        told.out.write_text("\n\n".join(pages) + "\n")
        write_csv(told.out.with_suffix(".csv"), readings)
    if readings:
        tell(f"written: {told.out} and {told.out.with_suffix('.csv').name}")


def compare(name: str, small: bool, batch: int, setting: Setting, profile: bool) -> tuple[str, list[Readings]]:
    """(its part of the page, its readings)."""
    case = CASES[name]
    num_frames, crop = (min(case.num_frames, SMALL[0]), SMALL[1]) if small else (case.num_frames, case.crop)
    size = f"{num_frames} frame{'s' * (num_frames > 1)} of {crop} pixels"
    tell(f"{name}: {size}, building both")
    torch.manual_seed(0)
    pair, clips = case.pair(num_frames, crop), batch * case.clips
    macs = count(pair.build, num_frames, crop, memory=False).macs() * clips
    video = torch.randn(clips, 3, num_frames, crop, crop)
    contest = Contest(name, pair, video, macs, setting, lambda line: tell(f"{name}: {line}"))
    words = [f"{clips} clip{'s' * (clips > 1)} of {size}.", contest.compare_logits()]
    limit = contest.limit()
    if limit:
        words.append(limit_in_words(2 * macs, limit, setting.device))
    readings = contest.readings(limit)
    parts = [f"### `{name}` against {pair.package}", " ".join(words), table(readings, setting.compiled)]
    if profile or setting.device == "cuda":
        parts.append(contest.longest_operations())
    return "\n\n".join(parts), readings


def limit_in_words(flops: int, limit: float, device: str) -> str:
    """flops: of a forward; limit: FLOP/s."""
    source = "The GPU's published peak is" if device == "cuda" else "Linear layers alone, at the shapes of ours, do"
    ideal = f"{flops / limit:.3g} s, a training step {3 * flops / limit:.3g} s"
    return f"{source} {limit / 1e9:,.0f} GFLOP/s; at this limit the {flops / 1e9:,.1f} GFLOP of a forward take {ideal}."


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: %(default)s")
    parser.add_argument("--models", default=",".join(CASES), help="default: all, %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of a reading of each, in turns; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU; one is timed by its own time")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast, weights in fp32")
    parser.add_argument(
        "--size", choices=["full", "small"], default="full", help="as published; 8 frames of 112 pixels"
    )
    parser.add_argument("--batch", type=int, help="clips; default: 1 on a CPU, 8 on a GPU")
    parser.add_argument("--torchs-products", action="store_true", help="ours without oneDNN, as on an Intel CPU")
    parser.add_argument("--compile", action="store_true", help="both under torch.compile as well")
    parser.add_argument("--profile", action="store_true", help="the longest operations of a step; always on a GPU")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in this dtype; bf16 of H100 and H200 is known")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="FOLDER, or FILE.md")
    told = parser.parse_args()
    told.models = told.models.split(",")
    if told.batch is None:
        told.batch = 8 if told.device == "cuda" else 1
    told.out = told.out if told.out.suffix == ".md" else told.out / "models.md"
    if unknown := [name for name in told.models if name not in CASES]:
        parser.error(f"--models: {unknown[0]!r} is none of {', '.join(CASES)}")
    if min(told.rounds, told.threads, told.batch) < 1:
        parser.error("--rounds, --threads and --batch are at least 1")
    if told.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    if told.out.exists() and not told.out.read_text().startswith(MARK):
        parser.error(f"--out: {told.out} was not written by this script, and would be lost")
    return told


def peak(told: argparse.Namespace) -> float | None:
    """FLOP/s of the GPU, None where nobody says."""
    if told.peak_tflops or told.device == "cpu" or told.dtype == "fp32":
        return told.peak_tflops and told.peak_tflops * 1e12
    known = [tflops for board, tflops in BF16_PEAKS.items() if board in torch.cuda.get_device_name()]
    if not known:
        tell(f"no share of the limit: type --peak-tflops for {torch.cuda.get_device_name()}")
    return known[0] * 1e12 if known else None


def head(told: argparse.Namespace) -> str:
    """How the tables below it were made."""
    threads = f", {told.threads} thread{'s' * (told.threads > 1)}" if told.device == "cpu" else ""
    git = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    words = [
        f"{datetime.date.today()}",
        f"{device_name(told.device)}{threads}, load {os.getloadavg()[0]:.1f} at the start",
        f"torch {torch.__version__}, Python {platform.python_version()}, tubelet {git.stdout.strip() or 'without git'}",
        f"{told.dtype}, medians (and ranges) of {told.rounds} round{'s' * (told.rounds > 1)}.",
    ]
    title = f"## {told.device.upper()}, {told.dtype}, {told.size} size"
    return "\n\n".join([MARK, title, f"`python benchmarks/models.py {shlex.join(sys.argv[1:])}`", "; ".join(words)])


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
