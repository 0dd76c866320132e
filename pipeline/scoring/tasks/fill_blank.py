"""Scores of a blank filler: pseudo-perplexity (Salazar et al. 2020), which is not a perplexity of
the text."""

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

_MEANING = (
    "Pseudo-perplexity is exp(nats per word), where each word is predicted from all other words of "
    "its row, on both sides. "
    "It is not a perplexity of the text, and ranks only blank fillers. "
    "Each word counts as evidence for the others, so it may be lower than the perplexity that any "
    "language model can reach. "
    "A word that the vocabulary lacks also costs the nats for its letters. "
    "`unknown words` is the share of such words."
)


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Pseudo-nats and words of every row; UserError if predictions and texts do not match."""
    texts = tables.read(inputs.tokens / f"{split}.parquet", tables.TOKENS_TEXT).sort_by("row")
    predictions = likelihood.likelihood(inputs.predictions, split, len(texts))

    # The letters of unknown words are part of the cost.
    unknown_words = unknown(texts["tokens"], inputs.encoded, split, "text")
    columns = [
        texts["row"],
        by_window(texts["paragraph"].to_numpy()),
        pc.cast(pc.list_value_length(texts["tokens"]), pa.int32()),
        predictions["nats"].to_numpy() + unknown_words.nats_N,
        predictions["count"],
        unknown_words.count_N,
    ]
    return pa.table(columns, schema=tables.SCORES_BLANK)


def units(table: pa.Table) -> Array:
    """units_U2: pseudo-nats and words of each window of the text."""
    return sum_by_block(sums(table), table["block"].to_numpy())


def sums(table: pa.Table) -> Array:
    """sums_N2: pseudo-nats and words of each row."""
    columns = [table[name].to_numpy().astype(np.float64) for name in ("nats", "count")]
    return np.stack(columns, 1)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Pseudo-perplexity with its interval, and the sums behind it."""
    units_UK = units(table)
    nats, words = units_UK.sum(0)
    return {
        "pseudo_perplexity": bootstrap.estimate(units_UK, likelihood.perplexity),
        "pseudo_nats": nats,
        "words": int(words),
        "rows": len(table),
        "blocks": len(units_UK),
        **likelihood.unknown_share(pc.sum(table["unknown"]).as_py(), int(words)),
    }


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Pseudo-perplexity by the number of tokens in the row."""
    return likelihood.curve_by_length(table, bootstrap, "pseudo_perplexity")


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of token likelihoods, which does not depend on case or tokenizer."""
    return Scoring(
        schema=tables.SCORES_BLANK,
        rows=rows,
        summary=summary,
        by_length=by_length,
        sums=sums,
        units=units,
        score=likelihood.log_perplexity,
        higher_is_better=False,
        difference="nats per word",
        main="pseudo_perplexity",
        main_score=likelihood.perplexity,
        main_title="pseudo-perplexity",
        main_name="pseudo-perplexity",
        scale=None,
        columns=(("words", "words", "{:,}"), ("unknown words", "unknown", "{:.1%}")),
        further=(),
        title="Blank fillers",
        length="tokens in the sentence",
        unit="word",
        meaning=_MEANING,
        d2l_bleu=False,
    )


PROMOTION = Promotion(
    guards=("score",),
    validation=("pseudo_perplexity.score", False),
    likelihood_text=None,
    same_normalization=False,
    same_vocabulary=True,
    selection=None,
    has_splits=True,
    outputs=None,
)
INTERFACE = Interface(
    outputs={"text": "string", "log_prob": "double"},
    params={},
    example="the ___ sleeps .",
    command="fill",
)
