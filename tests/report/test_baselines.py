"""Which settings are baselines, and what the report says of those that no test compares."""

from pathlib import Path

import pytest
import synthetic_runs
import yaml
from stage_runs import run_evaluate

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.report import cells, findings, pair, results

RNN = {"rnn-1": 2.6, "rnn-2": 2.7, "rnn-3": 2.65}
# Mixtures are fitted without gradients, and contain a network that is not.
MIXTURES = {"mixture-1": 1.6, "mixture-2": 1.7, "mixture-3": 1.65, "cache-1": 1.5}
NGRAMS = {"trigram-1": 2.5, "ngrams-1": 2.45}
BEGINNINGS = {
    "mixture-1": "rnn-1",
    "mixture-2": "rnn-2",
    "mixture-3": "rnn-3",
    "cache-1": "mixture-1",
    "ngrams-1": "trigram-1",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluated runs; not to be changed."""
    models = RNN | MIXTURES | NGRAMS
    translators = {"seq2seq-1": 0.1, "memory-1": 0.4}
    root = synthetic_runs.project(tmp_path_factory.mktemp("mixed"), translators, models, rows=60)
    content = yaml.safe_load((root / "params.yaml").read_text())
    for name in (*MIXTURES, *NGRAMS, "memory-1"):
        setting = content["settings"][content["runs"][name]["setting"]]
        setting |= dict.fromkeys(("objective", "optim", "training"))
        content["runs"][name]["init_from"] = BEGINNINGS.get(name, "scratch")
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for name in models:
        run_evaluate(root, name, "story")
    for name in translators:
        run_evaluate(root, name, "pairs")
    return root


@pytest.fixture(scope="module")
def groups(root: Path) -> dict[str, results.Group]:
    return {group.corpus: group for group in results.groups(*folders(root))}


def folders(root: Path) -> tuple[Path, Path, Path]:
    return root / "params.yaml", root / "reports/metrics", root / "data/scores"


def test_a_mixture_is_as_random_as_the_network_in_it(root: Path) -> None:
    trained = {
        name: params.is_trained(root / "params.yaml", name) for name in (*RNN, *MIXTURES, *NGRAMS)
    }
    assert trained == {name: name not in NGRAMS for name in trained}


def test_seeds_of_a_mixture_are_counted(groups: dict[str, results.Group]) -> None:
    settings = {setting.name: setting for setting in groups["story"].settings}
    assert {name: cells.seeds(setting) for name, setting in settings.items()} == {
        "rnn": "3",
        "mixture": "3",
        "cache": "one seed",
        "trigram": "none",
        "ngrams": "none",
    }
    assert settings["cache"].supports_claims is False
    assert settings["cache"].score.low is None
    # Its interval is wider than without the spread over seeds.
    assert len(set(settings["mixture"].values("test.perplexity.score"))) == 3


def test_a_mixture_with_one_seed_is_compared_with_no_setting(root: Path) -> None:
    with pytest.raises(UserError, match=r"cache, which has one seed; expected at least 2 seeds"):
        pair.compare(*folders(root), ("cache", "trigram"), "NAME")


def test_the_baseline_is_the_best_setting_without_a_network(
    groups: dict[str, results.Group],
) -> None:
    # `cache` and `mixture` have better scores; `mixture` is significantly better.
    group = groups["story"]
    assert [setting.name for setting in group.settings if setting.is_deterministic] == [
        "ngrams",
        "trigram",
    ]
    assert "ngrams" in group.beaten_by("mixture", results.LEVEL)
    assert findings.unbeaten_baseline(group) == []


def test_nothing_is_said_of_settings_that_no_test_compares(
    groups: dict[str, results.Group],
) -> None:
    # The translator with one seed is far better than the memory.
    [block] = findings.unbeaten_baseline(groups["pairs"])
    assert block.text == "No test compares a neural setting with the baseline `memory`."
    assert findings.outcome(groups["pairs"]).endswith("the setting is in no test of settings.")


def test_findings_separate_what_is_not_better_from_what_is_not_tested(
    groups: dict[str, results.Group],
) -> None:
    # Without the cache, whose one seed is in no test, the mixture is best.
    group = groups["story"]
    assert group.compared_with("mixture") == {"rnn", "trigram", "ngrams"}
    assert group.compared_with("cache") == set()
