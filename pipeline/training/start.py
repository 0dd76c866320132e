"""Initialization of a run: from scratch, or with the weights of another run, of its family or of
one that it can adopt."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.contracts import Adopting
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.training import checkpoint

# in a `model:` block: neither is in the weights nor in what they mean
_MAY_DIFFER = ("dropout", "implementation")


def compatible_families(family: str) -> dict[str, Mapping[str, str]]:
    """The families that a run of `family` can begin from, each with what both runs' `model:` must
    have in common: the other's keys, and what they are called in this one's."""
    module = config.named_module("pipeline.models", family, "family")
    every = {
        field.name: field.name
        for field in dataclasses.fields(module.Config)
        if field.name not in _MAY_DIFFER
    }
    ancestors = getattr(module, "ANCESTORS", {})
    return {family: every} | {
        name: every if keys is None else keys for name, keys in ancestors.items()
    }


def refuse_mismatch(
    run: params.Run, other: str, family: str, block: Mapping[str, Any], where: str
) -> None:
    """UserError if the `model:` of `run`, called `where`, does not fit the run `other`, of that
    family and `block`."""
    for key, own in compatible_families(run.family)[family].items():
        if run.model[own] != block[key]:
            todo = "Give both runs' models the same sizes."
            raise refuse(
                f"{where}.{own}",
                run.model[own],
                f"{block[key]}, the {key} of its start {other}",
                todo,
            )


def init_weights(
    model: nn.Module, run: params.Run, folder: Path, vocabularies: tuple[str, str], where: str
) -> None:
    """Give the run's model the weights of the run trained in `folder`; UserError, with the run
    called `where`, if it cannot take them. `vocabularies`: the digests of the source side's and the
    target side's ids."""
    if checkpoint.read_config(folder, "run")["run"] is None:
        return
    facts = checkpoint.read_config(folder, "run.family", "run.corpus", "run.model", "vocabularies")
    family, fitting = facts["run"]["family"], compatible_families(run.family)
    if family not in fitting:
        expected = f"scratch or a run of the family {' or '.join(fitting)}"
        raise refuse(f"{where}.start", f"{folder.name}, of the family {family}", expected)
    refuse_mismatch(run, folder.name, family, facts["run"]["model"], f"{where}.model")
    # another family's weights know nothing of the target side
    sides = 2 if family == run.family else 1
    if tuple(facts["vocabularies"][:sides]) != vocabularies[:sides]:
        todo = (
            f"Give this run's corpus the vocabulary of {facts['run']['corpus']}: see its "
            "vocab.corpus."
        )
        raise refuse(
            f"{where}.start",
            f"{folder.name}, which reads other ids",
            "a run with the same vocabulary",
            todo,
        )
    file = folder / "model.safetensors"
    tensors, _ = checkpoint.load(file)
    if family == run.family:
        checkpoint.copy_weights(model, tensors, str(file))
    else:
        assert isinstance(model, Adopting), f"{run.family} names ancestors and cannot adopt"
        model.adopt(tensors)
