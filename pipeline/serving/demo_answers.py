"""Answers of trained runs on the page of `seqline demo`: one function per command."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.core.errors import refuse
from pipeline.inference import AttentionWeights, Prediction
from pipeline.predictions import TrainedRun
from pipeline.predictor import (
    Explanation,
    explain,
    open_filler,
    open_ranking,
    open_session,
    open_vectors,
    unknown_words,
    vocabulary,
)
from pipeline.report.attention import last_layer

Row = dict[str, Any]
Ask = Callable[[str, int], Row]
"""From a text and a seed to what the page shows."""

MOST_TOKENS = 60  # of either side of an attention map
_MOST_WORDS = 8  # of a list


def open_run(command: str, task: str, run: TrainedRun) -> Ask:
    """Load the run; the rows of its answers name the words that it does not know."""
    ask = COMMANDS[command](run)
    codec = vocabulary(task, run.vocab)

    def named(text: str, seed: int) -> Row:
        [unknown] = unknown_words(codec, [text])
        return ask(text, seed) | {"unknown": unknown}

    return named


def _search(run: TrainedRun) -> Ask:
    """For translators and language models."""
    session = open_session(run)
    return lambda text, seed: _explained(explain(session, text, seed or None))


def _explained(answer: Explanation) -> Row:
    return {
        "text": answer.text,
        "prompt": answer.prompt,
        "tokens": answer.tokens,
        "probabilities": answer.probabilities,
        "attention": None if answer.attention is None else attention_maps(answer.attention),
    }


def attention_maps(attention: AttentionWeights) -> Row:
    """The mean over the heads of the last layer, and each of these heads if there are several; no
    map of a text that is too long to be seen."""
    if max(len(attention.rows), len(attention.columns)) > MOST_TOKENS:
        return {"columns": [], "rows": [], "maps": [], "limit": MOST_TOKENS}
    named = [{"name": name, "weights": array} for name, array in attention.weights.items()]
    heads = last_layer(named)
    maps = {f"head {number}": head["weights"] for number, head in enumerate(heads, 1)}
    if len(heads) > 1:
        maps = {"mean of the heads": np.mean([head["weights"] for head in heads], axis=0)} | maps
    elif heads:
        maps = {"weights": heads[0]["weights"]}
    return {
        "columns": attention.columns,
        "rows": attention.rows,
        "maps": [
            {"name": name, "weights": np.round(array.astype(np.float64), 4).tolist()}
            for name, array in maps.items()
        ],
        "limit": MOST_TOKENS,
    }


def _fill(run: TrainedRun) -> Ask:
    filler = open_filler(run)

    def ask(text: str, seed: int) -> Row:
        [has_tokens] = filler.has_tokens([text])
        if not has_tokens:
            raise refuse("text", "a text without tokens", "a text with words")
        blanks = [_percentages(words) for words in filler.words(text, _MOST_WORDS)]
        return {"text": filler.fill(text).text, "lists": blanks}

    return ask


def _classify(run: TrainedRun) -> Ask:
    rank = open_ranking(run)

    def ask(text: str, seed: int) -> Row:
        [labels] = rank([text])
        if not labels:
            raise refuse("text", "a text without tokens", "a text with words")
        return {"text": labels[0].text, "lists": [_percentages(labels)]}

    return ask


def _percentages(predictions: Sequence[Prediction]) -> list[Row]:
    return [{"name": item.text, "value": math.exp(item.log_prob)} for item in predictions]


def _neighbours(run: TrainedRun) -> Ask:
    vectors = open_vectors(run)

    def ask(text: str, seed: int) -> Row:
        near = vectors.neighbours(text.strip(), _MOST_WORDS)
        return {"text": "", "lists": [[{"name": word.text, "value": word.cosine} for word in near]]}

    return ask


COMMANDS: dict[str, Callable[[TrainedRun], Ask]] = {
    "translate": _search,
    "generate": _search,
    "fill": _fill,
    "classify": _classify,
    "neighbours": _neighbours,
}
"""The commands that the page offers."""
