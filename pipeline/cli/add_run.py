"""`seqline add run FAMILY CORPUS`: write a setting of the family, and its runs, to `params.yaml`.

The setting is the one that a preset has for the family, with sizes for the number of rows and
tokens of the corpus. A family of the user's own has the setting of another family of its task, with
a block `model:` that is guessed, as `seqline check-model` does:

- embedding, hidden size and the like are those of the preset below half a million tokens, doubled
  below five million, else four times as large. The learning rate of Adam is divided by the same.
- dropout is at least 0.3 below 20,000 rows, and 0.2 below half a million.
- epochs are as many as give 1,500 updates, from 3 to 40. Training stops after 3 without a better
  validation loss.
- texts may be as long as 99 of 100 rows are."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cli import inspect_source, params_text, user_family, validate_params
from pipeline.cli.corpus_counts import Counts, count
from pipeline.cli.setting_templates import Template, kind_of_block, templates
from pipeline.core import config, params, tables
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import UserError, refuse
from pipeline.corpora import kind_of
from pipeline.dag import paths
from pipeline.text import tokens

_STEPS_OF_SIZE = (500_000, 5_000_000)  # tokens from which sizes double
_SIZES = ("embedding", "hidden", "width", "feed_forward", "filters", "dimension")
_DROPOUT = ((20_000, 0.3), (500_000, 0.2))  # at least, below a number of rows
_UPDATES = 1500
_EPOCHS = (3, 40)
_BATCHES = 20  # of an epoch at least
_LEAST_BATCH = 128
_PATIENCE = 3
_PIECES = 1.3  # pieces of bpe per word, about
_LONGEST = 512
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class Added:
    """Names and text of the new blocks, and remarks about the sizes."""

    setting: str
    runs: list[str]
    text: str
    remarks: list[str]


def add(
    root: Path,
    family: str,
    corpus: str,
    setting: str | None,
    seeds: int,
    model: dict[str, Any] | None = None,
) -> Added:
    """Write `settings.SETTING` and a run for each seed from 1; UserError for a family that fits no
    task of the corpus, and for a corpus whose size is not known. Then nothing is written.

    `model`: the block `model:`, in place of one with sizes suited to the corpus."""
    path = root / "params.yaml"
    setting = setting or f"{corpus}_{family}"
    params.check_name("--setting", setting)
    block, read, kind = _corpus(path, corpus)
    if family not in config.module_names("pipeline.models"):
        raise _refuse_family(root, family, corpus, kind)
    template = _template(root, family, corpus, kind, model)
    params_text.refuse_taken(path, "settings", setting, "--setting")

    counts = _counts(root, corpus, block, read)
    is_chosen = template.is_chosen or model is not None
    chosen = template.setting if model is None else template.setting | {"model": model}
    values = sized(chosen, counts, block.text or {}, is_chosen)
    is_trained = values["optim"] is not None
    runs = [f"{setting}-{seed}" for seed in range(1, seeds + 1 if is_trained else 2)]
    for run in runs:
        params_text.refuse_taken(path, "runs", run, "--setting")
    comment = f"for {counts.rows:,} rows and {counts.tokens:,} tokens, of `seqline add run`"
    lines = params_text.block(setting, values, comment)
    keys = {"setting": setting, "family": family, "task": template.task, "corpus": corpus}
    entry = keys | {"seed": 1, "init_from": params.SCRATCH}
    rows = params_text.block(runs[0], entry, "", anchor=setting)
    rows += [f"{run}: {{<<: *{setting}, seed: {number}}}" for number, run in enumerate(runs[1:], 2)]

    text = params_text.with_block(path.read_text(encoding="utf-8"), "settings", lines)
    text = params_text.with_block(text, "runs", rows)
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
        validate_params.check(partial)
    divided = ", before valid and test are split off" if "all" in getattr(read, "files", ()) else ""
    remarks = [f"{corpus}: {counts.rows:,} rows and {counts.tokens:,} tokens for training{divided}"]
    remarks.append(f"sizes after the setting {template.name} of the preset {template.preset}")
    if template.is_guessed:
        remarks.append(
            "values of `model:` are guessed: change them in params.yaml, or give --model"
        )
    if not is_trained:
        remarks.append(f"{family} has no random numbers: one seed")
    return Added(setting, runs, "\n".join([*lines, "", *rows]), remarks)


def families_for(root: Path, kind: str) -> list[str]:
    """Families that can be added for corpora of the kind: those with a setting in a preset, and the
    user's own."""
    return [*_from_scratch(templates(root, [kind])), *user_family.names(root, [kind])]


def all_families(root: Path) -> list[str]:
    """Families that can be added for one of the corpora of `params.yaml`."""
    corpora = config.blocks(root / "params.yaml", "corpora")
    kinds = {kind_of_block(block) for block in corpora.values()}
    with_text = [kind for kind in kinds if tables.has_text(kind)]
    return sorted([*_from_scratch(templates(root, with_text)), *user_family.names(root, with_text)])


def _from_scratch(templates: Iterable[tuple[Template, str, str]]) -> list[str]:
    return list(
        dict.fromkeys(family for _, family, init_from in templates if init_from == params.SCRATCH)
    )


