"""Cross-validated settings in the report, in `seqline compare` and in summary.json: they are
compared over folds, and a single fold supports no claim."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import stage_runs
import synthetic_folds
import yaml
from stage_runs import run_evaluate

from pipeline.core.errors import UserError
from pipeline.report import document, folds, pair, results
from pipeline.report.cross_validation import CrossValidation, cross_validations
from pipeline.report.fold_texts import fold_texts
from pipeline.scoring.folds import FoldScores, compare_folds
from pipeline.scoring.seeds import SettingScore

TEXT = "text_0 to text_4"
BASE = (2.45, 2.3, 2.55, 2.4, 2.5)  # nats a token of the folds, which differ in difficulty
GOOD, BAD = [2.0, 2.01, 1.99], [2.5, 2.51, 2.49]
OPPOSITE = {"lstm": {0: GOOD, 1: BAD}, "rnn": {0: BAD, 1: GOOD}}


def level(nats: float, seeds: int = 1) -> dict[int, list[float]]:
    """The nats of a setting on all folds, `nats` more than the folds' own; seeds differ a bit."""
    return {i: [base + nats + 0.02 * seed for seed in range(seeds)] for i, base in enumerate(BASE)}


def evaluated(root: Path, nats: dict[str, dict[int, list[float]]]) -> Path:
    synthetic_folds.project(root, nats)
    for name, run in yaml.safe_load((root / "params.yaml").read_text())["runs"].items():
        run_evaluate(root, name, run["corpus"])
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported project; not to be changed. `gru` and `lstm` are close, `rnn` is far worse,
    `trigram` is a baseline as good as `gru`, and `birnn` is on the first fold alone."""
    nats = {
        "rnn": level(0.5),
        "lstm": level(0.02),
        "gru": level(0.0) | {0: [2.4, 2.45, 2.5]},
        "trigram": level(0.01),
        "birnn": {0: [2.0, 2.01]},
    }
    root = synthetic_folds.project(tmp_path_factory.mktemp("folds"), nats)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["settings"]["trigram"] |= dict.fromkeys(("objective", "optim", "training"))
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name, run in params["runs"].items():
        run_evaluate(root, name, run["corpus"])
    stage_runs.run(root, "report")
    return root


@pytest.fixture(scope="module")
def opposite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings with three seeds on two folds, each of which another one wins by far."""
    return evaluated(tmp_path_factory.mktemp("opposite"), OPPOSITE)


def folders(root: Path) -> tuple[Path, Path, Path]:
    return root / "params.yaml", root / "reports/metrics", root / "data/scores"


def compared(root: Path, first: str, second: str) -> str:
    return document.markdown(pair.compare(*folders(root), (first, second), "NAME"), root)


def over_folds(root: Path) -> CrossValidation:
    [found] = cross_validations(root / "params.yaml", results.groups(*folders(root)))
    return found


def section(text: str, heading: str) -> str:
    """The part of the report under a heading of level 2."""
    [found] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return str(found)


def table(text: str, column: str) -> dict[str, dict[str, str]]:
    """The first table with this column: the cells of each row by column, by the setting or pair."""
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    block = next(block for block in blocks if f"| {column} |" in block)
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
    ]
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    return {
        row.get("setting", row.get("pair of settings", "")).replace("`", ""): row for row in cells
    }


def bits(root: Path, setting: str) -> list[float]:
    """Bits per character of the setting's folds, each the mean over its seeds."""
    files = sorted((root / "reports/metrics").glob(f"{setting}_*.json"))
    found: dict[str, list[float]] = {}
    for file in files:
        metrics = json.loads(file.read_text())
        found.setdefault(metrics["corpus"], []).append(metrics["test"]["bits_per_character"])
    return [float(np.mean(of_seeds)) for of_seeds in found.values()]


def test_corpora_that_differ_only_in_the_fold_are_one_text(tmp_path: Path) -> None:
    corpora = {f"text_{fold}": synthetic_folds.corpus(fold) for fold in range(3)}
    corpora["another"] = corpora["text_0"] | {"split": "official"}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"corpora": corpora}))
    [text] = fold_texts(file)
    assert (text.folds, text.corpora) == (5, ("text_0", "text_1", "text_2"))
    corpora["text_1"]["vocab"]["min_count"] = 2  # type: ignore[index]
    file.write_text(yaml.safe_dump({"corpora": corpora}))
    assert [text.corpora for text in fold_texts(file)] == [("text_0", "text_2")]


