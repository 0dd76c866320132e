"""Scores: sacreBLEU, the book's code and closed forms are the oracles; the evaluate stage runs on
small made projects."""

import collections
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import synthetic_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.lib_ter import translation_edit_rate
from sacrebleu.significance import PairedTest
from stage_runs import run_evaluate

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.scoring import history, lengths, likelihood, mt_metrics, significance, ter
from pipeline.scoring.d2l_bleu import d2l_bleu
from pipeline.scoring.significance import Bootstrap, holm, paired_p, pairs, sum_by_block

ROOT = Path(__file__).parents[2]
ORACLES = {
    "bleu": BLEU(force=True),
    "bleu_lowercase": BLEU(force=True, lowercase=True),
    "chrf": CHRF(),
    "chrf_lowercase": CHRF(lowercase=True),
    "ter": TER(normalized=True),
}
WORDS = st.sampled_from(
    [
        "Le",
        "le",
        "chat",
        ",",
        "l'eau",
        "dort",
        ".",
        "dort",
        "!",
        "3.5",
        "--",
        "À",
        "à",
        "pas",
        "&amp;",
        "«",
        "»",
    ]
)
SENTENCE = st.lists(WORDS, max_size=12).map(" ".join)
ROWS = st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=12)


def sums_of(name: str, hypotheses: list[str], references: list[str]) -> np.ndarray:
    measure = mt_metrics.text_metrics()[name]
    return np.array(
        [measure.sums(got, want) for got, want in zip(hypotheses, references, strict=True)],
        dtype=np.float64,
    )


def spoilt(seed: int, wrong: float, rows: int = 150) -> tuple[list[str], list[str]]:
    """References, and answers with the share `wrong` of their words drawn anew; the references
    depend on nothing else."""
    rng = np.random.default_rng(7)
    references = [[*rng.choice(synthetic_runs.WORDS, 9), "."] for _ in range(rows)]
    rng = np.random.default_rng(seed)
    answers = [
        [str(rng.choice(synthetic_runs.WORDS)) if rng.random() < wrong else word for word in row]
        for row in references
    ]
    return [" ".join(row) for row in references], [" ".join(row) for row in answers]


# Scores


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_sums_put_together_are_sacrebleus_corpus_score(
    name: str, rows: list[tuple[str, str]]
) -> None:
    hypotheses, references = (list(side) for side in zip(*rows, strict=True))
    ours = mt_metrics.text_metrics()[name].score(
        sums_of(name, hypotheses, references).sum(0, keepdims=True)
    )[0]
    assert ours == pytest.approx(
        ORACLES[name].corpus_score(hypotheses, [references]).score, rel=1e-9, abs=1e-9
    )


