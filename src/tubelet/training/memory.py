"""The most memory that a run had at a time."""

import sys
from pathlib import Path

import torch

PEAK_OF_PROCESS = Path("/proc/self/clear_refs")  # Linux: writing 5 sets the peak to what the process has now


def forget_peak_memory() -> None:
    """Begin anew, since the jobs of a sweep follow each other in one process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        PEAK_OF_PROCESS.write_text("5")
    except OSError:
        return  # elsewhere than on Linux the peak of a job is at least that of the jobs before it


def peak_memory_mib(device: torch.device) -> float | None:
    """MiB: on a GPU what tensors took of it, else the resident memory of this process, Python and libraries included.

    Of this rank alone, without the processes that decode. None where the system does not tell, as on Windows.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
