"""The library that this package is part of, called `pipeline`. A notebook's folder may have a
`pipeline.py` of its own, which Python would import instead: that is refused first."""

import importlib.util
from pathlib import Path


def _folder() -> Path:
    """The library's folder; ImportError if another module of its name comes first."""
    expected = Path(__file__).resolve().parents[1] / "pipeline" / "__init__.py"
    spec = importlib.util.find_spec("pipeline")
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != expected:
        raise ImportError(
            f"pipeline: got {spec and spec.origin}; expected {expected}, seqline's own package. "
            "Rename the other one, or run Python in another folder."
        )
    return expected.parent


FOLDER = _folder()