@settings(max_examples=80, deadline=None)
@given(data=st.data(), vocabulary=st.integers(2, 12))
def test_translation_edits_are_sacrebleus(data: st.DataObject, vocabulary: int) -> None:
    words = st.lists(st.integers(0, vocabulary).map(str), max_size=14)
    hypothesis, reference = data.draw(words), data.draw(words)
    if data.draw(st.booleans()):
        hypothesis = (
            reference[len(reference) // 2 :] + hypothesis[:3] + reference[: len(reference) // 2]
        )
    assert ter.edits(hypothesis, reference) == translation_edit_rate(hypothesis, reference)[0]


def test_translation_edits_of_long_sentences_keep_to_sacrebleus_beam() -> None:
    rng = np.random.default_rng(3)
    for length in (40, 55):
        reference = [str(word) for word in rng.integers(0, 60, length)]
        hypothesis = [
            *reference[30:],
            *(str(word) for word in rng.integers(0, 60, 12)),
            *reference[:25],
        ]
        assert ter.edits(hypothesis, reference) == translation_edit_rate(hypothesis, reference)[0]


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_intervals_are_sacrebleus_under_the_same_seed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    references, answers = spoilt(1, 0.3, rows=40)
    monkeypatch.setenv("SACREBLEU_SEED", "77")
    theirs = ORACLES[name].corpus_score(answers, [references], n_bootstrap=300)
    ours = Bootstrap(300, 0.95, 77).estimate(
        sums_of(name, answers, references), mt_metrics.text_metrics()[name].score
    )
    assert (ours["high"] - ours["low"]) / 2 == pytest.approx(theirs._ci, rel=1e-5)
    assert ours["score"] == pytest.approx(theirs.score)


def test_signatures_are_sacrebleus_own() -> None:
    metric = BLEU(force=True, lowercase=True)
    metric.corpus_score(["a b c d"], [["a b c d"]], n_bootstrap=50)
    ours = mt_metrics.text_metrics()["bleu_lowercase"].signature(Bootstrap(50, 0.95, 12345))
    assert ours == str(metric.get_signature())


def the_books(pred_seq: str, label_seq: str, k: int) -> float:
    """The function printed in d2l, section 10.7.6."""
    pred_tokens, label_tokens = pred_seq.split(" "), label_seq.split(" ")
    len_pred, len_label = len(pred_tokens), len(label_tokens)
    score = math.exp(min(0, 1 - len_label / len_pred))
    for n in range(1, min(k, len_pred) + 1):
        num_matches, label_subs = 0, collections.defaultdict(int)
        for i in range(len_label - n + 1):
            label_subs[" ".join(label_tokens[i : i + n])] += 1
        for i in range(len_pred - n + 1):
            if label_subs[" ".join(pred_tokens[i : i + n])] > 0:
                num_matches += 1
                label_subs[" ".join(pred_tokens[i : i + n])] -= 1
        score *= math.pow(num_matches / (len_pred - n + 1), math.pow(0.5, n))
    return score


@given(
    *[
        st.lists(st.sampled_from(["il", "est", "calme", "j'ai", "."]), min_size=1, max_size=7).map(
            " ".join
        )
    ]
    * 2,
    st.integers(1, 4),
)
def test_the_books_bleu_is_that_of_the_books_code(predicted: str, label: str, k: int) -> None:
    assert d2l_bleu(predicted, label, k) == pytest.approx(the_books(predicted, label, k))


def test_the_books_bleu_gives_the_figure_that_the_book_prints() -> None:
    assert round(d2l_bleu("il est mouillé .", "il est calme ."), 3) == 0.658
    assert d2l_bleu("Il est calme\u202f.", "il est calme .") == 1.0
    assert d2l_bleu("", "va !") == 0.0


# Likelihood


@given(st.integers(2, 60_000), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(
    vocabulary: int, counts: list[int]
) -> None:
    sums = np.array([[count * math.log(vocabulary), count] for count in counts]).sum(
        0, keepdims=True
    )
    assert likelihood.perplexity(sums)[0] == pytest.approx(vocabulary)


# Resampling


def test_resamples_have_full_size_and_do_not_depend_on_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units = np.stack([np.ones(37), np.arange(37.0)], 1)
    whole = Bootstrap(101, 0.9, 5).sums(units)
    assert (whole[:, 0] == 37).all()
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 100)
    assert (Bootstrap(101, 0.9, 5).sums(units) == whole).all()


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 9)), min_size=1, max_size=40))
def test_blocks_are_the_sums_of_their_rows(rows: list[tuple[int, int]]) -> None:
    blocks, values = np.array([row[0] for row in rows]), np.array([[float(row[1])] for row in rows])
    wanted = [[values[blocks == block].sum()] for block in np.unique(blocks)]
    assert sum_by_block(values, blocks).tolist() == wanted


def test_equal_systems_are_called_different_in_at_most_one_case_in_twenty() -> None:
    rng, ours, theirs, trials = np.random.default_rng(0), 0, 0, 400
    for trial in range(trials):
        # two systems of one quality, agreeing on what is hard
        right = rng.random((60, 2)) < rng.random((60, 1))
        first, second = (np.stack([right[:, i], np.ones(60)], 1) for i in (0, 1))
        bootstrap = Bootstrap(200, 0.95, trial)
        share = lambda sums: sums[:, 0] / sums[:, 1]  # noqa: E731
        ours += pairs({"a": first, "b": second}, share, bootstrap)[0].p < 0.05
        moved = np.abs(share(bootstrap.sums(first)) - share(bootstrap.sums(second)))
        real = abs(share(first.sum(0, keepdims=True))[0] - share(second.sum(0, keepdims=True))[0])
        # sacreBLEU's formula, why we do not use it
        theirs += (np.sum(moved - moved.mean() > real) + 1) / 201 < 0.05
    allowed = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert ours / trials <= 0.05 + allowed
    assert theirs / trials > 0.05 + allowed


