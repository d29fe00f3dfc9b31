"""From the tokens of a sequence to the one vector that the head sees. B sequences, N tokens, D width.

Papers differ in which tokens are read, and in whether the last norm comes before or after their mean. `class_token`
says whether the sequence begins with a class token, `only_first` whether nothing but this token is read.
"""

from torch import Tensor, nn


class ClassToken(nn.Module):
    """The class token, normed: ViT, ViViT's released models, TimeSformer, MViT."""

    class_token = True
    only_first = True

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        return norm(x[:, 0])


class Mean(nn.Module):
    """The mean of the normed tokens: scenic's `gap`, and MViT without a class token."""

    class_token = False
    only_first = False

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return norm(x).mean(1)


class NormedMean(nn.Module):
    """The norm of the mean of the tokens: VideoMAE's `fc_norm`."""

    class_token = False
    only_first = False

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return norm(x.mean(1))


class NormedMeanOfPatches(nn.Module):
    """The same where a class token goes through the blocks and is then left out: MViT fine-tuned after MaskFeat."""

    class_token = True
    only_first = False

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        return norm(x[:, 1:].mean(1))
