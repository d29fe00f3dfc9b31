"""From views of videos to class probabilities: what validation, test and prediction all go through."""

from torch import Tensor, nn


class Predictor(nn.Module):
    """A model with the normalisation that its weights expect."""

    def __init__(self, model: nn.Module, normalise: nn.Module):
        super().__init__()
        self.model = model
        self.normalise = normalise

    def logits(self, video: Tensor) -> Tensor:
        """uint8 (B, V, C, T, H, W) -> (B, V, num_classes)."""
        views = self.normalise(video.flatten(0, 1))  # (B * V, C, T, H, W)
        return self.model(views).float().unflatten(0, video.shape[:2])

    def forward(self, video: Tensor) -> Tensor:
        """uint8 (B, V, C, T, H, W) -> probabilities (B, num_classes): the mean of the views' softmax."""
        return self.logits(video).softmax(-1).mean(1)