def test_paired_tests_match_sacrebleu() -> None:
    references, baseline = spoilt(1, 0.20)
    _, system = spoilt(2, 0.235)
    named = [("baseline", baseline), ("system", system)]
    other = {
        kind: PairedTest(named, {"BLEU": BLEU(references=[references])}, None, kind, 2000)()[1]
        for kind in ("ar", "bs")
    }
    runs = {"a": sums_of("bleu", baseline, references), "b": sums_of("bleu", system, references)}
    bootstrap = Bootstrap(2000, 0.95, 12345)
    found = pairs(runs, mt_metrics.bleu, bootstrap)[0]
    assert found.p == pytest.approx(other["ar"]["BLEU"][1].p_value, abs=0.06)
    moved = np.abs(
        mt_metrics.bleu(bootstrap.sums(runs["a"])) - mt_metrics.bleu(bootstrap.sums(runs["b"]))
    )
    theirs = (np.sum(moved - moved.mean() > abs(found.difference)) + 1) / 2001
    assert theirs == pytest.approx(other["bs"]["BLEU"][1].p_value, abs=0.002)


def test_a_run_is_not_different_from_itself_but_is_from_one_much_worse() -> None:
    references, good = spoilt(1, 0.1)
    _, bad = spoilt(2, 0.6)
    runs = {
        name: sums_of("bleu", text, references)
        for name, text in (("good", good), ("again", good), ("bad", bad))
    }
    found = {
        (pair.first, pair.second): pair
        for pair in pairs(runs, mt_metrics.bleu, Bootstrap(500, 0.95, 1))
    }
    assert found["good", "again"].corrected == 1.0
    assert found["good", "bad"].corrected < 0.01
    assert found["good", "bad"].low > 0


def test_significance_is_within_reach_however_many_pairs_there_are() -> None:
    names = [f"run{i}" for i in range(16)]
    runs = {name: np.stack([np.full(50, float(i)), np.ones(50)], 1) for i, name in enumerate(names)}
    assert all(
        pair.corrected < 0.05
        for pair in pairs(runs, lambda sums: sums[:, 0] / sums[:, 1], Bootstrap(100, 0.95, 1))
    )


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holms_correction_is_his_definition(p_values: list[float]) -> None:
    corrected, order = holm(p_values), sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        wanted = max(
            min(1.0, (len(order) - earlier) * p_values[order[earlier]])
            for earlier in range(rank + 1)
        )
        assert corrected[i] == pytest.approx(wanted)


