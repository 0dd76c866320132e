"""Table of the hyperparameters of the settings of a group."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core import config, params
from pipeline.report.document import NONE, Block, Paragraph, Table, Verbatim
from pipeline.report.results import SettingResults


def table(settings: Sequence[SettingResults]) -> list[Block]:
    """A table of the hyperparameters in which the settings differ, and a line of those that all
    share."""
    # The model, the training and the search of each setting, under dotted keys.
    flat = {
        setting.name: {
            ".".join((name, *keys)): value
            for name in params.SETTING_KEYS
            for keys, value in config.leaves(getattr(setting.first.run, name) or {})
            if value != {}
        }
        for setting in settings
    }
    first, *others = flat.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }

    rows = []
    for setting in settings:
        differing = {key: value for key, value in flat[setting.name].items() if key not in shared}
        seeds = ", ".join(str(result.run.seed) for result in setting.results)
        rows.append(
            (
                f"`{setting.name}`",
                setting.first.run.family,
                seeds,
                Verbatim(_listed(differing) or NONE),
            )
        )
    header = ("setting", "family", "seeds", "hyperparameters that differ")
    hyperparameters = Table(header, tuple(rows), (False, False, False, False))
    if not others or not shared:
        return [hyperparameters]
    return [
        hyperparameters,
        Paragraph(f"Hyperparameters that all settings share: `{_listed(shared)}`."),
    ]


def _listed(flat: Mapping[str, Any]) -> str:
    """Settings by block, in a line: `model: layers 2, hidden 64; optim: name adam`."""
    grouped: dict[str, list[str]] = {}
    for key, value in flat.items():
        block, _, name = key.partition(".")
        # A block that is null has no name.
        grouped.setdefault(block, []).append(f"{name} {_yaml(value)}".lstrip())
    return "; ".join(f"{block}: {', '.join(items)}" for block, items in grouped.items())


def _yaml(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool | list) else str(value)
