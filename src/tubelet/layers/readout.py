"""From the tokens of a sequence to the one vector that the head sees. B sequences, N tokens, D width.

Papers differ in which tokens are read, and in whether the last norm comes before or after their mean. A readout is
called with the width; `class_token` says whether the sequence begins with a class token, `only_first` whether nothing
but this token is read.
"""

import torch
from torch import Tensor, nn

from tubelet.layers.attention import attend
from tubelet.layers.block import NORM_EPS, Mlp
from tubelet.layers.linear import Linear

CHANNELS = 64  # of a head, in V-JEPA's probes of ViT-B and ViT-L and in most transformers


class Readout(nn.Module):
    """What is asked of each: (B, N, D) and the model's last norm -> (B, D)."""

    class_token = False
    only_first = False

    def __init__(self, dim: int):
        super().__init__()

    @property
    def of_frames(self) -> type["Readout"]:
        """What reads each frame of a model in which this one then reads the frames."""
        return type(self)


class ClassToken(Readout):
    """The class token, normed: ViT, ViViT's released models, TimeSformer, MViT."""

    class_token = True
    only_first = True

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        return norm(x[:, 0])


class Mean(Readout):
    """The mean of the normed tokens: scenic's `gap`, and MViT without a class token."""

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return norm(x).mean(1)


class NormedMean(Readout):
    """The norm of the mean of the tokens: VideoMAE's `fc_norm`."""

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, D) -> (B, D)."""
        return norm(x.mean(1))


class NormedMeanOfPatches(Readout):
    """The same where a class token goes through the blocks and is then left out: MViT fine-tuned after MaskFeat."""

    class_token = True

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        return norm(x[:, 1:].mean(1))


class Attentive(Readout):
    """One learned query attends to all normed tokens, the class token among them; then an MLP, both with a skip path.

    The attentive probe of V-JEPA (Bardes et al. 2024) with one block, as in its official code: tokens are normed a
    second time, the query is not, and no norm stands before the head.

    heads: of the attention; None is one for each 64 channels
    mlp_ratio: hidden width of the MLP over D
    class_token: whether the model has one, as the weights that it starts from do
    """

    def __init__(self, dim: int, heads: int | None = None, mlp_ratio: float = 4.0, class_token: bool = True):
        super().__init__(dim)
        self.heads = max(dim // CHANNELS, 1) if heads is None else heads
        if self.heads < 1 or dim % self.heads:
            raise ValueError(f"model.readout: heads={self.heads} does not divide the width {dim}")
        self.class_token = class_token
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.q, self.kv = Linear(dim, dim), Linear(dim, 2 * dim)
        self.proj = Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), nn.GELU())
        self.start()

    @property
    def of_frames(self) -> type[Readout]:
        """A pretrained encoder over space is read as it was trained; only what reads the clip is new."""
        return ClassToken if self.class_token else Mean

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(B, N, D), with a class token (B, 1 + N, D) -> (B, D)."""
        q = self.q(self.query).unflatten(-1, (self.heads, -1)).expand(len(x), -1, -1, -1)  # (B, 1, heads, d)
        kv = self.kv(self.norm1(norm(x))).unflatten(-1, (2, self.heads, -1))  # (B, N, 2, heads, d)
        read = self.query + self.proj(attend(q, *kv.unbind(-3)).flatten(-2))  # (B, 1, D)
        return (read + self.mlp(self.norm2(read)))[:, 0]

    def start(self) -> None:
        """Truncated normal of deviation 0.02, that of the last layer of each branch over the root of 2; as V-JEPA.

        The init of a model, which would start these weights as its own, calls it in the end.
        """
        nn.init.trunc_normal_(self.query, std=0.02)
        for layer in (self.q, self.kv, self.proj, self.mlp.fc1, self.mlp.fc2):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for last in (self.proj, self.mlp.fc2):
            last.weight.data.div_(2**0.5)
        for norm in (self.norm1, self.norm2):
            norm.reset_parameters()