@given(st.floats(0.01, 5), st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_a_p_value_is_never_zero_and_falls_as_the_difference_grows(
    difference: float, moved: list[float]
) -> None:
    p = paired_p(difference, np.array(moved))
    assert 0 < p <= 1
    assert paired_p(difference + 1, np.array(moved)) <= p


# By length, and by step


@given(st.lists(st.integers(1, 400), min_size=1, max_size=300))
def test_buckets_share_out_all_rows_by_length(found: list[int]) -> None:
    length = np.array(found)
    buckets = lengths.buckets(length)
    assert sorted(np.concatenate(buckets).tolist()) == list(range(len(found)))
    assert len(buckets) <= 9
    assert all(length[a].max() < length[b].min() for a, b in pairwise(buckets))
    assert len(buckets) == 1 or min(len(bucket) for bucket in buckets) >= 20


def test_learning_curves_keep_validations_and_100_training_points() -> None:
    points = [(step, step // 500, "train/loss", float(step)) for step in range(1, 1001)]
    points += [(step, step // 500, "valid/perplexity", 9.0) for step in (500, 1000)]
    points += [(step, step // 500, "valid/accuracy", 0.5) for step in (500, 1000)]
    table = pa.table([list(column) for column in zip(*points, strict=True)], schema=tables.HISTORY)
    assert [row["step"] for row in history.validations(table)] == [500, 1000]
    assert list(history.validations(table)[0])[-1] == "valid_perplexity"
    curve = history.training(table)
    assert len(curve) == 100
    assert np.mean([row["train_loss"] for row in curve]) == pytest.approx(
        np.mean(np.arange(1, 1001))
    )
    assert history.training(table.slice(0, 0)) == []


# The stage


def files(root: Path) -> dict[str, bytes]:
    made = [*(root / "reports").rglob("*"), *(root / "data/scores").rglob("*")]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in made
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return synthetic_runs.project(tmp_path, {"transformer": 0.1}, {"lstm": 2.3}, rows=60)


def test_evaluate_reports_sacrebleus_scores_and_the_limits_distance(project: Path) -> None:
    found = run_evaluate(project, "transformer", "pairs")
    for split in ("valid", "test", "test_long"):
        references = tables.read(
            project / f"data/tokens/pairs/{split}.parquet", tables.TOKENS_PAIR
        )["target"].to_pylist()
        answers = tables.read(
            project / f"data/predictions/transformer/hypotheses_{split}.parquet", tables.HYPOTHESES
        )
        best = answers.filter(pc.equal(answers["rank"], 0))["text"].to_pylist()
        for name, oracle in ORACLES.items():
            assert found[split][name]["score"] == pytest.approx(
                oracle.corpus_score(best, [references]).score, abs=1e-6
            )
            assert (
                found[split][name]["low"]
                <= found[split][name]["score"]
                <= found[split][name]["high"]
            )
        same = np.mean([got == want for got, want in zip(best, references, strict=True)])
        assert found[split]["exact_match"] == pytest.approx(same, abs=1e-6)
        # The corpus has no limits of valid.
        distance = 100 - found[split]["bleu"]["score"]
        expected = None if split == "valid" else pytest.approx(distance, abs=2e-6)
        assert found[split].get("distance") == expected
    assert set(found["d2l_bleu"]) == {"mean", "1", "2", "3", "4"}
    rows = tables.read(project / "data/scores/transformer/test.parquet", tables.SCORES_PAIR)
    again = mt_metrics.bleu(np.array(rows["bleu"].to_pylist(), dtype=float).sum(0, keepdims=True))[
        0
    ]
    assert again == pytest.approx(found["test"]["bleu"]["score"], abs=1e-6)


def test_lowercased_predictions_match_references_without_case(project: Path) -> None:
    for split in ("test", "test_long"):
        path = project / f"data/tokens/pairs/{split}.parquet"
        table = tables.read(path, tables.TOKENS_PAIR)
        said = ["The cat sleeps ."] * len(table)
        tables.write(
            path, table.set_column(table.schema.get_field_index("target"), "target", pa.array(said))
        )
        synthetic_runs.hypotheses(
            project / f"data/predictions/transformer/hypotheses_{split}.parquet",
            ["the cat sleeps ."] * len(table),
        )
    for lowercase, exact, last in ((False, 0.0, "bleu"), (True, 1.0, "bleu_lowercase")):
        synthetic_runs.set_lowercase(project, "pairs", lowercase)
        found = run_evaluate(project, "transformer", "pairs")["test"]
        assert found["exact_match"] == exact
        assert found["distance"] == pytest.approx(100 - found[last]["score"], abs=2e-6)
        assert [
            found[name]["signature"].split("case:")[1][:2] for name in ("bleu", "bleu_lowercase")
        ] == ["mi", "lc"]
        header = (project / "reports/plots/transformer/by_length.csv").read_text().splitlines()[0]
        assert header.split(",")[-1] == last


def test_blank_answers_count_as_empty_and_others_do_not(project: Path) -> None:
    path = project / "data/predictions/transformer/hypotheses_test.parquet"
    rows = len(tables.read(project / "data/tokens/pairs/test.parquet", tables.TOKENS_PAIR))
    for blank in ("", " ", "\u00a0", " \t\n"):
        answers = [blank, blank, blank, *["."] * (rows - 3)]
        synthetic_runs.hypotheses(path, answers)
        found = run_evaluate(project, "transformer", "pairs")["test"]
        assert found["empty"] == pytest.approx(3 / rows, abs=1e-6)
        table = tables.read(
            project / "data/scores/transformer/test.parquet", tables.SCORES_PAIR
        ).sort_by("row")
        assert table["empty"].to_pylist() == [True] * 3 + [False] * (rows - 3)


def test_a_model_that_is_the_grammar_has_no_excess_and_pays_its_bits_per_character(
    project: Path,
) -> None:
    texts = tables.read(project / "data/tokens/story/test.parquet", tables.TOKENS_TEXT)
    count = pc.cast(pc.add(pc.list_value_length(texts["tokens"]), 1), pa.int32())
    columns = [texts["row"], pc.negate(texts["log_prob"]), count]
    tables.write(
        project / "data/predictions/lstm/likelihood_test.parquet",
        pa.table(columns, schema=tables.LIKELIHOOD),
    )
    found = run_evaluate(project, "lstm", "story")["test"]
    assert found["excess"] == found["excess_low"] == found["excess_high"] == 0
    assert found["perplexity"]["score"] == pytest.approx(math.exp(2), abs=1e-5)
    characters = pc.sum(texts["characters"]).as_py() + len(texts)  # with the ends of the rows
    bits = 2 * pc.sum(count).as_py() / math.log(2) / characters
    assert found["bits_per_character"] == pytest.approx(bits, abs=1e-6)
    assert found["bits_per_character_low"] < bits < found["bits_per_character_high"], (
        "rows have unlike lengths"
    )


@pytest.mark.parametrize(("run", "corpus"), [("lstm", "story"), ("transformer", "pairs")])
def test_bits_per_character_move_as_the_same_rows_do_that_perplexity_is_resampled_on(
    run: str, corpus: str, project: Path
) -> None:
    """With a character for each token, a perplexity's interval is that of 2 to the bits."""
    path = project / f"data/tokens/{corpus}/test.parquet"
    texts = tables.pq.read_table(path)
    likelihood = tables.read(
        project / f"data/predictions/{run}/likelihood_test.parquet", tables.LIKELIHOOD
    ).sort_by("row")
    column = "characters" if corpus == "story" else "target_characters"
    # The end of the row is a token and a character.
    count = pc.subtract(likelihood["count"], pa.scalar(1, pa.int32()))
    tables.write(path, texts.set_column(texts.column_names.index(column), column, count))
    found = run_evaluate(project, run, corpus)["test"]
    for end in ("low", "high"):
        assert 2 ** found[f"bits_per_character_{end}"] == pytest.approx(
            found["perplexity"][end], rel=1e-5
        )
    assert (
        found["bits_per_character_low"]
        < found["bits_per_character"]
        < found["bits_per_character_high"]
    )


def test_the_order_of_the_predictions_changes_no_byte(project: Path) -> None:
    run_evaluate(project, "transformer", "pairs")
    run_evaluate(project, "lstm", "story")
    before, rng = files(project), np.random.default_rng(1)
    for path in project.glob("data/predictions/*/*_*.parquet"):
        table = tables.pq.read_table(path)
        tables.write(path, table.take(rng.permutation(len(table))))
    run_evaluate(project, "transformer", "pairs")
    run_evaluate(project, "lstm", "story")
    assert files(project) == before


def test_evaluate_as_a_command_imports_neither_torch_nor_matplotlib(project: Path) -> None:
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "stages.evaluate",
        "lstm",
        "--params",
        "params.yaml",
    ]
    for option, value in (
        ("predictions", "data/predictions/lstm"),
        ("model", "data/models/lstm"),
        ("tokens", "data/tokens/story"),
        ("out", "scores"),
        ("metrics", "m.json"),
        ("plots", "plots"),
    ):
        command += [f"--{option}", value]
    done = subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-500:]
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "matplotlib", "mlflow", "sacrebleu"}
    assert {path.name for path in (project / "plots").iterdir()} == {
        "history.csv",
        "training.csv",
        "by_length.csv",
    }


def test_predictions_of_other_rows_are_refused(project: Path) -> None:
    path = project / "data/predictions/lstm/likelihood_test.parquet"
    table = tables.read(path, tables.LIKELIHOOD)
    for wrong in (table.slice(1), pa.concat_tables([table, table.slice(0, 1)])):
        tables.write(path, wrong)
        with pytest.raises(
            UserError, match=r"likelihood_test.parquet: got \d+ rows; expected the 60 rows"
        ):
            run_evaluate(project, "lstm", "story")
    assert not (project / "reports/metrics/lstm.json").exists()
    assert not (project / "data/scores/lstm").exists()


def test_likelihoods_that_are_not_finite_are_refused(project: Path) -> None:
    path = project / "data/predictions/lstm/likelihood_test.parquet"
    table = tables.read(path, tables.LIKELIHOOD)
    spoilt_nats = pa.array([float("nan"), *table["nats"].to_pylist()[1:]])
    tables.write(path, table.set_column(1, tables.LIKELIHOOD.field("nats"), spoilt_nats))
    with pytest.raises(UserError, match="expected finite numbers"):
        run_evaluate(project, "lstm", "story")


def test_a_missing_answer_or_model_is_refused_in_one_line(project: Path) -> None:
    for split in ("valid", "test_long"):
        (project / f"data/predictions/transformer/hypotheses_{split}.parquet").unlink()
        with pytest.raises(UserError, match=rf"hypotheses_{split}\.parquet: got no such file"):
            run_evaluate(project, "transformer", "pairs")
    (project / "data/models/lstm/config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json: got no such file"):
        run_evaluate(project, "lstm", "story")
