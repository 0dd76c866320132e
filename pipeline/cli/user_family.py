"""Families of the user's own, which no preset has: their tasks, corpora and settings."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.cli.setting_templates import Template, families, kind_of_block, templates
from pipeline.conformance import cases, guess, load_family
from pipeline.contracts import Fitted
from pipeline.core import config, params, tables
from pipeline.core.errors import UserError, refuse
from pipeline.training.families import refuse_other_objective


def names(root: Path, kinds: Sequence[str]) -> list[str]:
    """Families that no preset has, for corpora of one of the kinds. One that cannot be imported is
    left out."""
    families_of_kinds = []
    for family in sorted(set(config.module_names("pipeline.models")) - families(root)):
        with suppress(UserError):
            if any(_kind(task) in kinds for task in cases.tasks_of(load_family(family))):
                families_of_kinds.append(family)
    return families_of_kinds


def template(
    root: Path, family: str, corpus: str, kind: str, block: dict[str, Any] | None
) -> Template | None:
    """A setting for a family that no preset has; None if its tasks are for other kinds of corpora.

    `model:` is `block`, or that of its first run in params.yaml, or one that is guessed. The other
    blocks are those of the setting of its task with the most keys of `model:` in common."""
    module = load_family(family)
    if not dataclasses.is_dataclass(getattr(module, "Config", None)):
        raise _refuse(family, "no dataclass Config")
    tasks = cases.tasks_of(module)
    if not tasks:
        raise _refuse(family, "a Model with the methods of no task")
    task = next((task for task in tasks if _kind(task) == kind), None)
    if task is None:
        return None

    files = cases.params_files(root)
    first_run = cases.first_run(files[:1], family)
    chosen = first_run.block if block is None and first_run is not None else block
    model = cases.guessed_block(files, module) if chosen is None else chosen
    if model is None:
        got = f"{family}, for whose sizes no value can be guessed"
        todo = f"Run `seqline add run {family} {corpus} {cases.model_option(module, None)}`."
        raise refuse("FAMILY", got, "one with --model", todo)

    keys = model.keys()
    similar = max(
        _similar(root, module.Model, task, kind),
        key=lambda each: len(each.setting["model"].keys() & keys),
        default=None,
    )
    if similar is None:
        expected = "a family whose blocks are those of a setting of a preset"
        raise refuse("FAMILY", family, expected, "Write its blocks by hand.")
    is_guessed = chosen is None
    if is_guessed and keys <= similar.setting["model"].keys():
        # A copy of a family: values that were chosen together.
        together = {key: similar.setting["model"][key] for key in keys}
        if guess.is_accepted(module.Config, together):
            model, is_guessed = together, False
    setting = similar.setting | {"model": model}
    return dataclasses.replace(
        similar, setting=setting, is_guessed=is_guessed, is_chosen=chosen is not None
    )


def _refuse(family: str, problem: str) -> UserError:
    got = f"pipeline/models/{family}.py with {problem}"
    return refuse("FAMILY", got, "a finished family", f"Run `seqline check-model {family}`.")


def _similar(root: Path, model: type, task: str, kind: str) -> Iterator[Template]:
    """Settings of the task that train, or fit, such a model from scratch."""
    module = config.named_module("pipeline.tasks", task, "task")
    is_fitted = issubclass(model, Fitted)
    for each, _, init_from in templates(root, [kind]):
        blocks = each.setting
        is_alike = (blocks["optim"] is None) == is_fitted and init_from == params.SCRATCH
        if each.task == task and is_alike:
            with suppress(UserError):
                if blocks["objective"] is not None:
                    objective = config.load_objective(module, blocks["objective"], "objective")
                    refuse_other_objective(module, model, objective, "objective")
                yield each


def run_command(root: Path, family: str, task: str) -> str:
    """The command that writes a run of the family; a corpus of params.yaml is named if one fits."""
    kind = _kind(task)
    if not tables.has_text(kind):
        return f"write a setting and a run by hand, as those of the task {task} in presets/"
    corpus = _corpus(root, task, kind)
    after = "" if corpus else ", after `seqline add corpus FILE`"
    return f"seqline add run {family} {corpus or 'CORPUS'}{after}"


def _corpus(root: Path, task: str, kind: str) -> str | None:
    """The corpus of the first run of the task, else the first that fits."""
    content = config.read(root / "params.yaml")
    corpora = content.get("corpora") or {}
    fitting = [name for name, block in corpora.items() if _has_kind(block, kind)]
    runs = (content.get("runs") or {}).values()
    used = [
        run.get("corpus") for run in runs if isinstance(run, Mapping) and run.get("task") == task
    ]
    return next((name for name in [*used, *fitting] if name in fitting), None)


def _has_kind(block: Any, kind: str) -> bool:
    with suppress(UserError, KeyError, TypeError):
        return kind_of_block(block) == kind
    return False


def _kind(task: str) -> str:
    kind: str = config.named_module("pipeline.tasks", task, "task").KIND
    return kind
