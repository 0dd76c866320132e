"""Scores of a masked language model: prediction of masked words and of the next sentence (Devlin et
al. 2019)."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.scoring import likelihood
from pipeline.scoring.blocks import by_window
from pipeline.scoring.significance import Array, Bootstrap, sum_by_block
from pipeline.scoring.tasks import Inputs, Interface, Promotion, Scoring
from pipeline.scoring.unknown import unknown

_MAIN = "masked_perplexity"
_COLUMNS = (
    ("masked-word accuracy", "mlm_accuracy.score", "{:.1%}"),
    ("next-sentence accuracy", "nsp_accuracy.score", "{:.1%}"),
    ("unknown words", "unknown", "{:.1%}"),
)
_FURTHER = (
    ("masked-word loss", "mlm_loss", "{:.3f}"),
    ("next-sentence loss", "nsp_loss", "{:.3f}"),
)
_MEANING = (
    "Masked perplexity is exp(nats per masked word), where each word is predicted from the words "
    "on both sides. "
    "It is not a perplexity of the text: do not compare it with that of a left-to-right model. "
    "15 % of the words are masked, the same ones for every run with the same vocabulary and "
    "`objective.max_length`. Only such runs are tested against each other. "
    "Most of them are hidden, and a few are replaced or left unchanged. "
    "Next-sentence accuracy is the share of pairs for which the model decides correctly whether "
    "the second sentence follows the first, which is so for half of them. "
    "`unknown words` is the share of words that the vocabulary lacks. "
    "The model treats all of them as one word, so compare only models with the same vocabulary."
)

score = likelihood.log_perplexity


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of token likelihoods, which does not depend on case or tokenizer."""
    return Scoring(
        schema=tables.SCORES_MASKED,
        rows=rows,
        summary=summary,
        by_length=by_length,
        sums=sums,
        units=units,
        score=score,
        higher_is_better=False,
        difference="nats per masked word",
        main=_MAIN,
        main_score=likelihood.perplexity,
        main_title="masked perplexity",
        main_name="masked perplexity",
        scale=None,
        columns=_COLUMNS,
        further=_FURTHER,
        title="Masked language models",
        length="tokens in the pair of sentences",
        unit="word and pair",
        meaning=_MEANING,
        d2l_bleu=False,
    )


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Every pair's sums and the block of its first sentence; UserError if predictions and texts
    do not match."""
    texts = tables.read(inputs.tokens / f"{split}.parquet", tables.TOKENS_TEXT).sort_by("row")
    path = inputs.predictions / f"masked_{split}.parquet"
    pairs = tables.read(path, tables.MASKED).sort_by("row")
    if not len(pairs) or pairs["row"][-1].as_py() >= len(texts):
        raise refuse(
            str(path),
            f"{len(pairs)} pairs",
            f"pairs of the {len(texts)} rows",
            "Run `dvc repro`: it is stale.",
        )
    if not pc.all(pc.is_finite(pc.add(pairs["nats"], pairs["pair_nats"]))).as_py():
        raise likelihood.diverged(path)
    unknown_words = unknown(texts["tokens"], inputs.encoded, split, "text")

    # Block, tokens and unknown words are those of a pair's first sentence.
    first = pairs["row"]
    tokens = pc.cast(pc.list_value_length(texts["tokens"]).take(first), pa.int32())
    block = pa.array(by_window(texts["paragraph"].to_numpy())[first.to_numpy()])
    pairs = pairs.add_column(1, tables.SCORES_MASKED.field("block"), block)
    pairs = pairs.append_column(tables.SCORES_MASKED.field("tokens"), tokens)
    return pairs.append_column(
        tables.SCORES_MASKED.field("unknown"), pa.array(unknown_words.count_N[first.to_numpy()])
    )


def units(table: pa.Table) -> Array:
    """units_U6: the sums of each window of the text."""
    return sum_by_block(sums(table), table["block"].to_numpy())


def sums(table: pa.Table) -> Array:
    """sums_N6: nats, words, correct words, nats of the pair, 1 if the pair is correct else 0, 1."""
    columns = [
        table[name].cast(pa.float64()).to_numpy()
        for name in ("nats", "count", "correct", "pair_nats")
    ]
    columns += [table["pair_correct"].to_numpy().astype(np.float64), np.ones(len(table))]
    return np.stack(columns, 1)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Masked perplexity and both accuracies with their intervals, the two losses, counts, and the
    share of unknown words. No limit is known."""
    units_UK = units(table)
    nats, words, _, pair_nats, _, pairs = units_UK.sum(0)

    # Losses are nats per masked word and per pair.
    return {
        "masked_perplexity": bootstrap.estimate(units_UK, likelihood.perplexity),
        "mlm_loss": nats / words,
        "mlm_accuracy": bootstrap.estimate(
            units_UK, lambda sums_RK: sums_RK[:, 2] / np.maximum(sums_RK[:, 1], 1)
        ),
        "nsp_loss": pair_nats / pairs,
        "nsp_accuracy": bootstrap.estimate(
            units_UK, lambda sums_RK: sums_RK[:, 4] / np.maximum(sums_RK[:, 5], 1)
        ),
        "words": int(words),
        "pairs": int(pairs),
        "blocks": len(units_UK),
        **likelihood.unknown_share(
            pc.sum(table["unknown"]).as_py(), pc.sum(table["tokens"]).as_py()
        ),
    }


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Masked perplexity by the number of words in the pair."""
    return likelihood.curve_by_length(table, bootstrap, _MAIN)


PROMOTION = Promotion(
    guards=("score", "mlm_accuracy", "nsp_accuracy"),
    validation=("masked_perplexity.score", False),
    likelihood_text=None,
    same_normalization=False,
    same_vocabulary=True,
    selection=(
        "masks",
        "different words were masked for each of them, because objective.max_length or the "
        "vocabulary differs",
    ),
    has_splits=True,
    outputs=None,
)
INTERFACE = Interface(
    outputs={"text": "string", "log_prob": "double"},
    params={},
    example="the ___ sleeps .",
    command="fill",
)
