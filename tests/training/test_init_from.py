"""Where a run begins: with the weights of one of its own family, of one that it can adopt, or from
scratch; else refused."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from flows import ROOT
from torch import nn

from pipeline.contracts import Sizes
from pipeline.core import config, params
from pipeline.core.errors import UserError
from pipeline.training import checkpoint, fitted, init_from

FAMILIES = [
    family
    for family in config.module_names("pipeline.models")
    if not fitted.is_fitted(family, "family")
]
SIZES = Sizes(30, 30, True)
IDS = ("these", "those")
ADOPTED = [
    (family, parent)
    for family in FAMILIES
    for parent in init_from.compatible_families(family)
    if parent != family
]


@functools.cache
def first_run(family: str) -> params.Run:
    """The first run of the family in params.yaml or a preset."""
    for file in (ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))):
        for name, block in config.section(file, "runs").items():
            if block["family"] == family:
                return params.run(file, name)
    raise LookupError(family)


def run_of(family: str, **changes: Any) -> params.Run:
    """That run with changes of its `model:`."""
    run = first_run(family)
    return dataclasses.replace(run, model=run.model | changes)


def built(run: params.Run, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return checkpoint.build(run.family, run.model, SIZES, "model")


def saved(folder: Path, run: params.Run) -> nn.Module:
    model: Any = built(run, 1)
    if run.family == "word2vec":
        nn.init.normal_(model.output.weight[5:])  # as if it had met these words
    folder.mkdir()
    checkpoint.write_model(folder, model, {"run": dataclasses.asdict(run), "vocabularies": IDS})
    return model


def refused(run: params.Run, folder: Path, message: str, ids: tuple[str, str] = IDS) -> None:
    model = built(run, 2)
    before = [tensor.clone() for tensor in model.parameters()]
    with pytest.raises(UserError, match=message):
        init_from.init_weights(model, run, folder, ids, "runs.x")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), (
        "nothing is half taken over"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_initializes_from_its_own_runs(family: str, tmp_path: Path) -> None:
    free = {"dropout": 0.25, "implementation": "equations"}
    run = run_of(family)
    parent = saved(tmp_path / "parent", run)
    run = dataclasses.replace(
        run, model=run.model | {key: free[key] for key in free.keys() & run.model.keys()}
    )
    model = built(run, 2)
    init_from.init_weights(model, run, tmp_path / "parent", IDS, "runs.x")
    for name, tensor in parent.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize(("family", "parent"), ADOPTED)
def test_weights_of_another_family_load_if_sizes_match(
    family: str, parent: str, tmp_path: Path
) -> None:
    begun = run_of(parent)
    weights = saved(tmp_path / "parent", begun).state_dict()
    shared = init_from.compatible_families(family)[parent]
    run = run_of(family, **{own: begun.model[key] for key, own in shared.items()})
    model = built(run, 2)
    init_from.init_weights(model, run, tmp_path / "parent", ("these", "its own"), "runs.x")
    own = model.state_dict()
    if parent == "bert":
        taken = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
        assert all(torch.equal(own[name], tensor) for name, tensor in taken.items())
        assert torch.equal(own["output.weight"], built(run, 2).state_dict()["output.weight"]), (
            "the head is its own"
        )
    else:
        met = weights["output.weight"].any(1)
        assert torch.equal(own["embedding.weight"][met], weights["input.weight"][met])
    for key, other in shared.items():
        number = isinstance(begun.model[key], int)
        unlike = run_of(family, **run.model | {other: begun.model[key] * 2 if number else 7})
        message = (
            rf"^settings\.{unlike.setting}\.model\.{other}: got .*; expected "
            rf"{begun.model[key]}, the {key} of its initial run parent\. Give both"
        )
        refused(unlike, tmp_path / "parent", message)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("transformer", "heads", 2),  # of the same shapes, and of another meaning
        ("transformer", "norm_first", False),
        ("transformer_lm", "context", 32),
        ("attention_seq2seq", "score", "general"),
        ("recurrent_lm", "hidden", 32),
        ("bert", "feed_forward", 32),
    ],
)
def test_run_of_same_family_with_another_model_is_refused(
    family: str, key: str, value: Any, tmp_path: Path
) -> None:
    run = run_of(family)
    saved(tmp_path / "parent", run)
    had = re.escape(str(run.model[key]))
    message = (
        rf"^settings\.{run.setting}\.model\.{key}: got {value}; expected {had}, the "
        rf"{key} of its initial run parent\. Give both"
    )
    refused(run_of(family, **{key: value}), tmp_path / "parent", message)


def test_a_run_of_another_family_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "gru", run_of("recurrent_lm"))
    expected = r"scratch or a run of the family bert_classifier or bert\.$"
    message = rf"^runs\.x\.init_from: got gru, of the family recurrent_lm; expected {expected}"
    refused(run_of("bert_classifier"), tmp_path / "gru", message)


@pytest.mark.parametrize(
    ("family", "parent", "ids"),
    [
        ("transformer", "transformer", ("others", "those")),
        ("transformer", "transformer", ("these", "others")),
        ("birnn_classifier", "birnn_classifier", ("these", "others")),  # other labels
        ("bert_classifier", "bert", ("others", "those")),
    ],
)
def test_a_run_that_reads_other_ids_is_refused(
    family: str, parent: str, ids: tuple[str, str], tmp_path: Path
) -> None:
    saved(tmp_path / "parent", run_of(parent))
    message = (
        r"^runs\.x\.init_from: got parent, which reads other ids; expected a run with the "
        r"same vocabulary\. Give "
    )
    refused(run_of(family, **run_of(parent).model), tmp_path / "parent", message, ids)


def test_from_scratch_nothing_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"run": None}))
    run = run_of("recurrent_lm")
    model, same = built(run, 2), built(run, 2)
    init_from.init_weights(model, run, tmp_path, IDS, "runs.x")
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True)
    )
