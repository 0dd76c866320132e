"""Scores of a language model: perplexity, bits per character, and the excess over the grammar that
wrote the text."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.scoring import likelihood
from pipeline.scoring.blocks import by_window
from pipeline.scoring.significance import Array, Bootstrap, sum_by_block
from pipeline.scoring.tasks import Inputs, Interface, Promotion, Scoring
from pipeline.scoring.unknown import unknown

_COLUMNS = (
    ("bits per character", "bits_per_character", "{:.3f}"),
    ("lowest reachable", "floor_perplexity", "{:.2f}"),
    ("excess", "excess", "{:+.1%}"),
    ("unknown words", "unknown", "{:.1%}"),
)
_MEANING = (
    "Perplexity is exp(nats per token): at perplexity 20 the model is as uncertain as among 20 "
    "equally likely tokens. "
    "It compares only models that read the same tokens. "
    "Bits per character compare all models, and rank them: they are the cost of the whole text "
    "over its number of characters, and both count the ends of rows. "
    "Where a grammar wrote the text, `lowest reachable` is the grammar's own perplexity on the "
    "same rows. "
    "No model can be expected to do better, and `excess` says how much is left to learn. "
    "A word that the vocabulary lacks also costs its letters, as if they were drawn at random, so "
    "that perplexities are those of the full text. "
    "`unknown words` is the share of such words; no training makes their letters cheaper."
)


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of token likelihoods, which does not depend on case or tokenizer."""
    return Scoring(
        schema=tables.SCORES_TEXT,
        rows=rows,
        summary=summary,
        by_length=by_length,
        sums=sums,
        units=units,
        # Comparable across tokenizations; for the same tokens it ranks as perplexity does.
        score=likelihood.bits_per_character,
        higher_is_better=False,
        difference="bits per character",
        main="perplexity",
        main_score=likelihood.perplexity,
        main_title="perplexity",
        main_name="perplexity",
        scale=None,
        columns=_COLUMNS,
        further=(),
        title="Language models",
        length="tokens in the sentence",
        unit="token",
        meaning=_MEANING,
        d2l_bleu=True,
    )


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Nats, tokens, characters and the grammar's nats of every row; UserError if predictions and
    texts do not match."""
    texts = tables.read(inputs.tokens / f"{split}.parquet", tables.TOKENS_TEXT).sort_by("row")
    predictions = likelihood.likelihood(inputs.predictions, split, len(texts))

    # The letters of unknown words are part of the cost.
    unknown_words = unknown(texts["tokens"], inputs.encoded, split, "text")
    return pa.table(
        {
            "row": texts["row"],
            "block": by_window(texts["paragraph"].to_numpy()),
            "length": pc.cast(pc.list_value_length(texts["tokens"]), pa.int32()),
            "nats": predictions["nats"].to_numpy() + unknown_words.nats_N,
            "count": predictions["count"],
            "unknown": unknown_words.count_N,
            "characters": likelihood.with_ends(texts["characters"]),
            "floor": pc.negate(texts["log_prob"]),
        },
        schema=tables.SCORES_TEXT,
    )


def units(table: pa.Table) -> Array:
    """units_U4: the sums of each window of the text."""
    return sum_by_block(sums(table), table["block"].to_numpy())


def sums(table: pa.Table) -> Array:
    """sums_N4: nats, tokens, the grammar's nats (NaN for natural text) and characters of each
    row."""
    columns = [
        table[name].to_numpy().astype(np.float64)
        for name in ("nats", "count", "floor", "characters")
    ]
    return np.stack(columns, 1)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Perplexity, bits per character and, where the grammar is known, its perplexity and the
    model's excess over it."""
    units_UK = units(table)
    metrics = likelihood.summary(table, units_UK, bootstrap)
    metrics |= {"rows": len(table), "blocks": len(units_UK)}

    if table["floor"].null_count == 0:
        # The grammar's nats are known for each row, so the excess has an interval: perplexity over
        # the grammar's perplexity, minus 1.
        excess = bootstrap.estimate(
            units_UK,
            lambda sums_RK: np.expm1(
                (sums_RK[:, 0] - sums_RK[:, 2]) / np.maximum(sums_RK[:, 1], 1)
            ),
        )
        floor = math.exp(units_UK[:, 2].sum() / metrics["tokens"])
        metrics |= {
            "floor_perplexity": floor,
            "excess": excess["score"],
            "excess_low": excess["low"],
            "excess_high": excess["high"],
        }
    elif "nats" in limit:
        # Only the split's total is known: no interval.
        floor = math.exp(limit["nats"] / metrics["tokens"])
        metrics |= {"floor_perplexity": floor, "excess": metrics["perplexity"]["score"] / floor - 1}
    return metrics


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Perplexity by the number of tokens in the row."""
    return likelihood.curve_by_length(table, bootstrap, "perplexity")


PROMOTION = Promotion(
    guards=("score", "perplexity_long"),
    validation=("bits_per_character", False),
    likelihood_text="text",
    same_normalization=True,
    same_vocabulary=False,
    selection=None,
    has_splits=True,
    outputs=None,
)
INTERFACE = Interface(
    outputs={"text": "string"},
    params={"seed": ("long", 1)},
    example="once upon a time",
    command="generate",
)
