"""tubelet predict: what a checkpoint says of video files; the file alone is enough."""

import argparse
import math
import sys

from tubelet.training.launch import told_in_one_line


def run() -> None:
    parser = argparse.ArgumentParser(description="Class probabilities of video files, averaged over views.")
    parser.add_argument("ckpt", help="a checkpoint that a run wrote")
    parser.add_argument("videos", nargs="+", help="video files")
    parser.add_argument("--clips", type=int, help="clips spread over each video (default: as the run was tested)")
    parser.add_argument("--crops", type=int, help="crops of each clip, 1 or 3 (default: as the run was tested)")
    parser.add_argument("--top", type=int, default=5, help="classes to name for each video (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,  # that of data.time_limit in conf/data
        help="for one video, after which it counts as one that cannot be read, as data.time_limit (%(default)g)",
    )
    told = parser.parse_args()
    for name, value in (("--clips", told.clips), ("--top", told.top)):
        if value is not None and value < 1:
            sys.exit(f"error: {name} {value} is not a whole number of at least 1")
    if not 0 < told.seconds < math.inf:
        sys.exit(f"error: --seconds {told.seconds:g} is not a positive number of seconds")
    with told_in_one_line():
        sys.exit(_predict(told))


def _predict(told: argparse.Namespace) -> int:
    """Prints a line for each video; the exit code is 1 where one could not be read."""
    from tubelet.evaluation.checkpoint import load_checkpoint
    from tubelet.evaluation.predict import predictions
    from tubelet.video.reader import DecodeError

    checkpoint = load_checkpoint(told.ckpt)
    failed = 0
    answers = predictions(checkpoint, told.videos, told.clips, told.crops, told.seconds)
    for path, answer in zip(told.videos, answers, strict=True):
        if isinstance(answer, DecodeError):
            failed += 1
            print(f"error: {answer}", file=sys.stderr)
            continue
        best = answer.topk(min(told.top, len(checkpoint.classes)))
        named = [f"{checkpoint.classes[k]} {p:.3f}" for k, p in zip(best.indices, best.values, strict=True)]
        print(f"{path}: {', '.join(named)}", flush=True)
    return int(failed > 0)
