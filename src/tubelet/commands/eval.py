"""tubelet eval: what eval.py does, from any folder."""

from tubelet.training.launch import launch


def run() -> None:
    launch("eval")
