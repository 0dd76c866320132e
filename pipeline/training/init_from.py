"""Initialization of a run: from scratch, or with the trained model of another run.

The other run is of the same family, or of one whose weights this family can load (fine-tuning, d2l
section 16.6). Or its model becomes a component of this run's, unchanged: the family's module names
the families of its component in COMPONENTS, and its Model takes the component after the sizes. With
COMPONENT_OPTIONAL = True a run from scratch has none."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.contracts import SupportsPretrained
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.training import checkpoint
from pipeline.training.fitted import is_fitted

# Keys of a `model:` block that change neither the weights nor their meaning.
_MAY_DIFFER = ("dropout", "implementation")


def compatible_families(family: str) -> dict[str, Mapping[str, str]]:
    """The families whose weights a run of `family` can begin with, or that its component can have.

    Each has the keys of its `model:` that must equal this run's, and their names in this run's.
    """
    module = config.named_module("pipeline.models", family, "family")
    if components := component_families(family):
        return {name: {} for name in components}
    if is_fitted(family, "family"):
        return {}
    all_keys = {
        field.name: field.name
        for field in dataclasses.fields(module.Config)
        if field.name not in _MAY_DIFFER
    }
    ancestors = getattr(module, "INIT_FROM", {})
    return {family: all_keys} | {
        name: all_keys if keys is None else keys for name, keys in ancestors.items()
    }


def component_families(family: str) -> tuple[str, ...]:
    """The families of the component that models of `family` contain; none if they contain none."""
    module = config.named_module("pipeline.models", family, "family")
    components: tuple[str, ...] = getattr(module, "COMPONENTS", ())
    return components


def can_start_from_scratch(family: str) -> bool:
    """Whether models of `family` need no component."""
    module = config.named_module("pipeline.models", family, "family")
    return not component_families(family) or getattr(module, "COMPONENT_OPTIONAL", False)


def refuse_scratch(run: params.Run, where: str) -> None:
    """UserError for a run `where` whose model needs a component, and that begins from scratch."""
    components = component_families(run.family)
    if run.init_from == params.SCRATCH and not can_start_from_scratch(run.family):
        expected = f"a run of the family {' or '.join(components)}, which {run.family} contains"
        raise refuse(f"{where}.init_from", run.init_from, expected)


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

    # Weights of another family do not depend on the target vocabulary.
    family = _init_family(run, folder, where)
    _refuse_other_ids(folder, vocabularies[: 2 if family == run.family else 1], where)

    file = folder / "model.safetensors"
    tensors, _ = checkpoint.load(file)
    if family == run.family:
        checkpoint.copy_weights(model, tensors, str(file))
    else:
        assert isinstance(model, SupportsPretrained), (
            f"{run.family} has INIT_FROM but no load_pretrained"
        )
        model.load_pretrained(tensors)


def load_component(
    run: params.Run, folder: Path, vocabularies: tuple[str, str], where: str
) -> nn.Module | None:
    """Load the run trained in `folder` as the component of this run's model; None if it has none.

    UserError as `init_weights`.
    """
    refuse_scratch(run, where)
    if run.init_from == params.SCRATCH or not component_families(run.family):
        return None
    _init_family(run, folder, where)
    _refuse_other_ids(folder, vocabularies, where)
    return checkpoint.load_model(folder, torch.device("cpu")).requires_grad_(False)


def _init_family(run: params.Run, folder: Path, where: str) -> str:
    """The family of the run trained in `folder`; UserError if this run cannot begin with it."""
    other = checkpoint.read_config(folder, "run.family", "run.model")["run"]
    family: str = other["family"]
    families = compatible_families(run.family)
    if family not in families:
        scratch = [params.SCRATCH] if can_start_from_scratch(run.family) else []
        named = [f"a run of the family {' or '.join(families)}"] if families else []
        expected = " or ".join(scratch + named)
        raise refuse(f"{where}.init_from", f"{folder.name}, of the family {family}", expected)
    refuse_mismatch(run, folder.name, family, other["model"], f"settings.{run.setting}.model")
    return family


def _refuse_other_ids(folder: Path, vocabularies: tuple[str, ...], where: str) -> None:
    """UserError if the run trained in `folder` reads ids of other vocabularies."""
    other = checkpoint.read_config(folder, "run.corpus", "vocabularies")
    if tuple(other["vocabularies"][: len(vocabularies)]) != vocabularies:
        raise refuse(
            f"{where}.init_from",
            f"{folder.name}, which reads other ids",
            "a run with the same vocabulary",
            f"Give this run's corpus the vocabulary of {other['run']['corpus']}: see its "
            "vocab.corpus.",
        )
