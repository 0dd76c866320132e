"""`seqline use --seeds`: give settings more seeds, or fewer.

A run is one line of the file, so lines are added and removed, and all others stay as they are."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import params
from pipeline.core.errors import refuse

_OPTION = "--seeds"
_EXAMPLE = "For example --seeds 5, or --seeds lstm=5 for one setting."


def with_seeds(text: str, wanted: Sequence[str]) -> str:
    """The params file `text` with other numbers of seeds.

    `wanted`: each `N` for every setting, or `SETTING=N` for one. Seeds are then 1 to N. Settings
    that are cross-validated, with runs on several corpora, keep their runs unless they are named.
    UserError for a number below 1 and for an unknown setting."""
    for option in wanted:
        setting, equals, number = option.rpartition("=")
        if not number.isascii() or not number.isdecimal() or int(number) < 1:
            raise refuse(_OPTION, option, "a number of seeds, at least 1", _EXAMPLE)

        names = list(_runs_by_setting(_content(text)))
        if equals and setting not in names:
            raise refuse(_OPTION, setting, "one of " + ", ".join(names), _EXAMPLE)
        for name in [setting] if equals else names:
            text = _set_seeds(text, name, int(number), bool(equals))
    return text


def _content(text: str) -> Any:
    return YAML().load(text)


def _runs_by_setting(content: Any) -> dict[str, dict[str, Any]]:
    """The runs of each setting by name, in the order of the file."""
    grouped: dict[str, dict[str, Any]] = {}
    for name, run in content["runs"].items():
        grouped.setdefault(run["setting"], {})[name] = run
    return grouped


def _set_seeds(text: str, setting: str, count: int, named: bool) -> str:
    """The text with seeds 1 to `count` of one setting."""
    content = _content(text)
    settings = _runs_by_setting(content)
    runs = settings[setting]
    if len({run["corpus"] for run in runs.values()}) > 1:
        if named:
            got = f"{setting}, whose runs are on several corpora"
            raise refuse(_OPTION, got, "a setting with one corpus", "Add its runs by hand.")
        return text

    # The first run stays in any case: the others take its keys.
    base, *others = runs
    surplus = [name for name in others if runs[name]["seed"] > count]
    present = {run["seed"] for run in runs.values()}
    missing = [seed for seed in range(1, count + 1) if seed not in present]

    lines = text.splitlines(keepends=True)
    first = {name: content["runs"].lc.key(name)[0] for name in content["runs"]}
    last = {name: _end(lines, row) for name, row in first.items()}
    stem = re.sub(r"-[0-9]+$", "", base)
    added = [
        f"  {stem}-{seed}: {_flow_mapping(content, settings, base, seed)}\n" for seed in missing
    ]
    rest = max(last[name] for name in runs)
    lines[rest:rest] = added
    for name in sorted(surplus, key=first.__getitem__, reverse=True):
        del lines[first[name] : last[name]]
    return "".join(lines)


def _end(lines: Sequence[str], row: int) -> int:
    """The row after the block that begins in `row`: its lines are indented more."""
    end = row + 1
    while end < len(lines) and re.match(r"   +\S", lines[end]):
        end += 1
    return end


def _flow_mapping(
    content: Any, settings: Mapping[str, Mapping[str, Any]], base: str, seed: int
) -> str:
    """The block of a further run of `base`, in a line: what it has in common is merged."""
    run = content["runs"][base]
    own: dict[str, Any] = {"seed": seed}

    # A run that begins from another one begins from that one's seed.
    if run["init_from"] != params.SCRATCH:
        parents = settings[content["runs"][run["init_from"]]["setting"]]
        same_seed = [name for name, parent in parents.items() if parent["seed"] == seed]
        if not same_seed:
            setting = content["runs"][run["init_from"]]["setting"]
            raise refuse(
                f"{_OPTION} {run['setting']}",
                f"seed {seed}",
                f"a seed that {setting} has, from which it begins",
                f"Add {_OPTION} {setting}={seed} before it.",
            )
        own["init_from"] = same_seed[0]

    anchor = run.anchor.value
    shared = f"<<: *{anchor}" if anchor else ""
    if not anchor:
        own = dict(run.items()) | own
    pairs = [f"{key}: {value}" for key, value in own.items()]
    return "{" + ", ".join(filter(None, [shared, *pairs])) + "}"
