"""The level that challenges spend, in a real registry: once for each challenge, whatever is killed,
by all machines together; and what `seqline status` says of the rest."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.flow import challenge, challenge_ledger, level_report, status
from pipeline.flow.challenge_ledger import RegistryLedger, known_test_sets, parse
from pipeline.promotion.alpha_spending import TestSet
from pipeline.promotion.settings import load
from pipeline.tracking import challenge_tags, mlflow_store, registry
from pipeline.tracking.challenge_tags import Records, Writer
from pipeline.tracking.versions import LINEAGE

ROOT = Path(__file__).resolve().parents[2]
NAME = "translation-pairs"
SETTINGS = replace(load(ROOT / "flow.yaml"), challenges=4)
NOW = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)


def made(start: int, digest: str | None = None) -> TestSet:
    """500 rows of their own for each hundred thousand."""
    rows = np.random.default_rng(start).integers(0, 2**64, 500, np.uint64)
    return TestSet.of(digest or f"{start:032x}", rows)


OLD, NEW = made(1), made(2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has the registered model."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with mlflow_store.open_store(folder) as client:
            client.create_registered_model(NAME, {LINEAGE: "seqline"})
    return folder / "mlflow.db"


@pytest.fixture
def root(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a copy of it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(store, folder)
    return folder


@pytest.fixture
def ledger(root: Path) -> Callable[..., RegistryLedger]:
    """`ledger("a against b")`: the ledger for that pair of contenders."""
    return lambda pair, settings=SETTINGS: RegistryLedger(root, NAME, settings, pair)


def records(root: Path) -> Records:
    return challenge_tags.read(root, NAME)


def spent_level(root: Path) -> float:
    return sum(one.level for one in parse(records(root)).values())


def test_each_challenge_spends_a_share_until_none_is_left(ledger, root: Path) -> None:
    numbers = [ledger(f"champion against {i}").reserve([OLD]).number for i in range(4)]
    assert numbers == [1, 2, 3, 4]
    assert spent_level(root) == pytest.approx(SETTINGS.level)
    refused = ledger("champion against 5").reserve([OLD])
    assert refused.is_spent
    assert spent_level(root) == pytest.approx(SETTINGS.level), "what is refused spends nothing"
    assert ledger("champion against 5").reserve([OLD, NEW]).test_sets == (NEW.digest,)


def test_the_same_challenge_spends_once(ledger, root: Path) -> None:
    """As after a kill between the test and the record of its decision."""
    first = ledger("a against b").reserve([OLD, NEW])
    again = ledger("a against b").reserve([NEW, OLD])
    assert (first.repeated, again.repeated) == (False, True)
    assert replace(again, repeated=False) == first
    assert again.reason.endswith("as challenge 1 of 4 of its test set, as before")
    assert spent_level(root) == pytest.approx(SETTINGS.share)

    # Another test set, or another pair, is another challenge.
    ledger("a against b").reserve([NEW])
    ledger("b against a").reserve([OLD])
    assert spent_level(root) == pytest.approx(3 * SETTINGS.share)


def test_a_quote_spends_nothing(ledger, root: Path) -> None:
    assert ledger("a against b").quote([OLD]) == ledger("a against b").reserve([OLD])
    assert ledger("a against b").quote([OLD]).repeated
    assert ledger("a against c").quote([OLD]).number == 2
    assert spent_level(root) == pytest.approx(SETTINGS.share)


def test_two_machines_share_one_level(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own folder, and its own lock; both use one server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    machines = [tmp_path / name for name in ("here", "there")]
    allocations = [
        RegistryLedger(machines[i % 2], NAME, SETTINGS, f"pair {i}").reserve([OLD])
        for i in range(6)
    ]
    assert [one.number for one in allocations[:4]] == [1, 2, 3, 4]
    assert [one.is_spent for one in allocations] == [False] * 4 + [True] * 2


def test_machines_that_ask_at_the_same_time_never_spend_more_than_the_level(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every machine sees the state from before the others' records when it decides to write."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    machines = 3
    for i in range(2):
        RegistryLedger(root, NAME, SETTINGS, f"earlier {i}").reserve([OLD])
    together = threading.Barrier(machines)
    original = Writer.write_challenge
    waited = threading.local()

    def write(self: Writer, key: str, content: object) -> None:
        if not getattr(waited, "done", False):
            waited.done = True
            together.wait()
        original(self, key, content)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "write_challenge", write)
    allocations = []

    def reserve(i: int) -> None:
        ledger = RegistryLedger(tmp_path / str(i), NAME, SETTINGS, f"pair {i}")
        allocations.append(ledger.reserve([OLD]))

    threads = [threading.Thread(target=reserve, args=(i,)) for i in range(machines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tested = sum(not one.is_spent for one in allocations)
    assert tested <= 2
    assert spent_level(root) == pytest.approx((2 + tested) * SETTINGS.share)


def test_another_machines_record_between_write_and_check_is_seen(
    root: Path, ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the last share: this one withdraws its record."""
    for i in range(3):
        ledger(f"earlier {i}").reserve([OLD])
    original = Writer.write_challenge

    def write(self: Writer, key: str, content: object) -> None:
        original(self, "f" * 32, content)  # type: ignore[arg-type]
        original(self, key, content)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "write_challenge", write)
    assert ledger("too late").reserve([OLD]).is_spent
    assert len(parse(records(root))) == 4
    assert "f" * 32 in parse(records(root))


