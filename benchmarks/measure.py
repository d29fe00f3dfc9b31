"""How benchmarks/models.py measures: seconds in turns, and what is counted. Nothing here knows a model."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

AT_LEAST = 0.5  # seconds that one reading takes: of a shorter call several are made, and their mean is the reading


def clock(device: str, threads: int) -> Callable[[], float]:
    """Seconds. One thread of a CPU has its own time, which other programs on the machine hardly change."""
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    now: Callable[[], float],
    tell: Callable[[str], None],
    at_least: float = AT_LEAST,
) -> dict[str, list[float]]:
    """Seconds of each call, by round: A B A B, so that what slows the machine down for a while slows both."""
    warm = []
    for name, call in calls.items():
        tell(f"{name}, warming up")
        call()  # compiles where it is compiled, and makes the optimiser's state
        start = now()
        call()
        warm.append(now() - start)
    repeats = math.ceil(at_least / max(min(warm), 1e-6))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds):
        for name, call in calls.items():
            start = now()
            for _ in range(repeats):
                call()
            seconds[name].append((now() - start) / repeats)
        tell(f"round {k + 1} of {rounds}: " + ", ".join(f"{name} {taken[-1]:.4g} s" for name, taken in seconds.items()))
    return seconds


def kept_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes of the storages that the graph of `loss()` holds for the backward, each once.

    Parameters and buffers of `model` are left out. Copies of parameters in bfloat16, which autocast makes, are not.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept = {}  # holds the storages, so that no address is given away twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graph = loss()
    total = sum(storage.nbytes() for storage in kept.values())
    del graph
    return total


def peak_bytes(step: Callable[[], object]) -> int:
    """Of the GPU's memory during a step, above what was taken before it: weights, the optimiser's state, the clip."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


class LinearShapes(TorchFunctionMode):
    """Notes the products of every linear layer that runs within it: {(rows, out, in): how often}."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[tuple[int, int, int]] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear:
            x, (dim_out, dim_in) = args[0], args[1].shape
            self.shapes[x.shape[:-1].numel(), dim_out, dim_in] += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def product_rate(
    shapes: Mapping[tuple[int, int, int], int],
    dtype: torch.dtype,
    now: Callable[[], float],
    product: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """FLOP/s of products alone, over all of `shapes` as often as each occurs; of each the fastest of five calls.

    product: (rows, in), (out, in) -> (rows, out)
    """
    flops = seconds = 0.0
    for (rows, dim_out, dim_in), times in shapes.items():
        x, weight = torch.randn(rows, dim_in).to(dtype), torch.randn(dim_out, dim_in).to(dtype)
        taken = []
        for _ in range(5):
            start = now()
            product(x, weight)
            taken.append(now() - start)
        flops += 2 * rows * dim_out * dim_in * times
        seconds += min(taken) * times
    return flops / seconds


def graph_breaks(model: nn.Module, video: Tensor) -> int:
    """How often torch.compile leaves the graph in a forward."""
    torch._dynamo.reset()
    breaks = torch._dynamo.explain(model)(video).graph_break_count
    torch._dynamo.reset()
    return breaks


def top_operations(step: Callable[[], object], device: str, most: int = 10) -> list[tuple[str, int, float, float]]:
    """Name, calls, milliseconds, share of the step: of kernels on a GPU, of operators on a CPU."""
    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    step()  # what is made once is no part of a step
    with profile(activities=[activity]) as profiled:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
    attribute = f"self_{'device' if device == 'cuda' else 'cpu'}_time_total"  # microseconds
    times = {
        event.key: (event.count, getattr(event, attribute))
        for event in profiled.key_averages()
        if event.device_type.name == device.upper() and not event.is_user_annotation  # a span around kernels
    }
    total = sum(taken for _, taken in times.values())
    longest = sorted(times.items(), key=lambda item: -item[1][1])[:most]
    return [(name, count, taken / 1000, taken / total) for name, (count, taken) in longest]