def sized(
    setting: Mapping[str, Any],
    counts: Counts,
    text: Mapping[str, Any],
    keeps_model: bool = False,
) -> dict[str, Any]:
    """The blocks of a setting with sizes for a corpus (see the module's docstring).

    `keeps_model`: the block `model:` stays as it is, and the learning rate with it."""
    model = dict(setting["model"])
    grow = 1 if keeps_model else 2 ** sum(counts.tokens >= step for step in _STEPS_OF_SIZE)
    model |= {key: model[key] * grow for key in _SIZES if isinstance(model.get(key), int)}
    if isinstance(model.get("dropout"), float) and not keeps_model:
        least = next((share for rows, share in _DROPOUT if counts.rows < rows), 0.0)
        model["dropout"] = max(model["dropout"], least)

    objective = setting["objective"] and dict(setting["objective"])
    search = setting["search"] and dict(setting["search"])
    factor = _PIECES if text.get("level") == "bpe" else 1.0
    if objective and isinstance(objective.get("max_length"), int):
        objective["max_length"] = _length(factor * max(counts.longest(0), counts.longest(-1)))
    if search and len(counts.lengths) > 1:
        search["max_length"] = _length(1.5 * factor * counts.longest(-1))
        positions = model.get("learned_positions")
        if isinstance(positions, int) and positions > 1 and not keeps_model:
            model["learned_positions"] = max(positions, search["max_length"])
    if objective and "batch_tokens" in objective:
        # Room for the longest row; and several batches in an epoch of a small corpus.
        size = min(objective["batch_tokens"] * grow, counts.tokens // _BATCHES)
        least = max(_LEAST_BATCH, objective.get("max_length") or counts.longest(0))
        objective["batch_tokens"] = max(size, least)

    blocks = dict(setting) | {"model": model, "objective": objective, "search": search}
    if setting["optim"] is not None:
        blocks |= _training(setting, objective or {}, counts, grow)
    return blocks


def _training(
    setting: Mapping[str, Any], objective: Mapping[str, Any], counts: Counts, grow: int
) -> dict[str, Any]:
    """The blocks `optim` and `training`."""
    size = objective.get("batch_tokens") or objective["batch_size"] * objective.get("steps", 1)
    updates = max(counts.tokens / (size * setting["training"]["accumulate"]), 1.0)
    epochs = min(max(math.ceil(_UPDATES / updates), _EPOCHS[0]), _EPOCHS[1])
    training = dict(setting["training"]) | {"max_epochs": epochs, "patience": _PATIENCE}
    if training["average"] is not None:
        training["average"] = min(training["average"], epochs)

    optim = dict(setting["optim"])
    if optim["name"].startswith("adam"):
        optim["learning_rate"] = optim["learning_rate"] / grow
    schedule = dict(optim["schedule"])
    if "warmup_steps" in schedule:
        schedule["warmup_steps"] = min(schedule["warmup_steps"], int(updates * epochs / 10))
    return {"optim": optim | {"schedule": schedule}, "training": training}


def _length(tokens: float) -> int:
    """A limit of at least so many tokens: a multiple of 8, within bounds."""
    return min(max(8 * math.ceil(tokens / 8), _SHORTEST), _LONGEST)


def _corpus(path: Path, name: str) -> tuple[params.Corpus, Any, str]:
    """The corpus's block, its block `read`, and its kind; UserError for a corpus without text."""
    choices = list(config.section(path, "corpora"))
    if name not in choices:
        expected = "one of " + ", ".join(choices)
        raise refuse("CORPUS", name, expected, config.nearest(name, choices))
    block = params.corpus(path, name)
    reader = config.named_module("pipeline.corpora", block.format, f"corpora.{name}.format")
    read = config.load(reader.Config, block.read, f"corpora.{name}.read")
    kind = kind_of(reader, read)
    if not tables.has_text(kind):
        todo = "Copy a setting of a preset by hand."
        raise refuse("CORPUS", f"{name}, which is {kind}", "a corpus of texts", todo)
    return block, read, kind


def _template(
    root: Path, family: str, corpus: str, kind: str, model: dict[str, Any] | None
) -> Template:
    """The first setting of a preset with the family and a task for the kind of corpus; for a family
    that no preset has, one of its task."""
    known = [
        (template, init_from)
        for template, template_family, init_from in templates(root, [kind])
        if template_family == family
    ]
    for template, init_from in known:
        if init_from == params.SCRATCH:
            return template
    if known:
        todo = "Copy its setting and runs of a preset by hand."
        raise refuse("FAMILY", family, "one that begins from scratch", todo)

    template_of_task = user_family.template(root, family, corpus, kind, model)
    if template_of_task is None:
        raise _refuse_family(root, family, corpus, kind)
    return template_of_task


def _refuse_family(root: Path, family: str, corpus: str, kind: str) -> UserError:
    choices = families_for(root, kind)
    for template, of_setting, _ in templates(root, [kind]):
        if template.name == family:
            got = f"{family}, which is a setting of the family {of_setting}"
            todo = f"Run `seqline add run {of_setting} {corpus}`."
            return refuse("FAMILY", got, "the name of a family", todo)
    expected = f"one of {', '.join(choices)} for {corpus}, which is {kind}"
    return refuse("FAMILY", family, expected, config.nearest(family, choices))


def _counts(root: Path, name: str, block: params.Corpus, read: Any) -> Counts:
    """Count the user's own files, or those that were downloaded."""
    where = f"corpora.{name}"
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    text = config.load(tokens.Text, block.text, f"{where}.text")
    if "path" in block.source:
        path = str(root / block.source["path"])
        with inspect_source.raw_folder(path, f"{where}.source.path") as (raw, _):
            counts = count(reader, read, raw, text)
    else:
        values = {"vocab": block.vocab}
        raw = paths.option_path(root, "download", name, values, "out")
        if not raw.exists():
            got = "a corpus that was not downloaded, whose size is unknown"
            raise refuse(where, got, "its files", f"Run `dvc repro download@{name}`.")
        counts = count(reader, read, raw, text)
    if not counts.rows:
        raise UserError(f"{where}: got no usable row; expected at least one. Look at its files.")
    return counts
