"""The same bytes on every x86-64 CPU with AVX2: which kernels the numerical libraries may choose.

torch, MKL, oneDNN, OpenBLAS, NumPy and Arrow choose their kernels by the CPU's instruction sets,
and sums in another order round otherwise; so do NumPy's logarithms of another width. Held to AVX2,
with the order of additions fixed, AMD EPYCs without and with AVX-512 and an Intel Xeon compute the
same weights, bit for bit (docs/log.md). The variables are read when the libraries are loaded.
`SEQLINE_CPU=native` leaves the choice to the libraries."""

import os

VARIABLES = {
    "MKL_CBWR": "AVX2,STRICT",  # Intel: "Conditional numerical reproducibility"
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # NumPy's names of AVX-512
    "ARROW_USER_SIMD_LEVEL": "AVX2",
}


def set_variables() -> dict[str, str]:
    """Set the variables that are not set, unless `SEQLINE_CPU` is `native`; return these."""
    if os.environ.get("SEQLINE_CPU") == "native":
        return {}
    added = {name: value for name, value in VARIABLES.items() if name not in os.environ}
    os.environ.update(added)
    return added
