"""tubelet predict: what a checkpoint says of video files; the file alone is enough."""

import argparse
import sys


def run() -> None:
    parser = argparse.ArgumentParser(description="Class probabilities of video files, averaged over views.")
    parser.add_argument("ckpt", help="a checkpoint that a run wrote")
    parser.add_argument("videos", nargs="+", help="video files")
    parser.add_argument("--clips", type=int, help="clips spread over each video (default: as the run was tested)")
    parser.add_argument("--crops", type=int, help="crops of each clip, 1 or 3 (default: as the run was tested)")
    parser.add_argument("--top", type=int, default=5, help="classes to name for each video")
    told = parser.parse_args()

    from tubelet.evaluation.checkpoint import load_checkpoint
    from tubelet.evaluation.predict import probabilities
    from tubelet.video.reader import DecodeError

    try:
        checkpoint = load_checkpoint(told.ckpt)
        answers = probabilities(checkpoint, told.videos, told.clips, told.crops)
        for path, answer in zip(told.videos, answers, strict=False):
            best = answer.topk(min(told.top, len(checkpoint.classes)))
            named = [f"{checkpoint.classes[k]} {p:.3f}" for k, p in zip(best.indices, best.values, strict=True)]
            print(f"{path}: {', '.join(named)}", flush=True)
    except (ValueError, OSError, DecodeError) as error:
        sys.exit(f"error: {error}")
