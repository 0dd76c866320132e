"""Runs with all keys in one block, as tests change them, and the two sections of params.yaml."""

from typing import Any

from pipeline.core import params


def joined(content: dict[str, Any]) -> dict[str, Any]:
    """The first run of each setting, by the setting's name, with the setting's keys."""
    runs: dict[str, Any] = {}
    parents = {name: run["setting"] for name, run in content["runs"].items()}
    for run in content["runs"].values():
        setting = run["setting"]
        if setting not in runs:
            block = run | content["settings"][setting]
            block["init_from"] = parents.get(run["init_from"], run["init_from"])
            del block["setting"]
            runs[setting] = block
    return runs


def split(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a params file whose runs have all keys, each as a setting with one run."""
    result = content | {"settings": {}, "runs": {}}
    for name, block in content["runs"].items():
        for section, blocks in params.sections(name, block).items():
            result[section] |= blocks
    return result
