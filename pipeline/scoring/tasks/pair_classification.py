"""Scores of a classifier of pairs of texts: those of `classification.py`, by pair."""

import dataclasses

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.scoring.blocks import by_text
from pipeline.scoring.tasks import Inputs, Interface, Promotion, Scoring, classification

_MEANING = (
    "A pair is a premise and a hypothesis; pairs of one premise are one unit of every interval and "
    "test. The columns are those of classifiers of texts: accuracy, macro F1 (the unweighted mean "
    "of the labels' F1), the calibration error (Guo et al. 2017) and the mean of "
    "-log P(true label) per pair; guessing between three labels costs 1.099. "
    "In built-in corpora some labels are replaced at random. "
    "The limit is then the accuracy of the rule that wrote the other labels, the highest that "
    "can be expected."
)


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of labels of pairs, which does not depend on case or tokenizer."""
    of_texts = classification.scoring(lowercase, tokenizer)
    return dataclasses.replace(
        of_texts,
        rows=rows,
        columns=tuple(
            (title.replace("per text", "per pair"), key, form)
            for title, key, form in of_texts.columns
        ),
        title="Classifiers of pairs",
        length="tokens in the pair",
        unit="pair",
        meaning=_MEANING,
    )


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Scores of every pair, as `classification.score_labels`; a block is the pairs of a premise."""
    path = inputs.tokens / f"{split}.parquet"
    pairs = tables.read(path, tables.TOKENS_LABELLED_PAIR).sort_by("row")
    premise, hypothesis = (
        pc.list_value_length(pairs[name]) for name in ("premise_tokens", "hypothesis_tokens")
    )
    return classification.score_labels(
        inputs.predictions,
        split,
        pairs["label"],
        by_text(pairs["premise"]),
        pc.add(premise, hypothesis),
    )


PROMOTION: Promotion = dataclasses.replace(
    classification.PROMOTION,
    outputs=(("premise", "hypothesis"), "label", classification.predicted_labels),
)
INTERFACE: Interface = dataclasses.replace(
    classification.INTERFACE, example="a dog sleeps .\tan animal sleeps ."
)
