"""Scores of a translator: BLEU, chrF and TER of its answers on the raw references, and the likelihood of the references."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.scoring import likelihood, surface
from pipeline.scoring.lengths import curve
from pipeline.scoring.resampling import Array, Bootstrap
from pipeline.scoring.tasks import Scoring

_CASED, _LOWERCASED = "bleu", "bleu_lowercase"
_FURTHER = (
    ("chrF", "chrf.score", "{:.2f}"),
    ("chrF, lowercased", "chrf_lowercase.score", "{:.2f}"),
    ("TER", "ter.score", "{:.2f}"),
)
_SHARES = (
    ("empty", "empty", "{:.1%}"),
    ("length", "length_ratio", "{:.3f}"),
    ("bits per character", "bits_per_character", "{:.3f}"),
)
_MEANING = (
    "BLEU (0 to 100) counts the stretches of one to four words that an answer shares with the reference, {}; chrF does "
    "so for stretches of characters, and TER counts the edits that would turn the answer into the reference (lower is "
    "better). Perplexity is that of the reference, word by word, given the words before: a good perplexity beside a bad "
    "BLEU points at the search, not at the model. Where the corpus is built in, BLEU 100 can be reached."
)
_CASE = "cased and on the raw text"
_NO_CASE = "on the raw text but for its case, since this corpus is lowercased and no model of it ever writes a capital"


def scoring(lowercase: bool) -> Scoring:
    """BLEU first: cased, or on a lowercased corpus lowercased; the other one stands among the further scores."""
    main, other = (_LOWERCASED, _CASED) if lowercase else (_CASED, _LOWERCASED)
    said, other_said = (", lowercased", ", cased") if lowercase else ("", ", lowercased")
    name = "lowercased BLEU" if lowercase else "BLEU"
    return Scoring(
        schema=tables.SCORES_PAIR,
        rows=partial(_rows, main),
        summary=partial(_summary, main),
        by_length=partial(_by_length, main),
        units=partial(_units, main),
        score=surface.bleu,
        higher_is_better=True,
        difference=name,
        main=main,
        main_title=f"BLEU{said}",
        main_name=name,
        scale=(0.0, 100.0),
        columns=(("perplexity", "perplexity.score", "{:.2f}"), (f"BLEU to the limit{said}", "distance", "{:.2f}")),
        further=(
            (f"BLEU{other_said}", f"{other}.score", "{:.2f}"),
            *_FURTHER,
            (f"exact{said}", "exact_match", "{:.1%}"),
            *_SHARES,
        ),
        title="Translators",
        length="tokens in the source sentence",
        unit="token",
        meaning=_MEANING.format(_NO_CASE if lowercase else _CASE),
        book_bleu=True,
    )


def _rows(main: str, predictions: Path, tokens: Path, split: str) -> pa.Table:
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
        columns |= _decoded(main, _answers(predictions, split, len(pairs)), pairs["target"].to_pylist())
    made = [columns.get(field.name, pa.nulls(len(pairs), field.type)) for field in tables.SCORES_PAIR]
    return pa.table(made, schema=tables.SCORES_PAIR)


def _units(main: str, table: pa.Table) -> Array:
    """units_NK: BLEU's sums of every row."""
    return _matrix(table[main])


def _summary(main: str, table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Likelihood and, if the split was decoded, each surface score with its interval and signature, and the limit."""
    nats_N3 = np.stack([table[name].to_numpy().astype(np.float64) for name in ("nats", "count", "characters")], 1)
    found = likelihood.summary(table, nats_N3, bootstrap) | {"rows": len(table)}
    if table["bleu"].null_count:
        return found
    for name, measure in _measures().items():
        made = bootstrap.estimate(_matrix(table[name]), measure.score)
        found[name] = {**made, "signature": measure.signature(bootstrap)}
    length, reference = _matrix(table["bleu"])[:, :2].sum(0)
    found |= {"exact_match": pc.mean(table["exact"]).as_py(), "empty": pc.mean(table["empty"]).as_py()}
    found["length_ratio"] = length / max(reference, 1.0)
    if "bleu" in limit:  # 100, which is the limit without case too
        found |= {"limit": limit["bleu"], "distance": limit["bleu"] - found[main]["score"]}
    return found


def _by_length(main: str, table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """BLEU by the number of tokens in the source."""
    return curve(table["length"].to_numpy().astype(np.int64), _units(main, table), surface.bleu, main, bootstrap)


@cache
def _measures() -> dict[str, surface.Surface]:
    return surface.measures()


def _answers(predictions: Path, split: str, rows: int) -> list[str]:
    path = predictions / f"hypotheses_{split}.parquet"
    best = tables.read(path, tables.HYPOTHESES).filter(pc.field("rank") == 0).sort_by("row")
    likelihood.same_rows(best["row"], rows, path)
    answers: list[str] = best["text"].to_pylist()
    return answers


def _decoded(main: str, answers: list[str], references: list[str]) -> dict[str, Any]:
    """The columns that need an answer; `exact` is equality of what BLEU sees. Text without capitals is not scored twice."""
    rows = list(zip(answers, references, strict=True))
    columns: dict[str, Any] = {}
    caseless = all(text == text.lower() for row in rows for text in row)
    for name, measure in _measures().items():
        cased = name.removesuffix("_lowercase")
        columns[name] = columns[cased] if caseless and cased in columns else [measure.sums(*row) for row in rows]
    seen = _measures()[main].metric._preprocess_segment
    columns["exact"] = [seen(got) == seen(want) for got, want in rows]
    columns["empty"] = [not answer.strip() for answer in answers]
    return {name: pa.array(values, tables.SCORES_PAIR.field(name).type) for name, values in columns.items()}


def _matrix(column: pa.ChunkedArray) -> Array:
    joined = column.combine_chunks()
    matrix: Array = pc.list_flatten(joined).to_numpy().reshape(len(joined), -1).astype(np.float64)
    return matrix
