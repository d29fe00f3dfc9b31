"""Train a video transformer: python train.py model=timesformer_tiny data=motion (see --help, and conf/)."""

from tubelet.training.launch import launch

if __name__ == "__main__":
    launch("train")
