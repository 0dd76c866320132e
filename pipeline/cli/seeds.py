"""`seqline use --seeds`: give settings more seeds, or fewer.

A run is one line of the file, so lines are added and removed, and all others stay as they are."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline.cli import params_text
from pipeline.core import params
from pipeline.core.errors import refuse

_OPTION = "--seeds"
_EXAMPLE = "For example --seeds 5, or --seeds lstm=5 for one setting."


def with_seeds(text: str, wanted: Sequence[str]) -> str:
    """The params file `text`, which is in order, with other numbers of seeds.

    `wanted`: each `N` for every setting, or `SETTING=N` for one. Seeds are then 1 to N. With `N`,
    settings keep their runs if these are on several corpora (cross-validation), or if no part of
    them is trained by gradients: such models are the same for every seed. UserError for a number
    below 1, and for a setting that is unknown or cross-validated."""
    for option in wanted:
        setting, equals, number = option.rpartition("=")
        if not number.isascii() or not number.isdecimal() or int(number) < 1:
            raise refuse(_OPTION, option, "a number of seeds, at least 1", _EXAMPLE)

        content = YAML().load(text)
        settings = _runs_by_setting(content)
        if equals and setting not in settings:
            raise refuse(_OPTION, setting, "one of " + ", ".join(settings), _EXAMPLE)
        if equals and _is_cross_validated(settings[setting]):
            got = f"{setting}, whose runs are on several corpora"
            raise refuse(_OPTION, got, "a setting with one corpus", "Add its runs by hand.")

        names = [setting] if equals else _trained_settings(content, settings)
        text = _with_seeds(text, content, settings, names, int(number))
    return text


def _runs_by_setting(content: Any) -> dict[str, dict[str, Any]]:
    """The runs of each setting by name, in the order of the file."""
    grouped: dict[str, dict[str, Any]] = {}
    for name, run in content["runs"].items():
        grouped.setdefault(run["setting"], {})[name] = run
    return grouped


def _trained_settings(content: Any, settings: Mapping[str, Any]) -> list[str]:
    """The settings that are trained by gradients, or contain one that is, on one corpus."""
    return [
        name
        for name, runs in settings.items()
        if not _is_cross_validated(runs)
        and any(_is_trained(content, run, len(content["runs"])) for run in runs.values())
    ]


def _is_trained(content: Any, run: Mapping[str, Any], most: int) -> bool:
    """Whether the run, or one of at most `most` that it begins from, is trained by gradients."""
    for _ in range(most):
        if content["settings"][run["setting"]]["optim"] is not None:
            return True
        if run["init_from"] == params.SCRATCH:
            return False
        run = content["runs"][run["init_from"]]
    return False


def _is_cross_validated(runs: Mapping[str, Mapping[str, Any]]) -> bool:
    return len({run["corpus"] for run in runs.values()}) > 1


def _with_seeds(
    text: str, content: Any, settings: dict[str, dict[str, Any]], names: list[str], count: int
) -> str:
    """The text with seeds 1 to `count` of the settings `names`. Updates `settings`."""
    lines = [line + "\n" for line in params_text.split_lines(text)]
    place = {name: content["runs"].lc.key(name) for name in content["runs"]}
    rows = {name: range(row, _end(lines, row, indent)) for name, (row, indent) in place.items()}

    for setting in names:
        # The first run stays in any case: the others take its keys.
        runs = settings[setting]
        base, *others = runs
        surplus = [name for name in others if runs[name]["seed"] > count]
        present = {run["seed"] for run in runs.values()}
        stem = re.sub(r"-[0-9]+$", "", base)
        end = max(rows[name].stop for name in runs)
        for name in surplus:
            lines[rows[name].start : rows[name].stop] = [""] * len(rows[name])
            del runs[name]

        for seed in range(1, count + 1):
            if seed not in present:
                name = f"{stem}-{seed}"
                own = _own_keys(content, settings, base, seed)
                indent = " " * place[base][1]
                lines[end - 1] += f"{indent}{name}: {_flow_mapping(runs[base], own)}\n"
                runs[name] = dict(runs[base]) | own
    return "".join(lines)


def _end(lines: Sequence[str], row: int, indent: int) -> int:
    """The row after the block that begins in `row`: its lines are indented by more than
    `indent`."""
    end = row + 1
    while end < len(lines) and re.match(rf" {{{indent + 1},}}\S", lines[end]):
        end += 1
    return end


def _own_keys(
    content: Any, settings: Mapping[str, Mapping[str, Any]], base: str, seed: int
) -> dict[str, Any]:
    """The keys of a further run of `base` that differ from it."""
    run = content["runs"][base]
    if run["init_from"] == params.SCRATCH:
        return {"seed": seed}

    # A run that begins from another one begins from that one's seed.
    setting = content["runs"][run["init_from"]]["setting"]
    same_seed = [name for name, parent in settings[setting].items() if parent["seed"] == seed]
    if not same_seed:
        raise refuse(
            f"{_OPTION} {run['setting']}",
            f"seed {seed}",
            f"a seed that {setting} has, from which it begins",
            f"Add {_OPTION} {setting}={seed} before it.",
        )
    return {"seed": seed, "init_from": same_seed[0]}


def _flow_mapping(base: Any, own: Mapping[str, Any]) -> str:
    """The block of a further run of `base`, in a line: what it has in common is merged."""
    anchor = base.anchor.value
    if not anchor:
        return params_text.flow(dict(base.items()) | dict(own))
    return f"{{<<: *{anchor}, {params_text.flow(own)[1:]}"
