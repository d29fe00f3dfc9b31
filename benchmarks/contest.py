"""One of our models against its peer: everything that benchmarks/models.py reads of a pair.

A column is a model as it runs: `peer` and `ours`, and where both are compiled as well `peer compiled` and
`ours compiled`, which share their weights with the first two. A side is `peer` or `ours`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from measure import (
    LinearShapes,
    clock,
    graph_breaks,
    in_turns,
    kept_bytes,
    peak_bytes,
    product_rate,
    top_operations,
)
from pairs import CLASSES, Pair
from tables import Readings, operations_table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tubelet.layers.linear import linear

LOGITS_DIFFER = 1e-4  # float32 on sums over up to 25,088 tokens, sixteen blocks deep
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """device: cpu or cuda; bf16: under autocast, weights in fp32; peak: FLOP/s of a GPU, None where it is not known."""

    device: str
    bf16: bool
    threads: int
    rounds: int
    compiled: bool
    peak: float | None


class Contest:
    """video: clips (B, C, T, H, W); macs: multiply-accumulates of a forward of all of them, by our own count."""

    def __init__(self, name: str, pair: Pair, video: Tensor, macs: int, setting: Setting, tell: Callable[[str], None]):
        self.name, self.macs, self.setting, self.tell = name, macs, setting, tell
        self.share = "% of the limit" if setting.device == "cpu" else "MFU in %"
        self.now = clock(setting.device, setting.threads)
        self.models = {side: model.to(setting.device) for side, model in (("peer", pair.peer), ("ours", pair.ours))}
        clips = {"peer": pair.to_peer(video).contiguous(), "ours": video}  # turned before the clock starts
        self.videos = {side: clip.to(setting.device) for side, clip in clips.items()}
        self.label = torch.arange(len(video), device=setting.device) % CLASSES
        self.columns: dict[str, Callable[[Tensor], Tensor]] = dict(self.models)
        if setting.compiled:
            self.columns |= {f"{side} compiled": torch.compile(model) for side, model in self.models.items()}
        # A rate of zero leaves the weights as they are; the work is the same.
        self.optimisers = {
            side: torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
            for side, model in self.models.items()
            if setting.device == "cuda"
        }

    @torch.no_grad()
    def compare_logits(self) -> str:
        """How far they are apart, in words. Raises SystemExit where they are not the same in float32."""
        self._train(False)
        self.tell("comparing logits")
        peer, ours = (model(self.videos[side]) for side, model in self.models.items())
        distance = (peer - ours).abs().max().item()
        if not distance <= LOGITS_DIFFER:  # nor may it be NaN
            raise SystemExit(f"error: {self.name}: logits differ by {distance:.2g}, more than {LOGITS_DIFFER}")
        words = f"Logits of standard deviation {peer.std():.2f} differ by at most {distance:.1e} in float32"
        if not self.setting.bf16:
            return f"{words}."
        apart = {side: (self._logits(side) - peer).abs().max().item() for side in self.models}
        return f"{words}; in bf16 the peer's differ from these by {apart['peer']:.1e}, ours by {apart['ours']:.1e}."

    @torch.no_grad()
    def limit(self) -> float | None:
        """FLOP/s that products could have: of a CPU as measured now at the shapes of ours, of a GPU as published.

        By the fastest product that is known here, which is that of our layers.
        """
        if self.setting.device == "cuda":
            return self.setting.peak
        self.tell("matrix products alone")
        ours, video = self.models["ours"], self.videos["ours"]
        with FakeTensorMode(allow_non_fake_inputs=True) as fake, LinearShapes() as noted:  # shapes alone: nothing runs
            ours(fake.from_tensor(video))
        return product_rate(noted.shapes, torch.bfloat16 if self.setting.bf16 else torch.float32, self.now, linear)

    def readings(self, limit: float | None) -> list[Readings]:
        """All rows of the table, in its order."""
        self._train(False)
        breaks = self._counted("graph breaks", "", self.models, self._breaks)  # first, as it forgets what is compiled
        forward, step = self._in_turns("forward", self.forward, False), self._in_turns("training step", self.step, True)
        rows = []
        for seconds, times in ((forward, 1), (step, 3)):  # the backward has twice the products of the forward
            flops = 2 * self.macs * times
            rows += [seconds, self._derived(seconds, "clips/s", len(self.label))]
            rows += [self._derived(seconds, self.share, 100 * flops / limit)] if limit else []
        rows.append(self._counted("kept for the backward", "MiB", self.models, self._kept))
        if self.setting.device == "cuda":
            rows.append(self._counted("peak memory of a step", "MiB", self.columns, self._peak))
        return [*rows, breaks]

    def longest_operations(self) -> str:
        """The operations of a training step that take most, of every column."""
        self._train(True)
        tables = []
        for column in self.columns:
            self.tell(f"{column}: profile of a training step")
            found = top_operations(partial(self.step, column), self.setting.device)
            tables.append(operations_table(column, found))
        return "\n\n".join(tables)

    @torch.no_grad()
    def forward(self, column: str) -> Tensor:
        return self._logits(column)

    def step(self, column: str) -> None:
        """Forward, loss and backward; on a GPU AdamW as well. No gradient is left, as memory is read between steps."""
        side = _side(column)
        self._loss(column).backward()
        if side in self.optimisers:
            self.optimisers[side].step()
        self.models[side].zero_grad(set_to_none=True)

    def _logits(self, column: str) -> Tensor:
        with torch.autocast(self.setting.device, torch.bfloat16, enabled=self.setting.bf16):
            return self.columns[column](self.videos[_side(column)])

    def _loss(self, column: str) -> Tensor:
        return F.cross_entropy(self._logits(column).float(), self.label)

    def _train(self, mode: bool) -> None:
        for model in self.models.values():
            model.train(mode)

    def _in_turns(self, measure: str, call: Callable[[str], object], train: bool) -> Readings:
        self._train(train)
        calls = {column: partial(call, column) for column in self.columns}
        seconds = in_turns(calls, self.setting.rounds, self.now, lambda line: self.tell(f"{measure}, {line}"))
        return Readings(self.name, measure, "s", seconds)

    def _derived(self, seconds: Readings, unit: str, amount: float) -> Readings:
        """`amount` per second."""
        columns = {column: [amount / taken for taken in values] for column, values in seconds.columns.items()}
        return Readings(self.name, seconds.measure, unit, columns)

    def _counted(self, measure: str, unit: str, columns: Iterable[str], of: Callable[[str], float]) -> Readings:
        self.tell(measure)
        return Readings(self.name, measure, unit, {column: [of(column)] for column in columns})

    def _kept(self, side: str) -> float:
        return kept_bytes(self.models[side], lambda: self._loss(side)) / MIB

    def _peak(self, column: str) -> float:
        return peak_bytes(lambda: self.step(column)) / MIB

    @torch.no_grad()
    def _breaks(self, side: str) -> float:
        return graph_breaks(self.models[side], self.videos[side])


def _side(column: str) -> str:
    """`ours compiled` -> `ours`."""
    return column.removesuffix(" compiled")
