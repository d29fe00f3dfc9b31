"""Action recognition with video transformers on PyTorch Lightning and Hydra."""

__version__ = "0.1.0"
