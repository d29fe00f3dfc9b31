"""tubelet plot: learning curves and confusion matrix of a run or an evaluation."""

import argparse
import os
import sys
from pathlib import Path


def run() -> None:
    parser = argparse.ArgumentParser(description="Draw curves.png and confusion.png into a run's folder.")
    parser.add_argument("run_dir", type=Path, help="the folder of a run or an evaluation")
    folder = parser.parse_args().run_dir

    from tubelet.analysis.plots import draw_confusion, draw_curves

    sources = {"metrics.csv": (draw_curves, "curves.png"), "predictions.csv": (draw_confusion, "confusion.png")}
    found = [name for name in sources if (folder / name).exists()]
    if not found:
        sys.exit(f"error: {folder} holds neither {' nor '.join(sources)}")
    for name in found:
        draw, picture = sources[name]
        draw(folder / name, folder / picture)
        print(f"written: {os.path.relpath(folder / picture)}")
