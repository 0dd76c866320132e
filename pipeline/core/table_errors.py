"""Errors about a Parquet table that cannot be read, as `pipeline.core.tables` raises them."""

from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import UserError, describe_error, refuse


def absent(path: Path) -> UserError:
    """The table does not exist."""
    return refuse(str(path), "no such file", "a table of an earlier stage", "Run `dvc repro`.")


def broken(path: Path, error: Exception) -> UserError:
    """The file is damaged, or no Parquet file."""
    return refuse(
        str(path), describe_error(error), "a Parquet file", "Delete it and run `dvc repro`."
    )


def wrong_schema(path: Path, actual: pa.Schema, choices: tuple[pa.Schema, ...]) -> UserError:
    """The table has other columns than each of `choices`."""
    expected = " or ".join(f"columns {_columns(choice)}" for choice in choices)
    return refuse(
        str(path), f"columns {_columns(actual)}", expected, "Delete it and run `dvc repro`."
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
