"""The ledger of figures: `claims.yaml` names where each figure in README and docs comes from.

A figure of the default DAG names its key in the report's summary. It is compared with the present
value, and may differ from it by no more than another set of seeds would make it differ. Any other
figure names its command, its commit, and the code that it depends on: it is stale when that code
has changed since."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core import config, git
from pipeline.core.errors import UserError, refuse
from pipeline.dag.paths import RunPaths

FILE = Path("claims.yaml")
_FIGURE = re.compile(r"\{([^{}]*)\}")
_LEVEL = 0.95  # of the interval in which a figure may lie


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """A claim that the default DAG's outputs hold.

    `text` is a part of the file `file`, with each figure in braces. `keys` are dotted keys
    of the report's summary, one per figure."""

    name: Literal["derived"]
    file: str
    text: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A claim that was measured once, by `command` at `commit` on `date`; `code` are the paths that
    it depends on. `device` and `seeds` say with what."""

    name: Literal["measured"]
    file: str
    text: str
    command: str
    commit: str
    date: str
    device: str
    seeds: str
    code: tuple[str, ...]


Claim = Derived | Measured


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim that does not hold, or that is stale: its code has changed, which is no error."""

    claim: Claim
    problem: str
    is_stale: bool = False


def load(root: Path) -> list[Claim]:
    """Load the ledger of the project `root`; UserError for a damaged one."""
    entries = config.section(root / FILE, "claims")
    if not isinstance(entries, list):
        raise refuse("claims", entries, "a list of claims")
    kinds: tuple[type[Any], ...] = (Derived, Measured)
    return [config.load_named(kinds, entry, f"claims[{i}]") for i, entry in enumerate(entries)]


def findings(root: Path, claims: list[Claim]) -> Iterator[Finding]:
    """Yield what is wrong with each claim."""
    summary = _summary(RunPaths(root).shared("report", "summary"))
    for claim in claims:
        text = _FIGURE.sub(r"\1", claim.text)
        document = (root / claim.file).read_text(encoding="utf-8")
        if " ".join(text.split()) not in " ".join(document.split()):
            yield Finding(claim, f"{claim.file} does not say {text!r}")
        elif isinstance(claim, Derived):
            for problem in _differences(claim, summary):
                yield Finding(claim, problem)
        else:
            problem = _staleness(root, claim)
            if problem:
                yield Finding(claim, problem, is_stale=True)


def figures(claim: Claim) -> list[str]:
    """The figures of a claim, as they are written."""
    return _FIGURE.findall(claim.text)


def _summary(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise refuse(
            str(path), "no summary", "what the report stage writes", "Run `make repro`."
        ) from None


def _differences(claim: Derived, summary: Any) -> Iterator[str]:
    """Yield a sentence for each figure that is outside of its interval."""
    written = figures(claim)
    if len(written) != len(claim.keys):
        raise UserError(
            f"claims.yaml: {claim.text!r}: got {len(written)} figures in braces and "
            f"{len(claim.keys)} keys; expected a key for each figure."
        )
    for figure, key in zip(written, claim.keys, strict=True):
        entry, _, last = key.rpartition(".")
        values = _lookup(summary, entry, key)
        if last not in values:
            raise refuse(f"claims.yaml: {key}", "no such key", f"one of {', '.join(values)}")
        value = float(values[last])
        try:
            number = float(figure.replace(",", ""))
        except ValueError:
            raise refuse(f"claims.yaml: {claim.text!r}", figure, "a number in braces") from None

        low, high = _interval(values, last)
        decimals = len(figure.partition(".")[2])
        if round(value, decimals) != number and not low <= number <= high:
            yield (
                f"{claim.file} says {figure} for {key}, which is {value:g}; expected {low:.4g} to "
                f"{high:.4g}"
            )


def _lookup(summary: Any, entry: str, key: str) -> dict[str, Any]:
    value = summary
    for part in entry.split("."):
        if not isinstance(value, dict) or part not in value:
            raise refuse(f"claims.yaml: {key}", "no such key", "a key of the summary")
        value = value[part]
    if not isinstance(value, dict):
        raise refuse(f"claims.yaml: {key}", "no such key", "a key of the summary")
    return value


def _interval(values: dict[str, Any], key: str) -> tuple[float, float]:
    """The interval of a setting's mean or deviation over another set of as many seeds.

    A single value has none: it must be as written."""
    from scipy.special import chdtri, stdtrit  # quantiles of chi-square and of Student's t

    value = float(values[key])
    seeds, deviation = int(values.get("seeds", 1)), float(values.get("deviation", 0.0))
    if seeds < 2 or key == "seeds":
        return value, value
    freedom = seeds - 1
    if key == "deviation":
        tail = (1 - _LEVEL) / 2
        return (
            value * math.sqrt(freedom / float(chdtri(freedom, tail))),
            value * math.sqrt(freedom / float(chdtri(freedom, 1 - tail))),
        )
    margin = float(stdtrit(freedom, 0.5 + _LEVEL / 2)) * deviation / math.sqrt(seeds)
    return value - margin, value + margin


def _staleness(root: Path, claim: Measured) -> str:
    """Why the figure is stale; "" if the code that it depends on is as it was."""
    if git.output(root, "cat-file", "-e", f"{claim.commit}^{{commit}}") is None:
        return f"commit {claim.commit} is not in this clone"
    log = git.text_output(root, "log", "--format=%h", f"{claim.commit}..HEAD", "--", *claim.code)
    commits = log.split()
    if not commits:
        return ""
    return f"its code has changed in {len(commits)} commits since {claim.commit} ({claim.date})"
