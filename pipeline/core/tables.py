"""Schemas of all Parquet tables between stages; reading and writing with the schema checked.

`ids` columns are list<int32>, written as zstd + BYTE_STREAM_SPLIT. Rewriting the same rows gives
the same bytes. Stages write into folders of `atomic_dir`, so a reader never sees half a file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.atomic import remove_folders, replace_file
from pipeline.core.errors import name_file_in_errors, refuse
from pipeline.core.table_errors import absent, broken, wrong_schema

_DAMAGED = (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError)
_COMPLETE = frozenset({"row", "nats", "count"})  # columns that have no null in any table
_ids = pa.list_(pa.int32())
_strings = pa.list_(pa.string())

# Batches of a corpus reader. `reject` is null, or the reason why the row cannot be used.
# `log_prob` is the row's natural log-probability under the grammar that wrote it, null for natural
# text.
RAW_TEXT = pa.schema(
    {"text": pa.string(), "paragraph": pa.int64(), "log_prob": pa.float64(), "reject": pa.string()}
)
RAW_PAIR = pa.schema({"source": pa.string(), "target": pa.string(), "reject": pa.string()})
RAW_LABELLED = pa.schema({"text": pa.string(), "label": pa.string(), "reject": pa.string()})
RAW_LABELLED_PAIR = pa.schema(
    {
        "premise": pa.string(),
        "hypothesis": pa.string(),
        "label": pa.string(),
        "reject": pa.string(),
    }
)

# After tokenize. `row` numbers the rows of a split from 0; the raw text is kept for scoring.
# `characters` counts the Unicode characters of the normalised text (for bits per character).
TOKENS_TEXT = pa.schema(
    {
        "row": pa.int64(),
        "text": pa.string(),
        "tokens": _strings,
        "characters": pa.int32(),
        "paragraph": pa.int64(),
        "log_prob": pa.float64(),
    }
)
TOKENS_PAIR = pa.schema(
    {
        "row": pa.int64(),
        "source": pa.string(),
        "target": pa.string(),
        "source_tokens": _strings,
        "target_tokens": _strings,
        "target_characters": pa.int32(),
    }
)
TOKENS_LABELLED = pa.schema(
    {
        "row": pa.int64(),
        "text": pa.string(),
        "tokens": _strings,
        "characters": pa.int32(),
        "label": pa.string(),
    }
)
TOKENS_LABELLED_PAIR = pa.schema(
    {
        "row": pa.int64(),
        "premise": pa.string(),
        "hypothesis": pa.string(),
        "premise_tokens": _strings,
        "hypothesis_tokens": _strings,
        "label": pa.string(),
    }
)
# Corpora without text have the same columns in every stage: those of the reader without `reject`,
# and `row` before them. Only a column `label` changes: `encode` writes its number. `inputs` are the
# numbers that `value` is predicted from, as many in each row; those of a series are the values
# before it, the latest one last.
RAW_NUMBERS = pa.schema(
    {"inputs": pa.list_(pa.float64()), "value": pa.float64(), "reject": pa.string()}
)
NUMBERS = pa.schema({"row": pa.int64(), "inputs": pa.list_(pa.float64()), "value": pa.float64()})
# A file of labelled pictures: the bytes of a PNG file in each row. The reader decodes them to
# `pixels`: a byte for each, row by row, from 0 (black) to 255.
IMAGES = pa.schema({"image": pa.binary(), "label": pa.string()})
_PIXELS = {"pixels": pa.binary(), "height": pa.int32(), "width": pa.int32()}
RAW_IMAGE = pa.schema(_PIXELS | {"label": pa.string(), "reject": pa.string()})
TOKENS_IMAGE = pa.schema({"row": pa.int64()} | _PIXELS | {"label": pa.string()})
# by the kind of corpus
TOKENS = {
    "text": TOKENS_TEXT,
    "pair": TOKENS_PAIR,
    "labelled": TOKENS_LABELLED,
    "labelled_pair": TOKENS_LABELLED_PAIR,
    "numbers": NUMBERS,
    "image": TOKENS_IMAGE,
}
REJECTS = pa.schema({"split": pa.string(), "reason": pa.string(), "text": pa.string()})

# Benchmarks of word vectors, in addition to the splits. Classes: words of a class can replace each
# other. Similarity: `score` by people, higher is more similar. Analogies: `first` is to `second` as
# `third` is to `fourth`.
BENCHMARK_CLASSES = pa.schema({"token": pa.string(), "class": pa.string()})
BENCHMARK_SIMILARITY = pa.schema(
    {"first": pa.string(), "second": pa.string(), "score": pa.float64()}
)
BENCHMARK_ANALOGIES = pa.schema(
    {
        "section": pa.string(),
        "first": pa.string(),
        "second": pa.string(),
        "third": pa.string(),
        "fourth": pa.string(),
    }
)

# Of tokens, and of labels: their names in order, numbered from 0.
VOCAB = pa.schema({"token": pa.string(), "id": pa.int32(), "count": pa.int64()})

# After encode: ids without <bos> and <eos>, which the tasks add; `paragraph` as in TOKENS_TEXT.
ENCODED_TEXT = pa.schema({"row": pa.int64(), "ids": _ids, "paragraph": pa.int64()})
ENCODED_PAIR = pa.schema({"row": pa.int64(), "source": _ids, "target": _ids})
ENCODED_LABELLED = pa.schema({"row": pa.int64(), "ids": _ids, "label": pa.int32()})
ENCODED_LABELLED_PAIR = pa.schema(
    {"row": pa.int64(), "premise": _ids, "hypothesis": _ids, "label": pa.int32()}
)
ENCODED_IMAGE = pa.schema({"row": pa.int64()} | _PIXELS | {"label": pa.int32()})

# After train: `name` is e.g. train/loss, valid/perplexity, learning_rate. No clock in it.
HISTORY = pa.schema(
    {"step": pa.int64(), "epoch": pa.int64(), "name": pa.string(), "value": pa.float64()}
)

# After predict. `nats` is the teacher-forced -log P of `count` tokens (<eos> among them).
LIKELIHOOD = pa.schema({"row": pa.int64(), "nats": pa.float64(), "count": pa.int32()})
# Pairs of sentences: `row` is the first one's. `nats` is the -log P of `count` masked words,
# `correct` of which were predicted. `pair_nats` is the -log P of the true answer to "does the
# second sentence follow?"; `pair_correct` says whether the prediction was right.
# Pairs of sentences by their first row; `length` is the number of words of both. `masks` is a
# digest of the pair as it was read: its ids, which of them were masked and by what.
MASKED = pa.schema(
    {
        "row": pa.int64(),
        "length": pa.int32(),
        "nats": pa.float64(),
        "count": pa.int32(),
        "correct": pa.int32(),
        "pair_nats": pa.float64(),
        "pair_correct": pa.bool_(),
        "masks": pa.int64(),
    }
)
# n-best lists: rank 0 is the prediction; the search ranks by `score`; `log_prob` is the natural
# log-probability.
HYPOTHESES = pa.schema(
    {
        "row": pa.int64(),
        "rank": pa.int32(),
        "text": pa.string(),
        "score": pa.float64(),
        "log_prob": pa.float64(),
    }
)
# The likeliest label of each row, and the natural log-probability of every label, in the order of
# `labels.json`.
LABELS = pa.schema({"row": pa.int64(), "label": pa.string(), "log_probs": pa.list_(pa.float64())})
# Sample sentences: the search's output for each prompt; `reference` is null where there is none.
SAMPLES = pa.schema(
    {
        "row": pa.int32(),
        "prompt": pa.string(),
        "reference": pa.string(),
        "text": pa.string(),
        "log_prob": pa.float64(),
    }
)
# Attention of the samples: weights[i * len(columns) + j] is the weight of input token j at output
# token i.
ATTENTION = pa.schema(
    {
        "row": pa.int32(),
        "name": pa.string(),
        "columns": _strings,
        "rows": _strings,
        "weights": pa.list_(pa.float32()),
    }
)

# Predictions of each row's value: `ahead` steps ahead, from the inputs before the last `ahead` - 1.
FORECASTS = pa.schema({"row": pa.int64(), "ahead": pa.int32(), "value": pa.float64()})

# The vectors of all words but the specials, in order of their ids; `count` as in VOCAB.
VECTORS = pa.schema(
    {"token": pa.string(), "id": pa.int32(), "count": pa.int64(), "vector": pa.list_(pa.float32())}
)

# After evaluate: each row's share of every score, so that any set of rows can be scored, or
# resampled, by summing. Rows of one `block` depend on each other and are resampled as a unit
# (`pipeline.scoring.blocks`); `floor` is the nats of the grammar that wrote the row, null for
# natural text. `nats` are those of the whole text: of the model's tokens,
# and of spelling out the `unknown` ones among them.
_TOKEN_COSTS = {
    "row": pa.int64(),
    "block": pa.int64(),
    "length": pa.int32(),
    "nats": pa.float64(),
    "count": pa.int32(),
    "unknown": pa.int32(),
}
SCORES_TEXT = pa.schema(_TOKEN_COSTS | {"characters": pa.int32(), "floor": pa.float64()})
# `nats` are those of the row's `count` words, each given all the others; `unknown` ones are spelt
# out as in SCORES_TEXT.
SCORES_BLANK = pa.schema(_TOKEN_COSTS)
# The lists are sacreBLEU's sums: BLEU [length, reference length, 4 matches, 4 totals], chrF 6 x
# [hypothesis, reference, matching], TER [edits, reference length]. `length` counts the source's
# tokens. Lists are null where nothing was decoded. `nats`, `count` and `unknown` are the target's,
# as in SCORES_TEXT.
SCORES_PAIR = pa.schema(
    _TOKEN_COSTS
    | {
        "characters": pa.int32(),
        "bleu": _ids,
        "bleu_lowercase": _ids,
        "chrf": _ids,
        "chrf_lowercase": _ids,
        "ter": _ids,
        "exact": pa.bool_(),
        "empty": pa.bool_(),
    }
)
# `nats` is -log P of the true label; `confidence` is the probability of the predicted one.
SCORES_LABELLED = pa.schema(
    {
        "row": pa.int64(),
        "block": pa.int64(),
        "length": pa.int32(),
        "label": pa.string(),
        "predicted": pa.string(),
        "nats": pa.float64(),
        "confidence": pa.float64(),
    }
)
# `errors` are the squared errors of the predictions `ahead` steps ahead, 1 first.
SCORES_SERIES = pa.schema(
    {
        "row": pa.int64(),
        "block": pa.int64(),
        "ahead": _ids,
        "errors": pa.list_(pa.float64()),
    }
)
# MASKED with the first sentence's block, its number of tokens, and how many of
# those are unknown. `nats` and `correct` count predicted ids: `<unk>` is right for every unknown
# word.
SCORES_MASKED = (
    MASKED.insert(1, pa.field("block", pa.int64()))
    .append(pa.field("tokens", pa.int32()))
    .append(pa.field("unknown", pa.int32()))
)
# Results of each benchmark of word vectors; the first row's benchmark ranks the runs.
# `section` is the class of the word `item`, or the section of an analogy. `predicted` is a share,
# or a rank, for which `expected` is the rank that people gave. `block` numbers the units of a
# benchmark.
SCORES_VECTORS = pa.schema(
    {
        "row": pa.int64(),
        "block": pa.int64(),
        "benchmark": pa.string(),
        "section": pa.string(),
        "item": pa.string(),
        "predicted": pa.float64(),
        "expected": pa.float64(),
    }
)


def has_text(kind: str) -> bool:
    """Whether corpora of the kind have texts; others have no block `text` and no vocabulary."""
    return any(name.endswith("tokens") for name in TOKENS[kind].names)


def kind(path: Path) -> str:
    """Return the kind of the corpus whose tokenized rows are at `path`; errors as `read`."""
    actual = schema(path, *TOKENS.values())
    return next(name for name, choice in TOKENS.items() if choice.equals(actual))


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """Read the table at `path`; UserError if it is absent, no Parquet, of another schema, or has
    nulls in a column that is complete in every table."""
    with _open(path, schema) as file:
        table = file.read()
    for name in _COMPLETE.intersection(schema.names):
        if missing := table[name].null_count:
            todo = "Delete it and run `dvc repro`."
            raise refuse(str(path), f"{missing} rows without {name}", f"{name} in each row", todo)
    return table


def batches(
    path: Path, schema: pa.Schema, rows: int = 16384, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the table at `path` in batches of at most `rows` rows, all columns or those of
    `columns`; errors as `read`."""
    with _open(path, schema) as file:
        yield from file.iter_batches(rows, columns=columns)


