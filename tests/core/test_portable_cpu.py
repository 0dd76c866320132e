"""Which kernels the numerical libraries may choose."""

import os
import subprocess
import sys

import pytest

from pipeline.core import portable_cpu

PROGRAM = (
    "import pipeline.core, os, torch; "
    "print(torch.backends.cpu.get_cpu_capability(), os.environ.get('MKL_CBWR'))"
)
LIBRARIES = """
import pipeline.core, numpy.lib.introspect, pyarrow
targets = numpy.lib.introspect.opt_func_info("^(log|exp|power)$", "float64")
print({kernel["current"] for kernels in targets.values() for kernel in kernels.values()})
print(pyarrow.runtime_info().simd_level)
"""


def printed(program: str = PROGRAM, **variables: str) -> str:
    kept = {key: os.environ[key] for key in os.environ if key not in portable_cpu.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_kernels_are_held_to_avx2_before_torch_is_loaded() -> None:
    assert printed() == "AVX2 AVX2,STRICT"


def test_numpy_and_arrow_use_no_avx512() -> None:
    numpy_kernels, arrow_level = printed(LIBRARIES).splitlines()
    assert "AVX512" not in numpy_kernels
    assert "X86_V4" not in numpy_kernels
    assert arrow_level in ("avx2", "avx", "sse4_2", "none")


def test_a_variable_of_the_user_stays() -> None:
    assert printed(MKL_CBWR="COMPATIBLE").endswith(" COMPATIBLE")


def test_native_leaves_the_choice_to_the_libraries() -> None:
    assert printed(SEQLINE_CPU="native").endswith(" None")


def test_what_was_added_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in portable_cpu.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "AVX")
    monkeypatch.delenv("SEQLINE_CPU", raising=False)
    assert portable_cpu.set_variables().keys() == portable_cpu.VARIABLES.keys() - {"MKL_CBWR"}