def test_settings_are_compared_over_the_folds_once(root: Path) -> None:
    text = section(
        (root / "reports/comparison.md").read_text(), f"Language models, cross-validated ({TEXT})"
    )
    ranking = table(text, "better than")
    assert ranking.keys() == {"rnn", "lstm", "gru", "trigram"}
    assert ranking["rnn"]["better than"] == "–"
    assert [ranking[name]["better than"] for name in ("lstm", "gru", "trigram")] == ["`rnn`"] * 3
    assert {row["folds"] for row in ranking.values()} == {"5 of 5"}
    assert ranking["gru"]["seeds of a fold"] == "1 to 3"
    assert ranking["trigram"]["seeds of a fold"] == "none"

    # The test of Nadeau and Bengio on the folds' metrics, corrected for the six pairs.
    names = list(ranking)
    scores = [
        FoldScores(name, {str(i): x for i, x in enumerate(bits(root, name))}) for name in names
    ]
    expected = compare_folds(
        [(a, b) for i, a in enumerate(scores) for b in scores[i + 1 :]], 1 / 3, 0.95, 0.05
    )
    tests = table(text, "detectable")
    assert len(tests) == len(expected) == 6
    for test in expected:
        row = tests[f"{test.first} – {test.second}"]
        assert row["difference in bits per character"] == f"{test.difference:+.4f}"
        assert row["interval"] == f"{test.low:+.4f} to {test.high:+.4f}"
        assert row["detectable"] == f"{test.detectable:.4f}"
        assert row["significant"] == ("yes" if test.corrected < 0.05 else "no")


def test_intervals_baseline_and_detectable_difference_are_in_the_section(root: Path) -> None:
    text = section(
        (root / "reports/comparison.md").read_text(), f"Language models, cross-validated ({TEXT})"
    )
    values = np.array(bits(root, "rnn"))
    error = np.sqrt((1 / 5 + 1 / 3) * values.var(ddof=1))
    low, high = values.mean() + 2.776445 * error * np.array([-1, 1])  # t with 4 degrees of freedom
    row = table(text, "better than")["rnn"]
    assert row["95% interval, bits per character"] == f"{low:.3f} to {high:.3f}"
    assert "**No neural setting is significantly better than the baseline** `trigram`." in text
    assert "Minimum detectable difference (power about 80 %): " in text
    assert "Nadeau & Bengio 2003" in text
    assert "Note: no test has `birnn`: one fold supports no claim." in text
    assert "Note: every fold has the same seed (" in text


def test_a_fold_has_scores_and_no_claims(root: Path) -> None:
    text = (root / "reports/comparison.md").read_text()
    for fold in range(5):
        part = section(text, f"Language models on text_{fold}")
        assert "Its scores support no claim: settings are compared over the folds." in part
        assert "rnn" in table(part, "parameters")
        for word in ("better", "signific", "detectable", "Tests of", "baseline", "95%"):
            assert word not in part


def test_groups_of_folds_have_no_tests_however_many_seeds(opposite: Path) -> None:
    groups = results.groups(*folders(opposite))
    assert [group.corpus for group in groups] == ["text_0", "text_1"]
    for group in groups:
        assert (group.pairs, group.model_pairs) == ((), ())
        assert not any(setting.supports_claims for setting in group.settings)


def test_the_only_fold_with_runs_is_an_ordinary_test_set(tmp_path: Path) -> None:
    nats = {name: {0: by_fold[0]} for name, by_fold in OPPOSITE.items()}
    root = evaluated(tmp_path / "project", nats)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["corpora"]["text_1"] = synthetic_folds.corpus(1)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert "`lstm` is significantly better than `rnn`, over seeds" in compared(root, "lstm", "rnn")


