"""Initialization of a run: from scratch, or with the weights of another run.

The other run is of the same family, or of one whose weights this family can load (fine-tuning, d2l
section 16.6)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.contracts import SupportsPretrained
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.training import checkpoint

# Keys of a `model:` block that change neither the weights nor their meaning.
_MAY_DIFFER = ("dropout", "implementation")


def compatible_families(family: str) -> dict[str, Mapping[str, str]]:
    """The families whose weights a run of `family` can begin with.

    Each has the keys of its `model:` that must equal this run's, and their names in this run's.
    """
    module = config.named_module("pipeline.models", family, "family")
    all_keys = {
        field.name: field.name
        for field in dataclasses.fields(module.Config)
        if field.name not in _MAY_DIFFER
    }
    ancestors = getattr(module, "INIT_FROM", {})
    return {family: all_keys} | {
        name: all_keys if keys is None else keys for name, keys in ancestors.items()
    }


def refuse_mismatch(
    run: params.Run, other: str, family: str, block: Mapping[str, Any], where: str
) -> None:
    """UserError if the `model:` of `run` does not fit that of the run `other`.

    `where`: dotted name of the former; `family` and `block`: of the latter.
    """
    for other_key, key in compatible_families(run.family)[family].items():
        if run.model[key] != block[other_key]:
            raise refuse(
                f"{where}.{key}",
                run.model[key],
                f"{block[other_key]}, the {other_key} of its initial run {other}",
                "Give both runs' models the same sizes.",
            )


def init_weights(
    model: nn.Module, run: params.Run, folder: Path, vocabularies: tuple[str, str], where: str
) -> None:
    """Load the weights of the run trained in `folder` into the model; do nothing for scratch.

    UserError, with the run called `where`, if the weights do not fit. `vocabularies`: digests of
    the ids of source and target.
    """
    if checkpoint.read_config(folder, "run")["run"] is None:
        return
    other = checkpoint.read_config(folder, "run.family", "run.corpus", "run.model", "vocabularies")
    family = other["run"]["family"]
    families = compatible_families(run.family)
    if family not in families:
        expected = f"scratch or a run of the family {' or '.join(families)}"
        raise refuse(f"{where}.init_from", f"{folder.name}, of the family {family}", expected)
    refuse_mismatch(
        run, folder.name, family, other["run"]["model"], f"settings.{run.setting}.model"
    )

    # Weights of another family do not depend on the target vocabulary.
    compared = 2 if family == run.family else 1
    if tuple(other["vocabularies"][:compared]) != vocabularies[:compared]:
        raise refuse(
            f"{where}.init_from",
            f"{folder.name}, which reads other ids",
            "a run with the same vocabulary",
            f"Give this run's corpus the vocabulary of {other['run']['corpus']}: see its "
            "vocab.corpus.",
        )

    file = folder / "model.safetensors"
    tensors, _ = checkpoint.load(file)
    if family == run.family:
        checkpoint.copy_weights(model, tensors, str(file))
    else:
        assert isinstance(model, SupportsPretrained), (
            f"{run.family} has INIT_FROM but no load_pretrained"
        )
        model.load_pretrained(tensors)
