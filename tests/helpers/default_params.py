"""The project's own params.yaml for tests to change: one run for each setting, called as its
setting and with the setting's keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import settings_blocks
import yaml

ROOT = Path(__file__).resolve().parents[2]
_WIDTHS = {"embedding", "hidden", "width", "feed_forward", "dimension"}


def load() -> dict[str, Any]:
    """The sections of params.yaml; `runs` is `settings_blocks.joined`."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    del content["shared"]
    return content | {"runs": settings_blocks.joined(content)}


def shrink(content: dict[str, Any], sizes: Mapping[str, int]) -> None:
    """Make the built-in corpora and the runs of `content` small: so many rows in each split, one
    epoch, and layers 16 wide."""
    for corpus in content["corpora"].values():
        builtin = corpus["source"]["builtin"]
        builtin["sizes"] = {split: sizes[split] for split in builtin["sizes"]}
    for run in content["runs"].values():
        run["training"]["max_epochs"] = 1
        run["model"] |= dict.fromkeys(_WIDTHS & set(run["model"]), 16)


def write(root: Path, content: dict[str, Any]) -> None:
    """Write params.yaml into `root`, whose runs have their settings' keys as those of `load`."""
    text = yaml.safe_dump(settings_blocks.split(content), sort_keys=False)
    (root / "params.yaml").write_text(text, encoding="utf-8")
