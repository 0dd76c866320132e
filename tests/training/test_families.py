"""Families and the tasks that they support."""

import dataclasses

import pytest
from flows import ROOT

from pipeline.core import config, params
from pipeline.core.errors import UserError
from pipeline.training import families

FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
# The first run of each setting: the other seeds have its family and task.
RUNS = [
    (file, name)
    for file in FILES
    for name, run in config.section(file, "runs").items()
    if run["seed"] == 1
]
TASKS = config.module_names("pipeline.tasks")
FAMILIES = config.module_names("pipeline.models")


@pytest.mark.parametrize(("file", "name"), RUNS, ids=lambda value: getattr(value, "stem", value))
def test_every_run_has_a_family_for_its_task(file, name) -> None:
    families.refuse_other_task(params.run(file, name), f"runs.{name}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_supports_exactly_one_task(family: str) -> None:
    model = config.named_module("pipeline.models", family, "family").Model
    modules = [config.named_module("pipeline.tasks", task, "task") for task in TASKS]
    assert sum(families.supports(model, module.MODELS) for module in modules) == 1


def test_another_task_is_refused_with_the_families_that_support_it() -> None:
    run = params.run(ROOT / "params.yaml", "lstm-1")
    run = dataclasses.replace(run, family="ngram_lm", task="classification")
    with pytest.raises(UserError) as error:
        families.refuse_other_task(run, "runs.x")
    line = str(error.value)
    assert line.startswith("runs.x.family: got ngram_lm; expected one of bert_classifier, ")
    assert line.endswith(
        "text_cnn, transformer_classifier for classification. Name another family or task."
    )
