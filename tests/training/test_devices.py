"""Memory of the training process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from pipeline.training import devices

devices.reuse_freed_memory()

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(page_faults() for _ in range(10)))  # the heap grows in the first ones
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_the_memory_of_freed_tensors_is_used_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    # Mapped anew, the tensors would have 65,536 pages of 4 KiB, or 128 of 2 MiB.
    assert int(done.stdout) < 100
