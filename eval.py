"""Evaluate a checkpoint: python eval.py ckpt=runs/.../checkpoints/best.ckpt (see --help, and conf/eval.yaml)."""

from tubelet.training.launch import launch

if __name__ == "__main__":
    launch("eval")
