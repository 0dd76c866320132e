"""Rows longer than a model's learned positions: refused before the first step, whichever split they
are in."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import default_params
import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import torch
import yaml

from pipeline.contracts import Sizes
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.tasks import classification, masked_language_model, translation
from pipeline.training import checkpoint, loop

CPU = torch.device("cpu")
ENCODER = {
    "width": 4,
    "heads": 1,
    "feed_forward": 4,
    "layers": 1,
    "dropout": 0.0,
    "implementation": "fused",
}
TRANSFORMER = {
    "width": 4,
    "heads": 1,
    "feed_forward": 4,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "variants": [],
    "dropout": 0.0,
}
TRANSFORMER |= {"norm": "layer", "norm_first": True, "tied": "none", "implementation": "fused"}
TEACHER_FORCING = {"scheduled_sampling": None, "padding_in_loss": False}
CASES: dict[str, tuple[ModuleType, dict[str, Any], dict[str, Any]]] = {
    "transformer": (
        translation,
        TRANSFORMER,
        {"batch_tokens": 40, "label_smoothing": 0.0, "max_length": 9} | TEACHER_FORCING,
    ),
    "transformer_classifier": (
        classification,
        ENCODER | {"norm_first": True},
        {"batch_tokens": 40, "label_smoothing": 0.0, "balance": "none", "max_length": None},
    ),
    "bert_classifier": (
        classification,
        ENCODER,
        {"batch_tokens": 40, "label_smoothing": 0.0, "balance": "none", "max_length": 10},
    ),
    "bert": (
        masked_language_model,
        ENCODER,
        {"batch_size": 4, "max_length": 17, "max_train_pairs": None},
    ),
}


def table(task: ModuleType, lengths: list[int], longest_side: str = "source") -> pa.Table:
    """Rows of these lengths; for BERT each has a short sentence before it, in a paragraph of their
    own."""
    rows = [[5] * length for length in lengths]
    count = len(rows)
    if task is translation:
        short = [[5]] * count
        sides = (
            {"source": rows, "target": short}
            if longest_side == "source"
            else {"source": short, "target": rows}
        )
        return pa.table({"row": range(count), **sides}, schema=tables.ENCODED_PAIR)
    if task is classification:
        return pa.table(
            {"row": range(count), "ids": rows, "label": [0] * count}, schema=tables.ENCODED_LABELLED
        )
    ids = [ids for row in rows for ids in ([5], row)]
    return pa.table(
        {"row": range(2 * count), "ids": ids, "paragraph": np.repeat(range(count), 2)},
        schema=tables.ENCODED_TEXT,
    )


def works(family: str, learned: int, train_table: pa.Table, valid_table: pa.Table) -> bool:
    """Return whether a model with `learned` positions can read every batch of several epochs and of
    the validation."""
    task_module, block, objective = CASES[family]
    model = checkpoint.build(
        family, block | {"learned_positions": learned}, Sizes(10, 10, False), "model"
    ).eval()
    settings = config.load(task_module.Config, objective, "objective")  # type: ignore[attr-defined]
    task = task_module.Task(train_table, valid_table, settings, 1, CPU)  # type: ignore[attr-defined]
    try:
        with torch.no_grad():
            for epoch in range(6):
                for planned in task.plan(epoch):
                    task.loss(model, task.batch(planned), None)
            task.validate(model)
    except UserError as error:
        return not str(error).startswith(
            f"model.learned_positions: got {learned}; expected at least"
        )
    return True


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("longest", [1, 3, 4, 7, 8, 9, 13])
@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("family", CASES)
def test_as_many_positions_as_the_task_says_are_enough_and_one_less_is_not(
    family: str, split: str, longest: int, side: str
) -> None:
    task_module, _, objective = CASES[family]
    if side == "target" and task_module is not translation:
        pytest.skip("it has one side")
    # Two long rows, as BERT pairs a sentence with any other's successor.
    splits = {"train": table(task_module, [1, 1, 1]), "valid": table(task_module, [1, 1, 1])}
    splits[split] = table(task_module, [1, longest, longest], side)
    settings = config.load(task_module.Config, objective, "objective")  # type: ignore[attr-defined]
    extra = 1 if family == "bert_classifier" else 0
    counted = [
        task_module.positions(splits[name], settings, name == "train", not extra) + extra  # type: ignore[attr-defined]
        for name in splits
    ]
    needed = max(counted)
    assert works(family, needed, splits["train"], splits["valid"])
    if family != "bert":  # which two sentences meet is drawn
        assert not works(family, needed - 1, splits["train"], splits["valid"])


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    """A corpus of whose test split one sentence is longer than all others, encoded, with a
    Transformer to train."""
    content = default_params.load()
    mine = tmp_path / "mine"
    mine.mkdir()
    for split, longest in (("train", 6), ("valid", 6), ("test", 18)):
        lines = ["a b", "c", "a " * (longest - 1) + "b"] * 3
        for side in ("src", "tgt"):
            (mine / f"{split}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {
        split: {"source": [f"{split}.src"], "target": [f"{split}.tgt"]}
        for split in ("train", "valid", "test")
    }
    corpus = content["corpora"]["toy_en_fr"] | {
        "source": {"path": "mine"},
        "format": "parallel_text",
    }
    corpus |= {"read": {"files": files}, "split": "official", "limit": None, "samples": []}
    corpus["vocab"] = corpus["vocab"] | {"corpus": "mine"}
    content["corpora"] = {"mine": corpus}
    run = content["runs"]["transformer"] | {"corpus": "mine"}
    run["model"] |= {"width": 4, "heads": 1, "feed_forward": 4, "learned_positions": 19}
    run["training"] |= {"max_epochs": 1}
    run["search"] = run["search"] | {"max_length": 12}
    content["runs"] = {"transformer": run}
    content["compute"] |= {"device": "cpu"}
    default_params.write(tmp_path, content)
    stage_runs.run(tmp_path, "scratch")
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(tmp_path, stage, "mine")
    return tmp_path


def change(root: Path, **model: int) -> None:
    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    content["settings"]["transformer"]["model"] |= model
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_a_long_test_row_is_refused_before_the_first_step(
    encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_training(*_: Any) -> None:
        raise AssertionError("it trains")

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "run", no_training)
        line = (
            r"model\.learned_positions: got 19; expected at least 20, the length of a text "
            r"of the split test\. Raise it"
        )
        with pytest.raises(UserError, match=f"^{line}"):
            stage_runs.run(encoded, "train", "transformer")
    change(encoded, learned_positions=20)
    for stage in ("train", "predict"):
        stage_runs.run(encoded, stage, "transformer")


def test_an_answer_longer_than_the_positions_is_refused_before_the_first_step(
    encoded: Path,
) -> None:
    content = yaml.safe_load((encoded / "params.yaml").read_text(encoding="utf-8"))
    content["settings"]["transformer"]["model"]["learned_positions"] = 20
    content["settings"]["transformer"]["search"]["max_length"] = 21
    (encoded / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    line = (
        "model.learned_positions: got 20; expected at least 21, the length of an answer of "
        "search.max_length."
    )
    with pytest.raises(UserError, match=f"^{re.escape(line)}"):
        stage_runs.run(encoded, "train", "transformer")
