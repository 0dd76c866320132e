"""Predictions of a trained run: one file per task, named like the task, exporting `predict(asked,
out)`.

Every task writes, for each split but train, the rows' own tables (`likelihood_<split>.parquet`,
...), and `samples.parquet`; `pipeline/scoring/tasks/<task>.py` reads what
`pipeline/predictions/<task>.py` writes, and nothing else does but the report. Here is what several
tasks share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.contracts import Attentive
from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.inference import EMPTY, Prediction, Session, attention_table, load_trained_model
from pipeline.text.encode import Codec, check_ids, describe

# a word to fill in (a piece, for bpe; a character): samples that have one are for models that guess
# words
BLANK = "___"
_STAND_IN = "a"


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """One run's prediction: its block (called `where` in messages), the folders it reads, and the
    sentences to show."""

    run: params.Run
    where: str
    model: Path
    encoded: Path
    vocab: Path
    samples: tuple[params.Sample, ...]
    device: torch.device

    def splits(self) -> list[str]:
        """Every split but train; UserError if there is none."""
        found = sorted({file.stem for file in self.encoded.glob("*.parquet")} - {"train"})
        if not found:
            raise refuse(
                str(self.encoded),
                "no split to predict",
                "the encode stage's tables",
                "Run `dvc repro`.",
            )
        return found

    def table(self, split: str, schema: pa.Schema) -> pa.Table:
        """The split's encoded rows."""
        path = self.encoded / f"{split}.parquet"
        table = tables.read(path, schema)
        check_ids(table, describe(self.vocab).sizes, path)
        return table

    def network(self) -> nn.Module:
        """The trained model alone, for tasks that are not answered by a search."""
        return load_trained_model(self.run, self.where, self.model, self.vocab, self.device)

    def objective(self, task: ModuleType) -> Any:
        """The run's `objective:` as the task's Config."""
        return config.load(task.Config, self.run.objective, f"{self.where}.objective")

    def session(self) -> Session:
        """The run with its vocabulary and search."""
        return Session.of(self.run, self.where, self.model, self.vocab, self.device)


def write_likelihood(
    nats: NDArray[np.float64], count: NDArray[np.int32], table: pa.Table, out: Path
) -> None:
    """Write `tables.LIKELIHOOD`: -log P and number of tokens of every row of an encoded table."""
    tables.write(
        out,
        pa.table(
            [table["row"], pa.array(nats), pa.array(count, pa.int32())], schema=tables.LIKELIHOOD
        ),
    )


def write_outputs(asked: Sequence[params.Sample], answers: Iterable[Prediction], out: Path) -> None:
    """Write `samples.parquet`: the samples with their answers."""
    rows = [
        {
            "row": i,
            "prompt": s.prompt,
            "reference": s.reference,
            "text": a.text,
            "log_prob": a.log_prob,
        }
        for i, (s, a) in enumerate(zip(asked, answers, strict=True))
    ]
    tables.write(out / "samples.parquet", pa.Table.from_pylist(rows, tables.SAMPLES))


def write_samples(session: Session, asked: Sequence[params.Sample], out: Path) -> None:
    """Write what the run's search makes of its corpus's samples, and where it looked if it can say.

    A translator's answer to a sample without tokens is empty, as in `Session.translate`; a language
    model goes on from it."""
    texts = [sample.prompt for sample in asked]
    numbers = (
        list(range(len(texts)))
        if session.continues_prompt
        else session.positions_with_tokens(texts)
    )
    prompt = session.prompt([texts[number] for number in numbers]) if numbers else None
    best = (
        [answers[0] for answers in session.run_search(prompt, session.generator())]
        if prompt
        else []
    )

    answers = dict(zip(numbers, session.decode_hypotheses(best), strict=True))
    write_outputs(asked, [answers.get(number, EMPTY) for number in range(len(texts))], out)
    if prompt and isinstance(session.model, Attentive):
        tables.write(
            out / "attention.parquet",
            attention_table(session.attention_weights(prompt, best), numbers),
        )


def encode_around_blanks(codec: Codec, text: str) -> list[list[int]]:
    """The ids of what stands before, between and after the blanks of a text, as they are in the
    text with its blanks filled.

    Encoded by itself a part would lose the space between it and a blank, which is a character or,
    for bpe, belongs to the word behind it. So a word stands in for a blank with a space beside it
    while the part is encoded."""
    parts = text.split(BLANK)
    [word] = codec.encode(pa.array([_STAND_IN])).to_pylist()
    follows = [number > 0 and part[:1].isspace() for number, part in enumerate(parts)]
    spaces = [codec.level == "char" and part[-1:].isspace() for part in parts[:-1]] + [False]
    whole = [
        _STAND_IN * a + part + _STAND_IN * z
        for a, part, z in zip(follows, parts, spaces, strict=True)
    ]
    found = codec.encode(pa.array(whole)).to_pylist()
    return [
        ids[len(word) * a : len(ids) - z] for a, ids, z in zip(follows, found, spaces, strict=True)
    ]