def test_a_kill_before_the_record_leaves_nothing_spent(
    root: Path, ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write_challenge", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger("a against b").reserve([OLD])
    assert spent_level(root) == 0
    assert list(known_test_sets(records(root))) == [OLD.digest]
    assert ledger("a against b").reserve([OLD]).number == 1


def test_a_store_that_does_not_answer_tests_nothing(
    ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        ledger("a against b").reserve([OLD])


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({"level": -1, "number": 1, "test_sets": [], "at": ""}),
        json.dumps({"level": 0.1, "number": "x", "test_sets": [], "at": ""}),
        json.dumps({"level": 0.1, "number": 1, "test_sets": [3], "at": ""}),
        json.dumps({"level": 0.1, "number": 1, "test_sets": [], "at": None}),
    ],
)
def test_records_of_others_are_skipped(root: Path, ledger, content: str) -> None:
    with mlflow_store.open_store(root) as client:
        client.set_registered_model_tag(NAME, f"challenge.{'a' * 32}", content)
        client.set_registered_model_tag(NAME, f"test_set.{OLD.digest}", "%%%")
    assert parse(records(root)) == {}
    assert ledger("a against b").reserve([OLD]).number == 1


def test_a_damaged_sketch_counts_its_challenges_for_every_test_set(root: Path, ledger) -> None:
    ledger("a against b").reserve([OLD])
    assert ledger("a against c").quote([NEW]).number == 1
    with mlflow_store.open_store(root) as client:
        client.set_registered_model_tag(NAME, f"test_set.{OLD.digest}", "%%%")
    assert ledger("a against c").quote([NEW]).number == 2


def test_a_year_of_records_is_small(root: Path, ledger) -> None:
    """All tags of a model are read at once."""
    year = replace(SETTINGS, challenges=365)
    ledger("a against b", year).reserve([OLD])
    [challenge] = records(root).challenges.values()
    assert 365 * (len(json.dumps(challenge)) + len(OLD.encode())) < 500_000


# In a retraining


