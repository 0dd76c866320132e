"""Rows and prompts for checks, and what a model has learned of the rows."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.conformance import expect_different
from pipeline.contracts import PAD, Prompt
from pipeline.core import tables

MASK_PADDING = "Mask the positions from length_B on."


def prompt_of(*rows: list[int], width: int = 0) -> Prompt:
    """Rows as a prompt, padded to `width` or the longest."""
    width = max(width, *(len(row) for row in rows))
    ids_BS = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return Prompt(ids_BS, torch.tensor([len(row) for row in rows]))


def text_table(rows: Sequence[list[int]], sentences: int | None = None) -> pa.Table:
    """Rows as an encoded text: paragraphs of so many sentences, or one paragraph."""
    paragraphs = [row // (sentences or len(rows)) for row in range(len(rows))]
    return pa.table([range(len(rows)), rows, paragraphs], schema=tables.ENCODED_TEXT)


def accuracy(log_probs_NC: NDArray[Any], table: pa.Table, least: float) -> tuple[bool, str]:
    """Whether the share of right labels is at least `least`, and that share in words."""
    share = float((log_probs_NC.argmax(1) == table["label"].to_numpy()).mean())
    return share >= least, f"{share:.0%} of the labels right; expected {least:.0%}"


def perplexity(nats: NDArray[Any], count: NDArray[Any], most: float) -> tuple[bool, str]:
    """Whether the perplexity of tokens, from the nats and the number of each row's, is below
    `most`, and the perplexity in words."""
    value = math.exp(nats.sum() / count.sum())
    return value < most, f"a perplexity of {value:.2f}; expected below {most}"


def expect_read(
    what: str,
    row: list[int],
    places: Iterable[int],
    changed_id: int,
    compute: Callable[[list[int]], Tensor],
    todo: str,
) -> None:
    """Raise Failed unless a change of the id at each of the places changes what is computed."""
    before = compute(row)
    for place in places:
        changed = [*row[:place], changed_id, *row[place + 1 :]]
        expect_different(f"{what} {place}", compute(changed), before, todo)
