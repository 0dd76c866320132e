"""The rest of each champion's level, for `seqline status`."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pipeline.flow.challenge_ledger import known_test_sets, parse
from pipeline.promotion.alpha_spending import (
    Challenge,
    TestSet,
    probability,
    shares_left,
    spent,
)
from pipeline.promotion.settings import Settings
from pipeline.tracking import challenge_tags
from pipeline.tracking.challenge_tags import Records

_RATE_DAYS = 30  # over which the present rate of challenges is counted


class LevelReport(NamedTuple):
    """A line about the level that is left, and whether none is."""

    line: str
    is_spent: bool


def report(root: Path, name: str, settings: Settings, now: datetime) -> LevelReport:
    """Describe what the challenges of the registered model have left of their test set's level."""
    return describe(challenge_tags.read(root, name), settings, now)


def describe(records: Records, settings: Settings, now: datetime) -> LevelReport:
    """Describe the level that is left on the test set of the last challenge.

    `now` is aware of its time zone."""
    challenges = list(parse(records).values())
    each = f"each tested at {probability(settings.share)}"
    if not challenges:
        return LevelReport(f"{settings.challenges:,} challenges left, {each}; none made yet", False)

    # Of several test sets the one with most left: it decides as long as it has any.
    known = known_test_sets(records)
    last = [known.get(digest, TestSet(digest, ())) for digest in challenges[-1].test_sets]
    spent_level, made = min(
        (sum(challenge.level for challenge in earlier), len(earlier))
        for earlier in (spent(test_set, challenges, known) for test_set in last)
    )
    left = shares_left(settings, spent_level)
    level = f"level {probability(spent_level)} of {probability(settings.level)} spent"
    if not left:
        advice = "use a new test set, or promote manually (`seqline promote`)"
        line = f"no challenge left on its test set after {made:,} ({level}): {advice}"
        return LevelReport(line, True)

    recent, days = _rate(challenges, now)
    plural = "s" if left > 1 else ""
    line = f"{left:,} challenge{plural} left on its test set, {each}; {made:,} made ({level})"
    if recent:
        line += (
            f"; {recent:,} in the last {days} day{'s' if days > 1 else ''}: enough for "
            f"{left * days // recent:,} days at this rate"
        )
    return LevelReport(line, False)


def _rate(challenges: list[Challenge], now: datetime) -> tuple[int, int]:
    """Number of recent challenges, and of the days in which they were made, at least 1."""
    times = [_time(challenge.at, now) for challenge in challenges]
    recent = [time for time in times if now - timedelta(days=_RATE_DAYS) <= time <= now]
    if not recent:
        return 0, _RATE_DAYS

    # A young history is shorter than the period.
    age = (now - min(times)).days + 1
    return len(recent), min(_RATE_DAYS, age)


def _time(text: str, now: datetime) -> datetime:
    """A recorded time; the present one for a text that is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return now
    return time if time.tzinfo else time.replace(tzinfo=now.tzinfo)