def schema(path: Path, *choices: pa.Schema) -> pa.Schema:
    """Return the schema of the table at `path`, which is one of `choices`; else UserError, as
    `read`."""
    with _parquet(path):
        actual = pq.read_schema(path)
        for choice in choices:
            if actual.equals(choice):
                return choice
        raise wrong_schema(path, actual, choices)


@contextmanager
def writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet writer for `schema`: `write_batch` or `write_table` in a `with` block."""
    # Token ids compress best as split bytes, which Parquet does not combine with a dictionary.
    split = [f"{field.name}.list.element" for field in schema if field.type == _ids]
    plain = [leaf for leaf in _leaves(schema) if leaf not in split]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=plain,
        column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT") or None,
    ) as parquet:
        yield parquet


def write(path: Path, table: pa.Table) -> None:
    """Write a whole table whose schema is one of this module's."""
    with writer(path, table.schema) as parquet:
        parquet.write_table(table)


def mapped(path: Path, schema: pa.Schema, cache: Path) -> pa.Table:
    """Memory-map the table at `path`, after writing an uncompressed copy in one piece to `cache`
    (Arrow IPC).

    Each call writes the copy anew: an earlier one may be damaged, and a check costs as much. So
    the copy is not synced either."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    table = read(path, schema).combine_chunks()
    partial = cache.with_suffix(".partial")
    remove_folders(cache, partial)

    try:
        with (
            name_file_in_errors(cache),
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, schema) as file,
        ):
            file.write_table(table)
        replace_file(partial, cache, sync=False)
    finally:
        partial.unlink(missing_ok=True)
    return pa.ipc.open_file(pa.memory_map(str(cache))).read_all()


@contextmanager
def _open(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    # With pre_buffer the whole file is kept in memory, however small the batches.
    with _parquet(path), pq.ParquetFile(path, pre_buffer=False) as file:
        if not file.schema_arrow.equals(schema):
            raise wrong_schema(path, file.schema_arrow, (schema,))
        yield file


@contextmanager
def _parquet(path: Path) -> Iterator[None]:
    """Raise UserError for a file at `path` that is absent or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise absent(path) from None
    except _DAMAGED as error:
        raise broken(path, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise broken(path, error) from None  # Arrow's error for damaged bytes has no errno


def _leaves(schema: pa.Schema) -> list[str]:
    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema]
