"""The smallest model that Lightning trains, for tests of when something happens."""

import lightning as L
import torch
from torch import nn


class Line(L.LightningModule):
    """3 numbers -> 1, and a validation that always gives the same figure."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.line(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/top1", 0.25)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
