"""A masked language model's predictions: its guesses at masked words and at which sentence follows, and blanks filled in."""

from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import torch

from pipeline import config, tables
from pipeline.contracts import MASK, MaskedLanguageModel
from pipeline.errors import refuse
from pipeline.predictions import BLANK, Asked
from pipeline.text.encode import Codec
from pipeline.training import checkpoint, devices, loop


@dataclass(frozen=True, slots=True)
class Filled:
    """A text whose every blank holds the likeliest word, and the words' log-probability."""

    text: str
    log_prob: float


def predict(asked: Asked, out: Path) -> None:
    """Write `masked_<split>.parquet` for each split, and `samples.parquet` of the samples that have a blank."""
    task = config.named_module("pipeline.tasks", asked.run.task, f"{asked.where}.task")
    objective = config.load(task.Config, asked.run.objective, f"{asked.where}.objective")
    devices.prepare(config.load(loop.Config, asked.run.training, f"{asked.where}.training").threads)
    codec, trained = Codec.load(asked.vocab, task.SIDES[0]), checkpoint.read_facts(asked.model)["sizes"]["source"]
    if codec.size != trained:
        expected = f"{trained}, which the model was trained with"
        raise refuse(str(asked.vocab), f"{codec.size} ids", expected, "Run `dvc repro`.")
    model = checkpoint.load_model(asked.model, asked.device)
    for split in asked.splits():
        found = task.score(model, asked.table(split, task.SCHEMA), objective, asked.device)
        columns = [pa.array(found[field.name]).cast(field.type) for field in tables.MASKED]
        tables.write(out / f"masked_{split}.parquet", pa.table(columns, schema=tables.MASKED))
    tables.write(out / "samples.parquet", samples(model, task, codec, asked))


def samples(model: Any, task: ModuleType, codec: Codec, asked: Asked) -> pa.Table:
    """`tables.SAMPLES`: the samples that have a blank, filled in."""
    rows = []
    for number, sample in enumerate(sample for sample in asked.samples if BLANK in sample.prompt):
        filled = fill(model, task, codec, sample.prompt, asked.device)
        rows.append({"row": number, "prompt": sample.prompt, "reference": sample.reference} | asdict(filled))
    return pa.Table.from_pylist(rows, tables.SAMPLES)


@torch.inference_mode()
def fill(model: MaskedLanguageModel, task: ModuleType, codec: Codec, text: str, device: torch.device) -> Filled:
    """The likeliest word in the place of each blank, every one guessed while the others are blanks still."""
    parts = text.split(BLANK)
    ids: list[int] = []
    for number, part in enumerate(codec.encode(pa.array(parts, pa.string())).to_pylist()):
        ids += [*([MASK] if number else []), *part]
    prompt, segment_BS = task.prompt(pa.array([ids], pa.list_(pa.int32())), device)
    hidden_BSH = model.read(prompt, segment_BS)
    best = model.project(hidden_BSH[prompt.ids_BS == MASK]).float().log_softmax(-1).max(-1)
    words = [codec.decode([word]).strip() for word in best.indices.tolist()]
    spoken = parts[0] + "".join(word + part for word, part in zip(words, parts[1:], strict=True))
    return Filled(spoken, float(best.values.sum()))
