"""Digests of files, read in blocks."""

import hashlib
from pathlib import Path
from typing import Literal

Algorithm = Literal["md5", "sha256"]


def file_digest(path: Path, algorithm: Algorithm) -> str:
    """Return the digest of the file's content in hexadecimal; OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: new_digest(algorithm)).hexdigest()


def new_digest(algorithm: Algorithm) -> "hashlib._Hash":
    """Return an empty digest. MD5 protects nothing here, so FIPS systems allow it as well."""
    return hashlib.new(algorithm, usedforsecurity=False)
