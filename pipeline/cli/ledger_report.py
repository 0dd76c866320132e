"""Cells of the report's tables, and how far a figure may be from them."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.ledger_document import cells
from pipeline.core.errors import refuse
from pipeline.dag.paths import RunPaths

_LEVEL = 0.95  # of the interval in which the scores of another set of seeds lie
_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?%?")
_MEAN = re.compile(r"([-+]?[\d.,]+)(%?) ± ([\d.,]+)(%?)$")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the report. `seeds` is the number of seeds of its setting; 0 for a setting that
    is fitted without random numbers."""

    text: str
    seeds: int

    def like(self, written: str) -> str:
        """The cell in the form of a figure: its first number alone, if the figure is one number."""
        number = _NUMBER.match(self.text)
        return number[0] if number and _NUMBER.fullmatch(written) else self.text

    def problem(self, written: str) -> str:
        """Why the figure cannot be that of the cell; "" if it can.

        A mean or a deviation over seeds may differ as those of another set of seeds would."""
        expected = self.like(written)
        if _plain(written) == _plain(expected):
            return ""
        mean = _MEAN.match(self.text)
        if mean is None or self.seeds < 2:
            return f"expected {expected}"

        numbers = _NUMBER.findall(written)
        if not 1 <= len(numbers) <= 2:
            return f"expected {expected}"
        value, deviation = _number(mean[1]), _number(mean[3])
        intervals = [
            mean_interval(value, deviation, self.seeds),
            deviation_interval(deviation, self.seeds),
        ]
        for number, (low, high) in zip(numbers, intervals, strict=False):
            if not low <= _number(number) <= high:
                return f"expected {expected}, or {low:.4g} to {high:.4g} with other seeds"
        return ""


class Report:
    """The tables of `reports/comparison.md`, by section."""

    def __init__(self, root: Path) -> None:
        path = RunPaths(root).shared("report", "comparison")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise refuse(
                str(path), "no report", "what the report stage writes", "Run `make repro`."
            ) from None
        self._tables: dict[str, list[list[dict[str, str]]]] = {}
        for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
            tables = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
            self._tables[section.partition("\n")[0].strip()] = [_rows(table) for table in tables]

    def cell(self, key: str) -> Cell:
        """The cell `SECTION > SETTING > COLUMN`, of the first table of the section that has it;
        UserError if there is none."""
        section, _, rest = key.partition(" > ")
        setting, _, column = rest.partition(" > ")
        for table in self._section(section, key):
            for row in table:
                if row.get("setting") == setting and column in row:
                    return Cell(row[column], self._seeds(section, setting))
        raise refuse(
            f"claims.yaml: {key}",
            "no such setting and column",
            f"those of the section {section!r} of comparison.md",
            "The ledger is about the report of the default preset.",
        )

    def settings(self, section: str) -> list[str]:
        """The settings of the section's first table, in order."""
        return [row.get("setting", "") for row in self._section(section, section)[0]]

    def _section(self, section: str, key: str) -> list[list[dict[str, str]]]:
        if not self._tables.get(section):
            raise refuse(
                f"claims.yaml: {key}",
                f"no section {section!r} in comparison.md",
                f"one of {', '.join(self._tables)}",
                "The ledger is about the report of the default preset.",
            )
        return self._tables[section]

    def _seeds(self, section: str, setting: str) -> int:
        [seeds] = [r["seeds"] for r in self._tables[section][0] if r.get("setting") == setting]
        return int(seeds) if seeds.isdigit() else 0


def mean_interval(mean: float, deviation: float, seeds: int) -> tuple[float, float]:
    """The interval of the mean over another set of as many seeds (normal scores).

    The difference of the two means has the variance 2 sigma² / n."""
    from scipy.special import stdtrit  # quantiles of Student's t

    quantile = float(stdtrit(seeds - 1, 0.5 + _LEVEL / 2))
    margin = quantile * deviation * math.sqrt(2 / seeds)
    return mean - margin, mean + margin


def deviation_interval(deviation: float, seeds: int) -> tuple[float, float]:
    """The interval of the deviation over another set of as many seeds (normal scores).

    The ratio of the two variances has Fisher's distribution F."""
    from scipy.special import fdtri  # quantiles of F

    ratio = math.sqrt(float(fdtri(seeds - 1, seeds - 1, 0.5 + _LEVEL / 2)))
    return deviation / ratio, deviation * ratio


def column_name(header: str) -> str:
    """The column of the report that a column of README shows."""
    return header.replace("`", "")


def _rows(table: str) -> list[dict[str, str]]:
    header, _, *lines = table.splitlines()
    names = cells(header)
    rows = [dict(zip(names, cells(line), strict=False)) for line in lines]
    return [{**row, "setting": row.get("setting", "").strip("`")} for row in rows]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _number(text: str) -> float:
    return float(text.replace(",", "").rstrip("%"))
