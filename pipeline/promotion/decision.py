"""The decision whether a challenger replaces the champion, its reasons, and its record.

The rule. A challenger is promoted if
- on some test set it is better than the champion by the task's own score, with a one-sided p below
  the challenge's level after Holm's correction for the number of test sets; and
- on every test set every guard holds: no guarded metric, the score itself among them, is worse by
  more than its margin; and
- it scores better than the baseline that the settings name for it, if they name one.

If the challenger is better on none of the test sets, a corrected p-value falls below the level of
the challenge with a probability of at most this level (Holm 1979, for any dependence between the
sets; dependent rows of a set are one unit of the test). That level is a share of the test sets' own
(`alpha_spending`), so that the chance of any false promotion stays below the gate's `level` over
all challenges. Guards and baseline can only prevent promotions.

The rule asks for significance on one set and a bounded loss on the others, not for significance on
all. A model that learnt from new data improves on new rows, and should not lose on the old ones.

Guards compare observed values; they are no tests. A challenger that is truly better on one set,
and on another truly worse by exactly its margin, passes every second time. Set margins below what
would hurt."""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.promotion.alpha_spending import Allocation, probability
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
    Holm's over the test sets; both are None if the test set's level is spent, so that only its
    guards count. `digest` is the md5 of the test set. `units` counts the
    blocks of dependent rows, which the test resamples. `left_out` counts the rows that only one of
    the two was trained on."""

    name: str
    digest: str
    rows: int
    units: int
    left_out: int
    champion: ScoreEstimate
    challenger: ScoreEstimate
    difference: ScoreEstimate
    better: bool
    p: float | None
    corrected: float | None
    guards: tuple[GuardResult, ...]
    notes: tuple[str, ...]

    def is_significant(self, level: float) -> bool:
        """Whether the challenger is better with a corrected p-value below the level."""
        return self.better and self.corrected is not None and self.corrected < level


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePair:
    """Outputs of both contenders for one prompt; `about` is the prompt's origin."""

    about: str
    prompt: str
    reference: str | None
    champion: str
    challenger: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineResult:
    """Scores of the challenger and of the baseline, the run `name`, on the same rows.

    They are None, with a `note`, where the two cannot be compared."""

    name: str
    baseline: float | None
    challenger: float | None
    beaten: bool
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A decision, its evidence and its `reasons`; `compared` is empty without a comparison.

    `measure` is the unit of the score. `level` is that of this challenge, and `allocation` says
    why; it is None if nothing was tested. `baseline` is None if there is none, or if the challenger
    is not promoted for other reasons. The fields are the keys of decision.json."""

    promote: bool
    reasons: tuple[str, ...]
    champion: str | None
    challenger: str
    task: str
    corpus: str
    measure: str
    test: Method
    level: float
    allocation: Allocation | None
    resamples: int
    compared: tuple[Comparison, ...]
    baseline: BaselineResult | None
    samples: tuple[SamplePair, ...]

    @property
    def deciding(self) -> Comparison | None:
        """The comparison with the strongest evidence for the challenger, of those with a test."""
        tested = [comparison for comparison in self.compared if comparison.p is not None]
        return min(tested, key=_p_values, default=None)

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
            test_rows = [
                [
                    comparison.name,
                    f"{comparison.rows:,}",
                    f"{comparison.units:,}",
                    f"{comparison.left_out:,}",
                    str(comparison.champion),
                    str(comparison.challenger),
                    str(comparison.difference),
                    probability(comparison.p),
                    probability(comparison.corrected),
                    comparison.digest,
                ]
                for comparison in self.compared
            ]
            blocks += [self._describe_test(), _table(_TEST_SETS, test_rows)]
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
        if self.baseline is not None:
            blocks += ["## Baseline", _describe_baseline(self.baseline, self.measure)]
        if self.samples:
            blocks += ["## Samples", _table(_SAMPLES, map(_sample_row, self.samples))]
        return "\n\n".join(blocks) + "\n"

    def _describe_test(self) -> str:
        """Contenders, measure and test in sentences."""
        tested = sum(comparison.p is not None for comparison in self.compared)
        test = {
            "approximate_randomisation": "approximate randomisation",
            "paired_bootstrap": "a paired bootstrap",
        }[self.test]
        return (
            f"Champion `{self.champion}` and challenger `{self.challenger}` ({self.task} on "
            f"`{self.corpus}`), compared in {self.measure}. One-sided test by {test}, up to "
            f"{self.resamples:,} resamples; p is corrected for {tested} test "
            f"set{'s' if tested > 1 else ''} (Holm) and must be below "
            f"{probability(self.level)}. Units are blocks of dependent rows. "
            "Intervals are of the bootstrap. The test compares these two models, and says nothing "
            "about other seeds of their settings."
        )


def decide(
    compared: Sequence[Comparison], level: float, measure: str
) -> tuple[bool, tuple[str, ...]]:
    """Apply the first two parts of the rule; return whether to promote, and the reasons.

    At least one of `compared` has a test. `level` is that of this challenge."""
    # Guards hold or fail by the observed values.
    failed = [
        f"{guard.name} on {comparison.name} {_loss(guard)}"
        for comparison in compared
        for guard in comparison.guards
        if not guard.holds
    ]
    # Significant: better by the corrected one-sided p-value.
    significant = [comparison for comparison in compared if comparison.is_significant(level)]
    if not significant:
        tested = [comparison for comparison in compared if comparison.p is not None]
        best = min(tested, key=_p_values)
        reason = (
            f"not significantly better on any test set: at best p = {probability(best.corrected)} "
            f"on {best.name}, level {probability(level)}"
        )
        return False, (reason, *failed)

    gains = [
        f"better on {comparison.name} by {_amount(comparison.difference.score, measure)} "
        f"(p = {probability(comparison.corrected)})"
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


def _describe_baseline(result: BaselineResult, measure: str) -> str:
    """The scores of challenger and baseline in a sentence."""
    if result.baseline is None or result.challenger is None:
        return f"`{result.name}` cannot be compared: {result.note}."
    relation = "beats" if result.beaten else "does not beat"
    return (
        f"The challenger {relation} `{result.name}` on the same rows: "
        f"{_number(result.challenger)} against {_number(result.baseline)}, in {measure}."
    )


def _p_values(comparison: Comparison) -> tuple[float, float]:
    """Sort key of a comparison with a test: by the corrected p-value, then by the raw one."""
    assert comparison.corrected is not None
    assert comparison.p is not None
    return comparison.corrected, comparison.p


def _loss(guard: GuardResult) -> str:
    if guard.worse is None:
        return f"cannot be compared ({guard.note})"
    return f"is worse by {_number(guard.worse)}, more than {_number(guard.margin)}"


def _number(value: float) -> str:
    """Format with the significant digits: 94.27, 0.5489, 0.00121."""
    return f"{value:.2f}" if abs(value) >= 10 or value == 0 else f"{value:.4g}"


def _amount(difference: float, measure: str) -> str:
    """A difference without its sign, with its unit: 50.00 points of accuracy, 1 BLEU."""
    number = _number(abs(difference))
    unit = measure.replace("points", "point", 1) if number == "1" else measure
    return f"{number} {unit}"


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
