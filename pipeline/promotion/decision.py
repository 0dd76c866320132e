"""The decision whether a challenger takes the champion's place, its reasons, and the record of it.

The rule. A challenger is promoted if
- on some test set it is better than the champion by the task's own score, one-sided p below
  `level`, Holm-corrected for the
  number of test sets; and
- on every test set every guard holds: no guarded figure, the score itself among them, is worse by
  more than its margin.

Why false promotions stay below `level`. Were the challenger better on none of the test sets, the
chance that one of the corrected p-values falls below `level` is at most `level` (Holm 1979,
whatever the dependence between the sets); the guards can only take promotions away. Significance on
one set and a bound on the loss on the others is asked for, not significance on all: what a model
learnt from new data shows on new rows, and should not cost it the old ones. Guards go by the values
seen, not by a test: a challenger that is truly better on one set, and on another truly worse by
just its margin, passes every second time. Set margins below what would hurt. The bound is on each
challenge. Whoever challenges one champion a hundred times sets `level` accordingly."""

import dataclasses
import json
import re
from collections.abc import Sequence
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
    """A guarded figure of both: `worse` is by how much the challenger's is worse (negative:
    better), in the unit of `margin`; None with a `note` where the two cannot be compared, which is
    no way through."""

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
    """Both on one test set: `difference` is the challenger's score minus the champion's, `p`
    one-sided, `corrected` Holm's over the test sets; `digest` is the md5 of its rows and `left_out`
    how many of them only one of the two was trained on."""

    name: str
    digest: str
    rows: int
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
    """Outputs of both for one prompt; `about` says where it comes from."""

    about: str
    prompt: str
    reference: str | None
    champion: str
    challenger: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A decision, its evidence and its `reasons`; `compared` is empty where it took no
    comparison."""

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
        """The test set that speaks most clearly for the challenger."""
        return min(self.compared, key=lambda one: (one.corrected, one.p), default=None)

    @property
    def p(self) -> float | None:
        """The corrected p-value that was held against `level`; None without a test."""
        return None if self.deciding is None else self.deciding.corrected

    @property
    def difference(self) -> float | None:
        """The challenger's score minus the champion's on the deciding test set; None without a
        test."""
        return None if self.deciding is None else self.deciding.difference.score

    @property
    def guards(self) -> tuple[GuardResult, ...]:
        """Every guard on every test set."""
        return tuple(guard for one in self.compared for guard in one.guards)

    @property
    def verdict(self) -> str:
        """The decision and why in one sentence."""
        return (
            f"{self.challenger} {'is' if self.promote else 'is not'} promoted: "
            f"{'; '.join(self.reasons)}."
        )

    def json(self) -> str:
        """All of it as JSON."""
        summary = {"verdict": self.verdict, "p": self.p, "difference": self.difference}
        return (
            json.dumps(summary | _plain(dataclasses.asdict(self)), indent=2, ensure_ascii=False)
            + "\n"
        )

    def markdown(self) -> str:
        """All of it for a reader."""
        blocks = [
            (
                f"# {self.challenger} {'takes the place of' if self.promote else 'against'} "
                f"{self.champion or 'nobody'}"
            )
        ]
        blocks += [self.verdict]
        if self.compared:
            blocks += [self._method(), _table(_SETS, [_set(one) for one in self.compared])]
            notes = [f"On {one.name}: {note}." for one in self.compared for note in one.notes]
            blocks += notes
            guarded = [(guard, one.name) for one in self.compared for guard in one.guards]
            blocks += ["## Guards", _table(_GUARDS, [_guard(*pair) for pair in guarded])]
        if self.samples:
            blocks += ["## Samples", _table(_SAMPLES, [_sample(one) for one in self.samples])]
        return "\n\n".join(blocks) + "\n"

    def _method(self) -> str:
        named = {
            "approximate_randomisation": "approximate randomisation",
            "paired_bootstrap": "a paired bootstrap",
        }
        return (
            f"Champion `{self.champion}` and challenger `{self.challenger}` ({self.task} on "
            f"`{self.corpus}`), compared by "
            f"{self.measure}. One-sided test by {named[self.test]}, {self.resamples:,} "
            "resamples; p is "
            f"corrected for {len(self.compared)} test "
            f"set{'s' if len(self.compared) > 1 else ''} (Holm) and must be below "
            f"{self.level}. Intervals are of the bootstrap."
        )


def decide(
    compared: Sequence[Comparison], level: float, measure: str
) -> tuple[bool, tuple[str, ...]]:
    """The rule of this module's docstring: whether to promote, and the reasons."""
    lost = [
        f"{guard.name} on {one.name} {_loss(guard)}"
        for one in compared
        for guard in one.guards
        if not guard.holds
    ]
    sure = [one for one in compared if one.better and one.corrected < level]
    told = [
        f"better on {one.name} by {_number(abs(one.difference.score))} {measure} ({_p(one)})"
        for one in sure
    ]
    if not sure:
        best = min(compared, key=lambda one: (one.corrected, one.p))
        told = [
            (
                f"not significantly better on any test set: at best p = {best.corrected:.4f} on "
                f"{best.name}, level {level}"
            )
        ]
    if lost:
        return False, tuple(
            [*lost, *(f"although {reason}" for reason in told)] if sure else [*told, *lost]
        )
    return bool(sure), tuple([*told, "every guard holds"] if sure else told)


_SETS = (
    "test set",
    "rows",
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


def _set(one: Comparison) -> list[str]:
    scores = [str(one.champion), str(one.challenger), str(one.difference)]
    return [
        one.name,
        f"{one.rows:,}",
        f"{one.left_out:,}",
        *scores,
        f"{one.p:.4f}",
        f"{one.corrected:.4f}",
        one.digest,
    ]


def _guard(guard: GuardResult, where: str) -> list[str]:
    figures = [guard.champion, guard.challenger, guard.worse, guard.margin]
    shown = ["–" if figure is None else _number(figure) for figure in figures]
    return [guard.name, where, *shown, "holds" if guard.holds else guard.note or "does not hold"]


def _sample(one: SamplePair) -> list[str]:
    texts = (one.prompt, one.reference or "", one.champion, one.challenger)
    # what a model wrote is no markup
    return [one.about, *(re.sub(r"([\\\\`*_\[\]<])", r"\\\1", text) for text in texts)]


def _loss(guard: GuardResult) -> str:
    if guard.worse is None:
        return f"cannot be compared ({guard.note})"
    return f"is worse by {_number(guard.worse)}, more than {_number(guard.margin)}"


def _p(one: Comparison) -> str:
    return f"p = {one.corrected:.4f}"


def _number(value: float) -> str:
    """As many digits as mean something: 94.27, 0.5489, 0.00121."""
    return f"{value:.2f}" if abs(value) >= 10 or value == 0 else f"{value:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text on one line that cannot end its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _plain(value: Any) -> Any:
    """Floats to nine digits, which is more than means anything; tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
