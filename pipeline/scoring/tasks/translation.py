"""Scores of a translator: BLEU, chrF and TER of its answers on the raw references, and the likelihood of the references."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.scoring import likelihood, surface
from pipeline.scoring.lengths import curve
from pipeline.scoring.resampling import Array, Bootstrap

SCHEMA = tables.SCORES_PAIR
TITLE = "Translators"
MAIN = "bleu"
MAIN_TITLE = "BLEU"
DIFFERENCE = "BLEU"
HIGHER_IS_BETTER = True
SCALE = (0.0, 100.0)
BOOK_BLEU = True
UNIT = "token"
LENGTH = "tokens in the source sentence"
COLUMNS = (
    ("perplexity", "perplexity.score", "{:.2f}"),
    ("BLEU to the limit", "distance", "{:.2f}"),
)
FURTHER = (
    ("BLEU, lowercased", "bleu_lowercase.score", "{:.2f}"),
    ("chrF", "chrf.score", "{:.2f}"),
    ("chrF, lowercased", "chrf_lowercase.score", "{:.2f}"),
    ("TER", "ter.score", "{:.2f}"),
    ("exact", "exact_match", "{:.1%}"),
    ("empty", "empty", "{:.1%}"),
    ("length", "length_ratio", "{:.3f}"),
    ("bits per character", "bits_per_character", "{:.3f}"),
)
MEANING = (
    "BLEU (0 to 100) counts the stretches of one to four words that an answer shares with the reference, cased and "
    "on the raw text; chrF does so for stretches of characters, and TER counts the edits that would turn the answer"
    " into the reference (lower is better). Perplexity is that of the reference, word by word, given the words "
    "before: a good perplexity beside a bad BLEU points at the search, not at the model. Where the corpus is built "
    "in, BLEU 100 can be reached."
)

score = surface.bleu


def rows(predictions: Path, tokens: Path, split: str) -> pa.Table:
    """Every row's sums; UserError if predictions and references do not match. Only the valid split may go undecoded."""
    pairs = tables.read(tokens / f"{split}.parquet", tables.TOKENS_PAIR).sort_by("row")
    found = likelihood.likelihood(predictions, split, len(pairs))
    columns = {
        "row": pairs["row"],
        "block": pairs["row"],
        "length": pc.cast(pc.list_value_length(pairs["source_tokens"]), pa.int32()),
        "nats": found["nats"],
        "count": found["count"],
        "characters": pairs["target_characters"],
    }
    if split != "valid" or (predictions / f"hypotheses_{split}.parquet").exists():
        columns |= _decoded(_answers(predictions, split, len(pairs)), pairs["target"].to_pylist())
    return pa.table([columns.get(field.name, pa.nulls(len(pairs), field.type)) for field in SCHEMA], schema=SCHEMA)


def units(table: pa.Table) -> Array:
    """units_NK: BLEU's sums of every row."""
    return _matrix(table["bleu"])


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Likelihood and, if the split was decoded, each surface score with its interval and signature, and the limit."""
    nats_N2 = np.stack([table["nats"].to_numpy(), table["count"].to_numpy().astype(np.float64)], 1)
    found = likelihood.summary(table, nats_N2, bootstrap) | {"rows": len(table)}
    if table["bleu"].null_count:
        return found
    for name, measure in _measures().items():
        made = bootstrap.estimate(_matrix(table[name]), measure.score)
        found[name] = {**made, "signature": measure.signature(bootstrap)}
    length, reference = _matrix(table["bleu"])[:, :2].sum(0)
    found |= {"exact_match": pc.mean(table["exact"]).as_py(), "empty": pc.mean(table["empty"]).as_py()}
    found["length_ratio"] = length / max(reference, 1.0)
    if "bleu" in limit:
        found |= {"limit": limit["bleu"], "distance": limit["bleu"] - found["bleu"]["score"]}
    return found


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """BLEU by the number of tokens in the source."""
    return curve(table["length"].to_numpy().astype(np.int64), units(table), surface.bleu, "bleu", bootstrap)


@cache
def _measures() -> dict[str, surface.Surface]:
    return surface.measures()


def _answers(predictions: Path, split: str, rows: int) -> list[str]:
    path = predictions / f"hypotheses_{split}.parquet"
    best = tables.read(path, tables.HYPOTHESES).filter(pc.field("rank") == 0).sort_by("row")
    likelihood.same_rows(best["row"], rows, path)
    answers: list[str] = best["text"].to_pylist()
    return answers


def _decoded(answers: list[str], references: list[str]) -> dict[str, Any]:
    """The columns that need an answer. Text without capitals is not scored twice."""
    rows = list(zip(answers, references, strict=True))
    columns: dict[str, Any] = {}
    caseless = all(text == text.lower() for row in rows for text in row)
    for name, measure in _measures().items():
        cased = name.removesuffix("_lowercase")
        columns[name] = columns[cased] if caseless and cased in columns else [measure.sums(*row) for row in rows]
    apart = _measures()["bleu"].metric.tokenizer
    columns["exact"] = [apart(got.rstrip()) == apart(want.rstrip()) for got, want in rows]
    columns["empty"] = [not answer.strip() for answer in answers]
    return {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}


def _matrix(column: pa.ChunkedArray) -> Array:
    joined = column.combine_chunks()
    matrix: Array = pc.list_flatten(joined).to_numpy().reshape(len(joined), -1).astype(np.float64)
    return matrix