def contest(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], challenge.Verdict]:
    """`evaluate` of version 2 against champion 1 on the test set OLD, which is never promoted;
    predictions and tests are left out."""
    for name in ("flow.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root)
    champion, challenger = (
        SimpleNamespace(
            name=NAME,
            run="transformer",
            version=number,
            digest=f"digest {number}",
            task="translation",
            corpus="pairs",
            places=dict.fromkeys(("model", "vocab", "tokens"), "data"),
            md5=lambda kind: kind,
        )
        for number in (1, 2)
    )
    found = {
        "version_of_run": challenger,
        "champion": champion,
        "rolled_back_versions": set(),
        "set_challenger": None,
        "recorded_decision": None,
        "record_decision": None,
    }
    for name, value in found.items():
        monkeypatch.setattr(registry, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(challenge.select, "best_run", lambda *_: "transformer")
    monkeypatch.setattr(challenge, "_restore", lambda *_: None)
    monkeypatch.setattr(challenge, "_attach", lambda *_: None)

    def compare(*words: object) -> object:
        ledger = words[7]
        assert isinstance(ledger, RegistryLedger)
        allocation = ledger.reserve([OLD])
        return SimpleNamespace(
            promote=False, verdict=allocation.reason, markdown=lambda: allocation.reason
        )

    monkeypatch.setattr("pipeline.promotion.challenge", compare)
    return lambda: challenge.evaluate(root, NAME, ["transformer"])


def test_a_retraining_that_is_killed_before_its_decision_is_recorded_spends_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = contest(root, monkeypatch)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "record_decision", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate()
    assert len(parse(records(root))) == 1
    verdict = evaluate()
    assert verdict.line == (
        f"{NAME}: tested at level 0.000137 = 0.05 / 365, as challenge 1 of 365 of its test set, as "
        "before"
    )
    assert len(parse(records(root))) == 1


@pytest.mark.parametrize(
    ("old", "new", "times"),
    [
        ("chrf: 0.5", "chrf: 0.6", 1),  # a guard looks at no p-value
        ("level: 0.05", "level: 0.1", 1),
        ("seed: 1", "seed: 2", 2),  # another p-value is another chance
        ("test: approximate_randomisation", "test: paired_bootstrap", 2),
    ],
)
def test_a_decision_that_is_taken_again_spends_again_only_for_another_test(
    root: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, times: int
) -> None:
    evaluate = contest(root, monkeypatch)
    evaluate()
    flow = root / "flow.yaml"
    assert old in flow.read_text()
    flow.write_text(flow.read_text().replace(old, new))
    evaluate()
    assert len(parse(records(root))) == times


# What the status says


def test_the_status_shows_the_level_below_each_champion(
    root: Path, ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = SimpleNamespace(run="transformer", score="BLEU 40.00")
    monkeypatch.setattr(
        registry, "champions", lambda _: {NAME: (SimpleNamespace(version=version, since=""),)}
    )
    flow = (ROOT / "flow.yaml").read_text()
    (root / "flow.yaml").write_text(flow.replace("challenges: 365", "challenges: 4"))
    for i in range(4):
        ledger(f"pair {i}").reserve([OLD])
        lines, is_left = status._champions(root, NOW)
        assert [subject for subject, _ in lines] == ["champion", "challenges"]
        assert is_left == (i < 3)
        assert lines[1][1].startswith(f"{3 - i} challenge" if i < 3 else "no challenge left")


def described(*ages: float, settings=SETTINGS, test_set: TestSet = OLD) -> tuple[str, bool]:
    """The line for challenges of so many days ago."""
    challenges = {
        f"{i:032x}": {
            "level": settings.share,
            "number": i + 1,
            "test_sets": [test_set.digest],
            "at": (NOW - timedelta(days=age)).isoformat(),
        }
        for i, age in enumerate(ages)
    }
    found = Records(challenges, {test_set.digest: test_set.encode()})
    return level_report.describe(found, settings, NOW)


def test_the_status_has_the_rest_and_how_long_it_lasts() -> None:
    year = replace(SETTINGS, challenges=365)
    assert described(settings=year) == (
        "365 challenges left, each tested at 0.000137; none made yet",
        False,
    )
    assert described(*range(60, 0, -1), settings=year) == (
        "305 challenges left on its test set, each tested at 0.000137; 60 made "
        "(level 0.00822 of 0.05 spent); 30 in the last 30 days: enough for 305 days at this rate",
        False,
    )
    assert described(1.5, 0.5, settings=year)[0].endswith(
        "; 2 in the last 2 days: enough for 363 days at this rate"
    )
    assert described(90, settings=year)[0].endswith("; 1 made (level 0.000137 of 0.05 spent)")


def test_a_spent_level_needs_attention() -> None:
    line, is_spent = described(4, 3, 2, 1)
    assert is_spent
    assert line == (
        "no challenge left on its test set after 4 (level 0.05 of 0.05 spent): use a new test set, "
        "or promote manually (`seqline promote`)"
    )


def test_the_clock_of_another_machine_does_not_matter_to_the_level() -> None:
    """A record from the future, and one without a time."""
    line, is_spent = described(-3, 2)
    assert "2 challenges left" in line
    assert not is_spent
    found = Records(
        {"a" * 32: {"level": 0.0125, "number": 1, "test_sets": [OLD.digest], "at": "soon"}},
        {OLD.digest: OLD.encode()},
    )
    assert "3 challenges left" in level_report.describe(found, SETTINGS, NOW).line
    assert challenge_ledger.parse(found)
