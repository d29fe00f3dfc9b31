"""tubelet order: the same checkpoint on the same videos, with their frames in order, shuffled, reversed, frozen."""

import logging
import os
import sys
from pathlib import Path

from tubelet.training.launch import compose_config, quieten, told_in_one_line

HELP = """usage: tubelet order ckpt=CKPT [overrides of conf/eval.yaml]

Evaluates a checkpoint with its frames in several orders, and prints and draws what each does to the accuracy.
A model that is blind to the order of frames keeps its top-1 under every permutation of them. On data whose classes
have a twin that is the same motion backwards (motion), 'within twin pairs' is 0.5 for such a model."""


def run() -> None:
    overrides = sys.argv[1:]
    if not overrides or overrides[0] in ("-h", "--help"):
        print(HELP)
        return
    with told_in_one_line():
        _compare(overrides)


def _compare(overrides: list[str]) -> None:
    from tubelet.analysis.plots import draw_orders
    from tubelet.evaluation.checkpoint import load_checkpoint
    from tubelet.training.evaluate import evaluate
    from tubelet.training.json_files import write_json

    base = compose_config("eval", overrides)
    folder = Path(base.run_dir).absolute()
    orders = {name: (name, 0) for name in ("forward", "strided", "shuffled", "reversed")}
    num_frames = load_checkpoint(base.ckpt).config["clip"]["num_frames"]
    orders |= {f"frozen at {at}": ("frozen", at) for at in range(num_frames)}
    quieten()
    logging.getLogger("tubelet").setLevel(logging.WARNING)
    figures = {}
    print(f"{'order':16}{'top-1':>8}{'within twins':>15}{'answered twin':>16}")
    for name, (order, at) in orders.items():
        run_dir = folder / name.replace(" ", "_")
        run_dir.mkdir(parents=True)
        shown = [*overrides, f"order={order}", f"frozen_at={at}", f"run_dir='{run_dir}'"]
        cfg = compose_config("eval", shown)
        test = figures[name] = evaluate(cfg, shown)[cfg.subset]
        twins = [f"{test[key]:.4f}" if test.get(key) is not None else "-" for key in ("within_twins", "answered_twin")]
        print(f"{name:16}{test['top1']:8.4f}{twins[0]:>15}{twins[1]:>16}", flush=True)
    write_json(folder / "orders.json", figures)
    draw_orders(figures, folder / "orders.png")
    print(f"written: {os.path.relpath(folder)}/{{orders.json,orders.png}}")
