"""The decision whether a challenger replaces the champion, its reasons, and its record.

The rule. A challenger is promoted if
- on some test set it is better than the champion by the task's own score, with a one-sided p below
  `level` after Holm's correction for the number of test sets; and
- on every test set every guard holds: no guarded metric, the score itself among them, is worse by
  more than its margin.

False promotions stay below `level`. If the challenger is better on none of the test sets, a
corrected p-value falls below `level` with a probability of at most `level` (Holm 1979, for any
dependence between the sets; dependent rows of a set are one unit of the test). The guards can only
prevent promotions.

The rule asks for significance on one set and a bounded loss on the others, not for significance on
all. A model that learnt from new data improves on new rows, and should not lose on the old ones.

Guards compare observed values; they are no tests. A challenger that is truly better on one set,
and on another truly worse by exactly its margin, passes every second time. Set margins below what
would hurt. The bound holds for each challenge: whoever challenges one champion a hundred times
sets `level` accordingly."""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.promotion.settings import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreEstimate:
    """A score over a test set, with its interval."""

    score: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_number(self.score)} [{_number(self.low)}, {_number(self.high)}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardResult:
    """A guarded metric of both contenders.

    `worse` is the challenger's loss in the unit of `margin` (negative: better). It is None, with a
    `note`, where the two cannot be compared; the guard does not hold then."""

    name: str
    champion: float | None
    challenger: float | None
    worse: float | None
    margin: float
    note: str

    @property
    def holds(self) -> bool:
        return self.worse is not None and self.worse <= self.margin


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Comparison on one test set.

    `difference` is the challenger's score minus the champion's. `p` is one-sided, `corrected` is
    Holm's over the test sets. `digest` is the md5 of the test set. `units` counts the blocks of
    dependent rows, which the test resamples. `left_out` counts the rows that only one of the two
    was trained on."""

    name: str
    digest: str
    rows: int
    units: int
    left_out: int
    champion: ScoreEstimate
    challenger: ScoreEstimate
    difference: ScoreEstimate
    better: bool
    p: float
    corrected: float
    guards: tuple[GuardResult, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePair:
    """Outputs of both contenders for one prompt; `about` is the prompt's origin."""

    about: str
    prompt: str
    reference: str | None
    champion: str
    challenger: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A decision, its evidence and its `reasons`; `compared` is empty without a comparison.

    The fields are the keys of decision.json."""

    promote: bool
    reasons: tuple[str, ...]
    champion: str | None
    challenger: str
    task: str
    corpus: str
    measure: str
    test: Method
    level: float
    resamples: int
    compared: tuple[Comparison, ...]
    samples: tuple[SamplePair, ...]

    @property
    def deciding(self) -> Comparison | None:
        """The comparison with the strongest evidence for the challenger."""
        return min(self.compared, key=_p_values, default=None)

    @property
    def p(self) -> float | None:
        """The corrected p-value that was compared with `level`; None without a test."""
        return None if self.deciding is None else self.deciding.corrected

    @property
    def difference(self) -> float | None:
        """The challenger's score minus the champion's on the deciding test set; None without a
        test."""
        return None if self.deciding is None else self.deciding.difference.score

    @property
    def guards(self) -> tuple[GuardResult, ...]:
        """Every guard on every test set."""
        return tuple(guard for comparison in self.compared for guard in comparison.guards)

    @property
    def verdict(self) -> str:
        """The decision and why in one sentence."""
        return (
            f"{self.challenger} {'is' if self.promote else 'is not'} promoted: "
            f"{'; '.join(self.reasons)}."
        )

    def json(self) -> str:
        """The whole record as JSON."""
        # Properties are no fields: add those that a reader looks for first.
        summary = {"verdict": self.verdict, "p": self.p, "difference": self.difference}
        record = summary | _round_floats(dataclasses.asdict(self))
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"

    def markdown(self) -> str:
        """The whole record as Markdown."""
        relation = "replaces" if self.promote else "against"
        opponent = f"{relation} {self.champion}" if self.champion else "without a champion"
        blocks = [f"# {self.challenger} {opponent}", self.verdict]

        # Without a comparison the record is the verdict alone.
        if self.compared:
            blocks += [
                self._describe_test(),
                _table(_TEST_SETS, map(_comparison_row, self.compared)),
            ]
            blocks += [
                f"On {comparison.name}: {note}."
                for comparison in self.compared
                for note in comparison.notes
            ]
            guard_rows = [
                _guard_row(guard, comparison.name)
                for comparison in self.compared
                for guard in comparison.guards
            ]
            blocks += ["## Guards", _table(_GUARDS, guard_rows)]
        if self.samples:
            blocks += ["## Samples", _table(_SAMPLES, map(_sample_row, self.samples))]
        return "\n\n".join(blocks) + "\n"

    def _describe_test(self) -> str:
        """Contenders, measure and test in sentences."""
        test = {
            "approximate_randomisation": "approximate randomisation",
            "paired_bootstrap": "a paired bootstrap",
        }[self.test]
        return (
            f"Champion `{self.champion}` and challenger `{self.challenger}` ({self.task} on "
            f"`{self.corpus}`), compared by {self.measure}. One-sided test by {test}, "
            f"{self.resamples:,} resamples; p is corrected for {len(self.compared)} test "
            f"set{'s' if len(self.compared) > 1 else ''} (Holm) and must be below "
            f"{self.level}. Units are blocks of dependent rows. Intervals are of the bootstrap. "
            "The test compares these two models, and says nothing about other seeds of their "
            "settings."
        )


def decide(
    compared: Sequence[Comparison], level: float, measure: str
) -> tuple[bool, tuple[str, ...]]:
    """Apply the rule of this module's docstring; return whether to promote, and the reasons."""
    # Guards hold or fail by the observed values.
    failed = [
        f"{guard.name} on {comparison.name} {_loss(guard)}"
        for comparison in compared
        for guard in comparison.guards
        if not guard.holds
    ]
    # Significant: better by the corrected one-sided p-value.
    significant = [
        comparison for comparison in compared if comparison.better and comparison.corrected < level
    ]
    if not significant:
        best = min(compared, key=_p_values)
        reason = (
            f"not significantly better on any test set: at best p = {best.corrected:.4f} on "
            f"{best.name}, level {level}"
        )
        return False, (reason, *failed)

    gains = [
        f"better on {comparison.name} by {_number(abs(comparison.difference.score))} {measure} "
        f"(p = {comparison.corrected:.4f})"
        for comparison in significant
    ]
    if failed:
        return False, (*failed, *(f"although {gain}" for gain in gains))
    return True, (*gains, "every guard holds")


_TEST_SETS = (
    "test set",
    "rows",
    "units",
    "left out",
    "champion",
    "challenger",
    "difference",
    "p",
    "corrected",
    "md5 of the rows",
)
_GUARDS = ("guard", "test set", "champion", "challenger", "worse by", "at most", "")
_SAMPLES = ("", "prompt", "reference", "champion", "challenger")


def _comparison_row(comparison: Comparison) -> list[str]:
    return [
        comparison.name,
        f"{comparison.rows:,}",
        f"{comparison.units:,}",
        f"{comparison.left_out:,}",
        str(comparison.champion),
        str(comparison.challenger),
        str(comparison.difference),
        f"{comparison.p:.4f}",
        f"{comparison.corrected:.4f}",
        comparison.digest,
    ]


def _guard_row(guard: GuardResult, test_set: str) -> list[str]:
    # "–": the two cannot be compared; the note says why.
    values = [guard.champion, guard.challenger, guard.worse, guard.margin]
    cells = ["–" if value is None else _number(value) for value in values]
    status = "holds" if guard.holds else guard.note or "does not hold"
    return [guard.name, test_set, *cells, status]


def _sample_row(sample: SamplePair) -> list[str]:
    texts = (sample.prompt, sample.reference or "", sample.champion, sample.challenger)
    # Escape: the output of a model is not Markdown.
    return [sample.about, *(re.sub(r"([\\\\`*_\[\]<])", r"\\\1", text) for text in texts)]


def _p_values(comparison: Comparison) -> tuple[float, float]:
    """Sort key: by the corrected p-value, then by the raw one."""
    return comparison.corrected, comparison.p


def _loss(guard: GuardResult) -> str:
    if guard.worse is None:
        return f"cannot be compared ({guard.note})"
    return f"is worse by {_number(guard.worse)}, more than {_number(guard.margin)}"


def _number(value: float) -> str:
    """Format with the significant digits: 94.27, 0.5489, 0.00121."""
    return f"{value:.2f}" if abs(value) >= 10 or value == 0 else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Put a text on one line and escape the separator of cells."""
    return " ".join(text.split()).replace("|", "\\|")


def _round_floats(value: Any) -> Any:
    """Round floats to nine digits; turn tuples into lists."""
    if isinstance(value, dict):
        return {key: _round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round_floats(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
