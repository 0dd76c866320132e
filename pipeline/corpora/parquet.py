"""Parquet files with columns of texts, such as those of data sets that others published."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import UserError, describe_error, refuse
from pipeline.corpora import open_file, tabular
from pipeline.corpora.tabular import Config, Row

__all__ = ["Config", "kind", "read"]

kind = tabular.kind
_ROWS = 4096  # read at a time


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every row of every file under `raw`. A row with a null is a reject.

    UserError for a column that is not there or has no texts, and for a damaged file."""
    return tabular.read(config, lambda name: _rows(raw, name, config))


def _rows(folder: Path, name: str, config: Config) -> Iterator[Row]:
    path = str(folder / name)
    columns = {part: config.columns[part] for part in tabular.parts(config.columns)}
    with open_file(folder, name) as file, _readable(path):
        table = pq.ParquetFile(file, pre_buffer=False)
        if not table.metadata.num_rows:
            raise refuse(path, "no row", "one row at least", "Name another file.")
        for column in columns.values():
            _check_column(path, column, table.schema_arrow)

        # Read no other columns: one of pictures would fill the memory.
        names = [_top(column, table.schema_arrow) for column in columns.values()]
        for batch in table.iter_batches(_ROWS, columns=list(dict.fromkeys(names))):
            cells = {part: _texts(batch, column) for part, column in columns.items()}
            for values in zip(*cells.values(), strict=True):
                parts = dict(zip(cells, values, strict=True))
                yield tabular.row_of(parts, "\t".join(value or "" for value in values))


def _top(column: str, schema: pa.Schema) -> str:
    """The column of the file that holds `column`."""
    return column if column in schema.names else column.split(".")[0]


def _check_column(path: str, column: str, schema: pa.Schema) -> None:
    """UserError if the file lacks the column, or if it has no texts."""
    top = _top(column, schema)
    if schema.names.count(top) != 1:
        raise tabular.missing_column(path, column, schema.names)

    kind = schema.field(top).type
    for key in column.split(".")[1:] if top != column else []:
        if not pa.types.is_struct(kind) or kind.get_field_index(key) < 0:
            raise tabular.missing_column(path, column, schema.names)
        kind = kind.field(key).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (
        pa.types.is_string(value)
        or pa.types.is_large_string(value)
        or pa.types.is_string_view(value)
        or pa.types.is_integer(value)
        or pa.types.is_floating(value)
        or pa.types.is_boolean(value)
    ):
        got = f"{column}, a column of {kind}"
        raise refuse(path, got, "a column of texts", "Name another one in `read.columns`.")


def _texts(batch: pa.RecordBatch, column: str) -> list[str | None]:
    top = _top(column, batch.schema)
    values = batch[top]
    if top != column:
        values = pc.struct_field(values, column.split(".")[1:])
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return list(map(tabular.text_of, values.to_pylist()))


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raise UserError for a file that Arrow cannot read; its errors for damaged bytes have no
    errno."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, error) from None


def _damaged(path: str, error: Exception) -> UserError:
    return refuse(path, describe_error(error), "a Parquet file", "Name another file.")
