"""Installed versions of packages, and the option `--version`."""

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

_LIBRARIES = ("torch", "dvc", "mlflow", "prefect")


def installed(package: str) -> str | None:
    """Return the installed version of a package; None if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Version(argparse.Action):
    """The option `--version`: print the versions of seqline, Python and the libraries, and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: Any) -> NoReturn:
        """Print and exit."""
        python = sys.version.split()[0]
        libraries = [f"{name} {installed(name) or 'is not installed'}" for name in _LIBRARIES]
        version = installed("seqline") or "is not installed"
        print(f"seqline {version} (Python {python}, {', '.join(libraries)})")
        sys.exit(0)
