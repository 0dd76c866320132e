"""Memory of the training process, and slow kernels."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.core import portable_cpu
from pipeline.training import devices

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


CPU = torch.device("cpu")
LIMIT = "ONEDNN_MAX_CPU_ISA"


@pytest.fixture
def cpu_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of /proc/cpuinfo; kernels are not held to AVX2."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(devices, "_CPU_INFO", path)
    monkeypatch.delenv(LIMIT, raising=False)
    return path


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_bfloat16_instructions_gives_no_warning(cpu_info: Path, flag: str) -> None:
    cpu_info.write_text(f"model name : A\nflags\t\t: fpu avx2 {flag} amx_tile\n")
    assert devices.bfloat16_warning(CPU) == ""


def test_a_cpu_without_bfloat16_instructions_gives_a_warning(cpu_info: Path) -> None:
    cpu_info.write_text("flags\t\t: fpu avx2 avx512f avx512_bf16_not\n")
    assert devices.bfloat16_warning(CPU) == "this CPU has neither AVX512-BF16 nor AMX"


def test_kernels_held_to_avx2_give_a_warning_on_any_cpu(
    cpu_info: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_info.write_text("flags\t\t: fpu avx2 avx512_bf16 amx_bf16\n")
    monkeypatch.setenv(LIMIT, portable_cpu.VARIABLES[LIMIT])
    assert "SEQLINE_CPU=native" in devices.bfloat16_warning(CPU)

    monkeypatch.setenv(LIMIT, "AVX512_CORE_AMX")
    assert devices.bfloat16_warning(CPU) == ""


def test_other_devices_and_systems_without_the_file_give_no_warning(cpu_info: Path) -> None:
    assert devices.bfloat16_warning(CPU) == ""
    cpu_info.write_text("flags : fpu\n")
    assert devices.bfloat16_warning(torch.device("cuda")) == ""
