"""Processes that load clips: what becomes of the memory of a clip."""

import platform
import subprocess
import sys

import pytest

BLOCKS = """
import resource
from tubelet.video.processes import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(3 * 2**20) for _ in range(11)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given = [pages() for _ in range(3)]
keep_freed_memory()
kept = [pages() for _ in range(3)]
print(min(given), max(kept[1:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere the allocator is another")
def test_a_process_that_loads_clips_takes_the_memory_of_each_from_the_system_once():
    told = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True).stdout
    given, kept = map(int, told.split())
    assert given > 1000  # 33 MB are 8448 pages of 4 KB: so it is without
    assert kept < 100
