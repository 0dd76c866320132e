"""Digests of files, read in blocks."""

import hashlib
from pathlib import Path
from typing import Literal

Algorithm = Literal["md5", "sha256"]


def file_digest(path: Path, algorithm: Algorithm) -> str:
    """Return the digest of the file's content in hexadecimal; OSError if it cannot be read."""
    return _hash_file(path, algorithm).hexdigest()


def add_file(digest: "hashlib._Hash", name: str, path: Path) -> None:
    """Add a file to the digest of several: its name, and the digest of its content by the same
    algorithm. OSError if it cannot be read."""
    digest.update(name.encode() + b"\0" + _hash_file(path, digest.name).digest())


def new_digest(algorithm: str) -> "hashlib._Hash":
    """Return an empty digest. MD5 protects nothing here, so FIPS systems allow it as well."""
    return hashlib.new(algorithm, usedforsecurity=False)


def _hash_file(path: Path, algorithm: str) -> "hashlib._Hash":
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: new_digest(algorithm))
