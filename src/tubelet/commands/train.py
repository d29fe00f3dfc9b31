"""tubelet train: what train.py does, from any folder."""

from tubelet.training.launch import launch


def run() -> None:
    launch("train")