def test_summary_has_mean_and_deviation_over_folds(root: Path) -> None:
    summary = json.loads((root / "reports/summary.json").read_text())
    of_seeds: dict[str, list[float]] = {}
    for file in sorted((root / "reports/metrics").glob("gru_*.json")):
        metrics = json.loads(file.read_text())
        of_seeds.setdefault(metrics["corpus"], []).append(metrics["test"]["perplexity"]["score"])
    values = [np.mean(scores) for scores in of_seeds.values()]
    assert len(values) == 5
    assert summary["gru.perplexity"] == pytest.approx(np.mean(values), abs=1e-6)
    assert summary["gru.deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert "birnn.perplexity" in summary, "it has runs on one fold only"
    assert not any("text_0" in name for name in summary), "a fold has no entry of its own"


@pytest.mark.parametrize("names", [("lstm", "rnn"), ("rnn", "lstm")])
def test_opposite_winners_on_two_folds_are_not_significant(
    opposite: Path, names: tuple[str, str]
) -> None:
    text = compared(opposite, *names)
    assert "is not significant over the folds." in text
    [row] = table(text, "detectable").values()
    assert (row["folds"], row["significant"]) == ("2", "no")
    by_fold = [line for line in text.splitlines() if line.startswith("| `text_")]
    assert len(by_fold) == 2
    assert over_folds(opposite).beaten_by("lstm", 0.05) == []
    assert over_folds(opposite).beaten_by("rnn", 0.05) == []


def test_a_pair_is_compared_over_all_folds(root: Path) -> None:
    text = compared(root, "rnn", "lstm")
    assert text.startswith(
        "# lstm and rnn\n\n`lstm` is significantly better than `rnn`, over the folds."
    )
    [row] = table(text, "detectable").values()
    change = np.array(bits(root, "lstm")) - np.array(bits(root, "rnn"))
    assert row["difference in bits per character"] == f"{change.mean():+.4f}"
    assert row["folds"] == "5"


@pytest.mark.parametrize("names", [("birnn", "rnn"), ("rnn", "birnn")])
def test_a_setting_on_one_fold_is_compared_with_none(root: Path, names: tuple[str, str]) -> None:
    with pytest.raises(UserError) as error:
        compared(root, *names)
    assert str(error.value) == (
        f"NAME: got {names[0]} and {names[1]}, which have 1 fold of {TEXT} in common; expected at "
        "least 2 folds to compare settings. Add runs on other folds under `runs:`, or name two "
        "runs instead."
    )


def test_settings_on_several_corpora_are_compared_on_each_of_them(tmp_path: Path) -> None:
    """The scores of which folds allow no claim are significant on corpora of their own."""
    root = synthetic_folds.project(tmp_path / "project", OPPOSITE)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for block in params["corpora"].values():
        block["split"] = "official"
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name, run in params["runs"].items():
        run_evaluate(root, name, run["corpus"])
    text = compared(root, "lstm", "rnn")
    first, second = text.split("# rnn and lstm on text_1\n\n")
    assert first.startswith("# lstm and rnn on text_0\n\n`lstm` is significantly better than `rnn`")
    assert second.startswith("`rnn` is significantly better than `lstm`")


def test_pairs_that_one_fold_scores_on_other_rows_are_not_tested(opposite: Path) -> None:
    groups = results.groups(*folders(opposite))
    untested = "no test compares `lstm` and `rnn` with each other: other masks"
    groups[1] = dataclasses.replace(groups[1], comparable=(("lstm",), ("rnn",)), untested=untested)
    [found] = cross_validations(opposite / "params.yaml", groups)
    assert (found.pairs, found.untested) == ((), untested)
    assert document.Paragraph(f"Note: {untested}.") in folds.notes(found)


def test_equal_settings_have_a_false_claim_in_at_most_one_table_in_twenty(root: Path) -> None:
    """Scores of folds with the correlation that the test assumes (Nadeau & Bengio 2003, 5)."""
    groups = results.groups(*folders(root))
    rng, tables, claims = np.random.default_rng(1), 120, 0
    correlation = (1 / 3) / (1 + 1 / 3)
    names = ("rnn", "lstm", "gru", "trigram")
    for _ in range(tables):
        scores = {
            name: rng.normal(0, correlation**0.5) + rng.normal(0, (1 - correlation) ** 0.5, 5) + 50
            for name in names
        }
        found = over_scores(root, groups, scores)
        claims += any(found.beaten_by(name, 0.05) for name in names)
    assert claims <= 12  # of a binomial with 0.05, at the level 0.01


def over_scores(
    root: Path, groups: list[results.Group], scores: dict[str, np.ndarray]
) -> CrossValidation:
    """The comparison if the folds had these scores in place of their own."""
    replaced = []
    for fold, group in enumerate(groups):
        settings = [
            dataclasses.replace(setting, score=score_of(float(scores[setting.name][fold])))
            for setting in group.settings
            if setting.name in scores
        ]
        replaced.append(dataclasses.replace(group, settings=tuple(settings)))
    [found] = cross_validations(root / "params.yaml", replaced)
    return found


def score_of(mean: float) -> SettingScore:
    return SettingScore((mean,), mean, None, None, None, 0.0)
