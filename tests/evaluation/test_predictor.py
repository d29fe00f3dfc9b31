import torch
from torch import nn

from tubelet.evaluation.predictor import Predictor
from tubelet.video.transforms import Normalise


class Means(nn.Module):
    """Logits of a clip: the mean of each of its three channels."""

    def forward(self, video):
        return video.mean(dim=(2, 3, 4))


def test_probabilities_are_the_mean_of_the_softmax_of_every_view():
    video = torch.randint(0, 256, (2, 4, 3, 5, 6, 7), dtype=torch.uint8)  # (B, V, C, T, H, W)
    predictor = Predictor(Means(), Normalise(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3]))
    expected = []
    for views in video:
        logits = [(v.float().mean(dim=(1, 2, 3)) / 255 - torch.tensor([0.5, 0.4, 0.3])) for v in views]
        scaled = [logit / torch.tensor([0.1, 0.2, 0.3]) for logit in logits]
        expected.append(torch.stack([s.softmax(0) for s in scaled]).mean(0))
    torch.testing.assert_close(predictor(video), torch.stack(expected), atol=1e-5, rtol=0)  # float32 sums of 210 values
