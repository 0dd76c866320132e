"""The gate's statistics and rule: 1,000 simulated challenges with known truth, closed forms, and
what the record says."""

import dataclasses
import functools
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import settings_blocks
import synthetic_runs
import yaml
from hypothesis import given
from hypothesis import strategies as st
from long_cases import mostly_long

from benchmarks.gate import (
    CHALLENGES,
    KINDS,
    LEVEL,
    METHODS,
    RESAMPLES,
    binomial_limit,
    draw_scores,
    mean,
    promotions_of_best_of_ten,
    promotions_on_few_rows,
    simulate,
)
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.core.params import Evaluation
from pipeline.flow import challenge
from pipeline.promotion import align_scores, contenders, guards, retokenize, settings
from pipeline.promotion.align_scores import AlignedScores
from pipeline.promotion.alpha_spending import Uncounted
from pipeline.promotion.compare import _ChallengerEvaluation
from pipeline.promotion.contenders import Contender, ScoringSettings, StageOutputs
from pipeline.promotion.decision import (
    Comparison,
    Decision,
    GuardResult,
    SamplePair,
    ScoreEstimate,
    decide,
)
from pipeline.promotion.guards import GuardInput, ScorePair, check_guards
from pipeline.promotion.one_sided_significance import p_value, score_difference
from pipeline.promotion.retokenize import Incomparable
from pipeline.promotion.select import select_challenger
from pipeline.promotion.settings import Settings
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import holm
from pipeline.scoring.tasks import guards as task_guards
from pipeline.scoring.tasks import language_model, translation
from pipeline.text.encode import Description

ROOT = Path(__file__).resolve().parents[2]
# 1,000 simulated challenges


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", mostly_long(METHODS, 1))
def test_an_equal_challenger_is_promoted_no_more_often_than_the_level_says(
    method: str, kind: str
) -> None:
    p, _ = simulate(method, kind, 0)
    for level in (0.01, LEVEL, 0.1):
        assert (p < level).sum() <= binomial_limit(level)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_false_promotion_rate_is_at_most_the_level(kind: str) -> None:
    """By the default method, without an allowance for chance."""
    p, _ = simulate("approximate_randomisation", kind, 0, 10 * CHALLENGES)
    assert (p < LEVEL).sum() <= LEVEL * 10 * CHALLENGES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_lucky_challenger_is_not_promoted_for_its_luck(method: str, kind: str) -> None:
    """Equal in truth, half look better, by as much as the others look worse. None of those is
    promoted, so that of the lucky half twice the level's share may be."""
    p, seen = simulate(method, kind, 0)
    lucky = seen > 0
    assert CHALLENGES - binomial_limit(0.5) <= lucky.sum() <= binomial_limit(0.5)
    assert abs(seen.mean()) < 4 * seen.std() / math.sqrt(CHALLENGES)
    assert not (p[~lucky] < LEVEL).any()
    assert (p[lucky] < LEVEL).sum() <= binomial_limit(2 * LEVEL, int(lucky.sum()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", mostly_long(METHODS, 1))
def test_a_worse_challenger_is_hardly_ever_promoted(method: str, kind: str) -> None:
    assert (simulate(method, kind, -1)[0] < LEVEL).sum() <= binomial_limit(LEVEL / 10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", mostly_long(METHODS, 1))
def test_a_truly_better_challenger_is_promoted(method: str, kind: str) -> None:
    assert (simulate(method, kind, 1)[0] < LEVEL).sum() > 0.9 * CHALLENGES


def test_randomisation_keeps_the_level_on_few_rows_unlike_bootstrap() -> None:
    """Why randomisation is the default: a resample of few rows varies less than the rows do."""
    promoted = promotions_on_few_rows()
    assert promoted["approximate_randomisation"] <= binomial_limit(LEVEL)
    assert promoted["paired_bootstrap"] > binomial_limit(LEVEL)
    assert (
        yaml.safe_load((ROOT / "flow.yaml").read_text())["gate"]["test"]
        == "approximate_randomisation"
    )


def test_selection_on_the_test_set_inflates_false_promotions() -> None:
    """Ten equal runs, of which one challenges an equal champion: the best on the valid split, or
    the best on test."""
    promoted = promotions_of_best_of_ten()
    assert promoted["valid"] <= binomial_limit(LEVEL)
    assert promoted["test"] > 2 * binomial_limit(LEVEL)


@pytest.mark.parametrize(
    ("gains", "wanted"), [((0.0, 0.0), "none"), ((0.0, 0.5), "most"), ((0.5, -0.8), "none")]
)
def test_promotion_needs_better_on_one_set_and_worse_on_none(
    gains: tuple[float, float], wanted: str
) -> None:
    """The whole rule: Holm over both, and a margin on the score of each. Equal on both: at most the
    level."""
    promoted = 0
    for i in range(CHALLENGES):
        pairs = [
            draw_scores(np.random.default_rng([i, 5, n]), gain) for n, gain in enumerate(gains)
        ]
        p = [
            p_value("approximate_randomisation", *pair, mean, True, RESAMPLES, i) for pair in pairs
        ]
        seen = [score_difference(*pair, mean) for pair in pairs]
        rows = zip(p, holm(p), seen, strict=True)
        promoted += decide(
            [compared(p=one, corrected=two, difference=d, margin=0.3) for one, two, d in rows],
            LEVEL,
            "marks",
        )[0]
    assert promoted <= binomial_limit(LEVEL) if wanted == "none" else promoted > 0.85 * CHALLENGES


# The tests themselves


@pytest.mark.parametrize("kind", KINDS)
def test_randomisation_is_the_share_of_all_ways_of_swapping(kind: str) -> None:
    draw, score, gain = KINDS[kind]
    for seed in range(4):
        one, other = (units[:9] for units in draw(np.random.default_rng(seed), gain))
        seen = score_difference(one, other, score)
        swaps = np.array(list(itertools.product([0.0, 1.0], repeat=9)))
        moved = swaps @ (other - one)
        exact = (score(other.sum(0) - moved) - score(one.sum(0) + moved) >= seen - 1e-9).mean()
        assert p_value(
            "approximate_randomisation", one, other, score, True, 20_000, 1
        ) == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize("method", METHODS)
def test_lower_is_better_is_higher_is_better_of_the_opposite(method: str) -> None:
    one, other = draw_scores(np.random.default_rng(3), 0.2)
    turned = [units * [-1, 1] for units in (one, other)]
    up = p_value(method, one, other, mean, True, RESAMPLES, 1)
    assert p_value(method, *turned, mean, False, RESAMPLES, 1) == pytest.approx(up)
    assert p_value(method, other, one, mean, True, RESAMPLES, 1) > 0.5 > up


@pytest.mark.parametrize("method", METHODS)
def test_equal_answers_are_no_evidence(method: str) -> None:
    one, other = draw_scores(np.random.default_rng(3), 0.0)
    other[1:] = one[1:]
    assert p_value(method, one, one.copy(), mean, True, RESAMPLES, 1) == 1
    assert p_value("approximate_randomisation", one, other, mean, True, 1999, 1) > 0.4


def test_sums_added_up_in_another_order_are_no_evidence_either() -> None:
    """Three rows that differ by tenths: one way of swapping in eight is as good, and rounding must
    not hide it."""
    one = np.stack([np.array([0.1, 0.2, 0.3]), np.ones(3)], 1)
    p = p_value("approximate_randomisation", one, one + np.array([0.1, 0]), mean, True, 4000, 1)
    assert p == pytest.approx(1 / 8, abs=0.03)


# The rule and its record


def compared(
    p: float = 0.001,
    corrected: float = 0.002,
    difference: float = 1.0,
    margin: float = 0.5,
    guards: tuple[GuardResult, ...] = (),
) -> Comparison:
    """A comparison by a score of which more is better, and its guard on that score."""
    own = GuardResult(
        name="score",
        champion=50.0,
        challenger=50.0 + difference,
        worse=-difference,
        margin=margin,
        note="",
    )
    return Comparison(
        name="the test set",
        digest="0" * 32,
        rows=100,
        units=100,
        left_out=0,
        champion=ScoreEstimate(score=50.0, low=49.0, high=51.0),
        challenger=ScoreEstimate(score=50.0 + difference, low=49.0, high=52.0),
        difference=ScoreEstimate(score=difference, low=-1.0, high=2.0),
        better=difference > 0,
        p=p,
        corrected=corrected,
        guards=(own, *guards),
        notes=(),
    )


def guard(worse: float | None, note: str = "") -> GuardResult:
    return GuardResult(
        name="chrf", champion=60.0, challenger=59.0, worse=worse, margin=0.5, note=note
    )


@pytest.mark.parametrize(
    ("sets", "promote", "said"),
    [
        ([compared()], True, "better on the test set by 1 BLEU (p = 0.002)"),
        ([compared(corrected=0.05)], False, "not significantly better"),
        ([compared(difference=-1.0)], False, "not significantly better"),
        ([compared(guards=(guard(0.5),))], True, "every guard holds"),
        (
            [compared(guards=(guard(0.51),))],
            False,
            "chrf on the test set is worse by 0.51, more than 0.5",
        ),
        (
            [compared(guards=(guard(None, "unlike texts"),))],
            False,
            "cannot be compared (unlike texts)",
        ),
        ([compared(), compared(corrected=0.9, difference=-0.4)], True, "better"),
        (
            [compared(), compared(corrected=0.9, difference=-0.6)],
            False,
            "score on the test set is worse by 0.6",
        ),
    ],
)
def test_decision_reason_is_reported(sets: list[Comparison], promote: bool, said: str) -> None:
    decided, reasons = decide(sets, LEVEL, "BLEU")
    assert decided == promote
    assert said in "; ".join(reasons)


UNITS = {
    "classification": "50.00 points of accuracy",
    "fill_blank": "50.00 nats per word",
    "image_classification": "50.00 points of accuracy",
    "language_model": "50.00 bits per character",
    "masked_language_model": "50.00 nats per masked word",
    "pair_classification": "50.00 points of accuracy",
    "series": "50.00 RMSE",
    "translation": "50.00 BLEU",
    "word_vectors": "50.00 agreement",
}


@pytest.mark.parametrize("task", task_guards())
def test_a_difference_has_a_unit_that_reads_as_a_sentence(task: str) -> None:
    scoring = config.named_module("pipeline.scoring.tasks", task, "task").scoring(False)
    _, reasons = decide([compared(difference=50.0)], LEVEL, scoring.difference)
    assert reasons[0] == f"better on the test set by {UNITS[task]} (p = 0.002)"


def test_one_point_is_singular() -> None:
    _, reasons = decide([compared(difference=1.0)], LEVEL, "points of accuracy")
    assert reasons[0].startswith("better on the test set by 1 point of accuracy (p")


def decision(**changes: object) -> Decision:
    shown = SamplePair(
        about="sample",
        prompt="a | b",
        reference=None,
        champion="<b>*x*</b>\nnew",
        challenger="[l](u)",
    )
    made = Decision(
        promote=True,
        reasons=("better",),
        champion="v1",
        challenger="v2",
        task="translation",
        corpus="toy_en_fr",
        measure="BLEU",
        test="approximate_randomisation",
        level=0.05,
        allocation=None,
        resamples=199,
        baseline=None,
        compared=(compared(corrected=0.5, guards=(guard(0.1),)), compared()),
        samples=(shown,),
    )
    return dataclasses.replace(made, **changes)


def test_a_decision_is_as_its_most_telling_test_set_says() -> None:
    assert (decision().p, decision().difference, len(decision().guards)) == (0.002, 1.0, 3)
    alone = decision(
        compared=(), champion=None, promote=False, reasons=("nothing changed", "of all things")
    )
    assert (alone.p, alone.difference, alone.guards) == (None, None, ())
    assert alone.verdict == "v2 is not promoted: nothing changed; of all things."


def test_the_record_holds_all_of_it_for_programs() -> None:
    found = json.loads(decision().json())
    assert (found["promote"], found["p"], found["verdict"]) == (
        True,
        0.002,
        "v2 is promoted: better.",
    )
    assert [one["guards"][0]["name"] for one in found["compared"]] == ["score", "score"]
    assert found["samples"][0]["champion"] == "<b>*x*</b>\nnew"


def test_model_output_cannot_break_the_markdown_table() -> None:
    lines = decision().markdown().splitlines()
    assert lines[0] == "# v2 replaces v1"
    assert lines[-1] == r"| sample | a \| b |  | \<b>\*x\*\</b> new | \[l\](u) |"
    for head in (i for i, line in enumerate(lines) if line.startswith("| ---")):
        widths = {
            line.replace(r"\|", "").count("|") for line in itertools.takewhile(bool, lines[head:])
        }
        assert widths == {lines[head - 1].count("|")}


# Guards


def pairs(rng: np.random.Generator, wrong: float, empty: int) -> pa.Table:
    """SCORES_PAIR of made answers, the first `empty` of which are empty; nats are 2 a token, and
    `wrong` more."""
    wanted = [[*synthetic_runs.WORDS[i % 7 : i % 7 + 4 + i % 9], "."] for i in range(60)]
    answers = [
        [str(rng.choice(synthetic_runs.WORDS)) if rng.random() < wrong else word for word in row]
        for row in wanted
    ]
    rows = [
        ("" if i < empty else " ".join(a), " ".join(w))
        for i, (a, w) in enumerate(zip(answers, wanted, strict=True))
    ]
    sums = {
        name: [measure.sums(*row) for row in rows]
        for name, measure in mt_metrics.text_metrics().items()
    }
    count = np.array([len(row) + 1 for row in wanted])
    columns = {
        "row": range(60),
        "block": range(60),
        "length": count,
        "nats": (2.0 + wrong) * count,
        "count": count,
        "unknown": [0] * 60,
        "characters": count,
        "exact": [a == w for a, w in rows],
        "empty": [not a for a, _ in rows],
        **sums,
    }
    return pa.table(
        [pa.array(columns[f.name], f.type) for f in tables.SCORES_PAIR], schema=tables.SCORES_PAIR
    )


def guard_input(unlike: str = "", **splits: ScorePair) -> GuardInput:
    return GuardInput(translation.scoring(False), False, splits, (0, 0), unlike)


MARGINS = {"score": 0.5, "chrf": 0.5, "perplexity": 0.1, "bleu_long": 1.0, "empty": 0.005}


def test_a_translators_guards_are_the_scores_of_both_and_their_loss() -> None:
    rng = np.random.default_rng(2)
    test, long = (ScorePair(pairs(rng, 0.1, 0), pairs(rng, 0.3, 6)) for _ in range(2))
    found = {one.name: one for one in check_guards(guard_input(test=test, test_long=long), MARGINS)}
    assert list(found) == list(MARGINS)
    for name, split, score in (
        ("score", test, mt_metrics.bleu),
        ("bleu_long", long, mt_metrics.bleu),
        ("chrf", test, mt_metrics.chrf),
    ):
        column = "chrf" if name == "chrf" else "bleu"
        values = [
            float(score(np.array([t[column].to_pylist()]).sum(1))[0])
            for t in (split.champion, split.challenger)
        ]
        assert [found[name].champion, found[name].challenger] == pytest.approx(values)
        assert found[name].worse == pytest.approx(values[0] - values[1])
    assert found["perplexity"].worse == pytest.approx(math.exp(2.3 - 2.1) - 1)
    assert found["empty"].worse == pytest.approx(0.1)
    assert not any(one.holds for one in found.values())
    turned = check_guards(guard_input(test=ScorePair(test.challenger, test.champion)), MARGINS)
    assert all(one.holds for one in turned)


def test_without_a_split_of_long_sentences_the_longest_quarter_is_guarded() -> None:
    rng = np.random.default_rng(2)
    both = ScorePair(pairs(rng, 0.1, 0), pairs(rng, 0.3, 0))
    length = np.array(both.champion["length"].to_pylist())
    rows = length >= np.quantile(length, 0.75)
    assert 0.2 < rows.mean() < 0.5
    want = float(mt_metrics.bleu(np.array([both.champion["bleu"].to_pylist()])[:, rows].sum(1))[0])
    [found] = check_guards(guard_input(test=both), {"bleu_long": 1.0})
    assert found.champion == pytest.approx(want)


def test_likelihoods_of_unlike_texts_are_no_way_past_their_guard() -> None:
    rng = np.random.default_rng(2)
    both = ScorePair(pairs(rng, 0.3, 0), pairs(rng, 0.1, 0))
    held = {
        one.name: one.holds for one in check_guards(guard_input("unlike texts", test=both), MARGINS)
    }
    assert held == {name: name != "perplexity" for name in MARGINS}


def test_a_score_of_which_less_is_better_is_guarded_against_a_rise() -> None:
    rows = {
        "row": range(40),
        "block": range(40),
        "length": [5] * 40,
        "count": [6] * 40,
        "characters": [30] * 40,
    }
    rows["unknown"] = [0] * 40
    low, high = (
        pa.table([*rows.values(), [nats] * 40, [1.0] * 40], names=[*rows, "nats", "floor"])
        .select(tables.SCORES_TEXT.names)
        .cast(tables.SCORES_TEXT)
        for nats in (9.0, 10.0)
    )
    scoring = language_model.scoring(False)
    [risen] = check_guards(
        GuardInput(scoring, False, {"test": ScorePair(low, high)}, (0, 0), ""), {"score": 0.01}
    )
    [fallen] = check_guards(
        GuardInput(scoring, False, {"test": ScorePair(high, low)}, (0, 0), ""), {"score": 0.01}
    )
    assert risen.worse == pytest.approx(1 / 30 / math.log(2))
    assert (risen.holds, fallen.holds) == (False, True)


def test_every_task_has_guards_and_every_guard_a_figure() -> None:
    assert set(task_guards()) == {
        file.stem for file in (ROOT / "pipeline/scoring/tasks").glob("*.py")
    } - {"__init__"}
    assert {name for names in task_guards().values() for name in names} == set(guards._METRICS)


# Alike for both, and kept under all that it depends on


def contender(
    folder: Path, changes: dict[str, object], level: str = "word", lowercase: bool = False
) -> Contender:
    """A run of a made corpus of pairs with a vocabulary and no weights; `changes` sets dotted keys
    of its params file."""
    folder.mkdir()
    evaluation = {"bootstrap": 20, "confidence": 0.95, "seed": 1, "test": True}
    content = {
        "evaluation": evaluation,
        "corpora": {"pairs": synthetic_runs.corpus(level, lowercase)},
        "runs": {"transformer": synthetic_runs._block("translation", "pairs", "transformer")},
    }
    content = settings_blocks.split(content)
    for dotted, value in changes.items():
        *above, last = dotted.split(".")
        here = functools.reduce(lambda part, key: part[key], above, content)
        here.pop(last) if value is ... else here.update({last: value})
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    for name in ("model", "vocab"):
        (folder / name).mkdir()
    (folder / "model/model.safetensors").write_bytes(b"weights")
    about = Description(
        level=level,
        lowercase=lowercase,
        letters_only=False,
        share=True,
        sides=("source", "target"),
        sizes=dict.fromkeys(("source", "target"), 9),
    )
    about.save(folder / "vocab")
    places = {name: folder / name for name in ("model", "vocab")}
    return Contender(label=folder.name, params=folder / "params.yaml", run="transformer", **places)


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    """The tokens of a corpus of pairs."""
    sentences = {
        split: [["le", "chat", "dort", "bien", "."]] * 3 for split in ("train", "valid", "test")
    }
    synthetic_runs.references(tmp_path / "tokens", sentences)
    return tmp_path / "tokens"


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("corpora.pairs.text.lowercase", True),
        ("corpora.pairs.text.level", "bpe"),
        ("corpora.pairs.text.max_tokens", 5),
        ("corpora.pairs.bleu_tokenizer", "intl"),
        ("corpora.pairs.samples", [{"prompt": "a", "reference": None}]),
        ("evaluation.bootstrap", 21),
        ("settings.transformer.search.method", "beam"),
        ("settings.transformer.training.max_epochs", 9),
    ],
)
def test_answers_are_kept_under_all_settings_that_they_depend_on(
    dotted: str, value: object, tmp_path: Path, test_set: Path
) -> None:
    keys = []
    for name, changes in (("one", {}), ("same", {}), ("other", {dotted: value})):
        own = contender(tmp_path / name, changes)
        keys.append(contenders._key(own, test_set, ScoringSettings.of(own, own, test_set)))
    assert keys[0] == keys[1] != keys[2]


def test_prediction_cache_key_includes_scoring_settings(tmp_path: Path, test_set: Path) -> None:
    """The champion's own settings stay; against another challenger its answers are scored in
    another way."""
    champion = contender(tmp_path / "champion", {})
    for name, changes, options in (
        ("tokenizer", {"corpora.pairs.bleu_tokenizer": "intl"}, {}),
        ("level", {}, {"level": "bpe"}),
    ):
        other = contender(tmp_path / name, changes, **options)
        ways = [ScoringSettings.of(champion, one, test_set) for one in (champion, other)]
        assert contenders._key(champion, test_set, ways[0]) != contenders._key(
            champion, test_set, ways[1]
        )


@pytest.mark.parametrize("key", [..., "13a", "char"])
def test_both_are_scored_by_the_tokenizer_of_the_challengers_corpus(
    key: object, tmp_path: Path, test_set: Path
) -> None:
    """Whatever an older champion was scored by, and if its params file does not have the key."""
    champion = contender(tmp_path / "champion", {"corpora.pairs.bleu_tokenizer": key})
    challenger = contender(tmp_path / "challenger", {"corpora.pairs.bleu_tokenizer": "intl"})
    judging = ScoringSettings.of(champion, challenger, test_set)
    corpora = [
        yaml.safe_load(judging.params(one))["corpora"]["pairs"] for one in (champion, challenger)
    ]
    assert corpora[0] == corpora[1]
    assert corpora[0]["bleu_tokenizer"] == "intl"


def test_auto_is_settled_once_by_the_references_of_the_challengers_corpus(tmp_path: Path) -> None:
    sentences = {split: [["我今天去学校"]] * 3 for split in ("train", "valid")} | {
        "test": [["GPU"]] * 3
    }
    synthetic_runs.references(tmp_path / "tokens", sentences)
    champion, challenger = (contender(tmp_path / name, {}) for name in ("champion", "challenger"))
    assert ScoringSettings.of(champion, challenger, tmp_path / "tokens").bleu == "zh"


@pytest.mark.parametrize(
    ("champion", "challenger", "level", "lowercase"),
    [
        (("word", True), ("word", True), "word", True),
        (("word", False), ("word", True), "word", False),
        (("bpe", True), ("word", True), "bpe", True),
        (("char", False), ("char", False), "char", False),
    ],
)
def test_scoring_uses_text_settings_that_cover_both_runs(
    champion: tuple[str, bool],
    challenger: tuple[str, bool],
    level: str,
    lowercase: bool,
    tmp_path: Path,
    test_set: Path,
) -> None:
    one, other = (
        contender(tmp_path / str(i), {}, *way) for i, way in enumerate((champion, challenger))
    )
    text = ScoringSettings.of(one, other, test_set).text
    assert (text.level, text.lowercase) == (level, lowercase)


def test_a_decision_is_kept_under_the_evaluation_it_was_taken_with(project: Path, edited) -> None:
    version = SimpleNamespace(digest="d", corpus="toy_en_fr")
    before = challenge._key(project, version, version)
    assert challenge._key(project, version, version) == before
    edited(project, "evaluation.bootstrap", 7)
    after = challenge._key(project, version, version)
    assert after != before
    edited(project, "corpora.toy_en_fr.bleu_tokenizer", "char")
    assert challenge._key(project, version, version) != after


# The same rows for both


COLUMNS = {
    "translation": ("row", "block", "characters"),
    "language_model": ("row", "block", "characters"),
}


def rows_of(task: str, rows: int) -> pa.Table:
    """Scores of a task of that many rows, each with numbers of its own."""
    schema = tables.SCORES_PAIR if task == "translation" else tables.SCORES_TEXT
    values = {
        pa.int64(): range(rows),
        pa.int32(): range(5, 5 + rows),
        pa.float64(): [1.0] * rows,
        pa.bool_(): [True] * rows,
    }
    columns = [pa.array(values.get(f.type, [[1] * 10] * rows), f.type) for f in schema]
    return pa.table(columns, schema=schema)


@given(task=st.sampled_from(list(COLUMNS)), rows=st.integers(1, 30), data=st.data())
def test_contenders_that_saw_unlike_rows_are_never_compared(
    task: str, rows: int, data: st.DataObject
) -> None:
    """One row more, less, in another place, or of another text."""
    champion = rows_of(task, rows)
    fair = np.ones(rows + 1, np.bool_)
    assert len(align_scores._select_rows(task, champion, champion, fair).champion) == rows
    column, place = data.draw(st.sampled_from(COLUMNS[task])), data.draw(st.integers(0, rows - 1))
    values = champion[column].to_pylist()
    values[place] += data.draw(st.sampled_from([-1, 1, 100]))
    index = champion.schema.get_field_index(column)
    field = champion.schema.field(index)
    unlike = champion.set_column(index, field, pa.array(values, field.type))
    for one, other in (
        (champion, unlike),
        (unlike, champion),
        (champion, champion.slice(1)),
        (champion.slice(1), champion),
    ):
        with pytest.raises(Incomparable, match="different rows"):
            align_scores._select_rows(task, one, other, fair)


def test_masks_must_be_the_same_even_if_there_are_as_many() -> None:
    table = pa.table(
        [
            pa.array([1, 2], f.type) if not pa.types.is_boolean(f.type) else pa.array([True, False])
            for f in tables.SCORES_MASKED
        ],
        schema=tables.SCORES_MASKED,
    )
    index = table.schema.get_field_index("masks")
    other = table.set_column(index, table.schema.field(index), pa.array([1, 3], pa.int64()))
    assert other["count"].equals(table["count"])
    with pytest.raises(Incomparable, match="different words were masked"):
        align_scores._select_rows("masked_language_model", table, other, np.ones(3, np.bool_))


# Short references


def short(table: pa.Table, length: int) -> pa.Table:
    """The scores as if no reference had more tokens than `length`, and so no n-gram beyond
    matched."""
    lists = np.array(table["bleu"].to_pylist())
    lists[:, 1] = np.minimum(lists[:, 1], length)
    lists[:, 2 + length : 6] = 0
    lists[:, 6 + length :] = 0
    index = table.schema.get_field_index("bleu")
    return table.set_column(
        index, table.schema.field(index), pa.array(lists.tolist(), pa.list_(pa.int32()))
    )


def contest() -> _ChallengerEvaluation:
    """Two translators of one corpus, compared by BLEU if that can tell them apart."""
    return _ChallengerEvaluation(
        champion="a",
        challenger="b",
        task="translation",
        corpus="pairs",
        scoring=translation.scoring(False),
        substituted="",
        lowercase=False,
        evaluation=Evaluation(bootstrap=20, confidence=0.95, seed=1, test=True),
        settings=dataclasses.replace(
            settings.load(ROOT / "flow.yaml"), resamples=199, challenges=1
        ),
    )


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_one_test_set_of_short_references_has_chrf_decide_on_all(length: int) -> None:
    rng = np.random.default_rng(2)
    normal = ScorePair(pairs(rng, 0.1, 0), pairs(rng, 0.3, 0))
    brief = ScorePair(*(short(table, length) for table in (normal.champion, normal.challenger)))
    matched = [AlignedScores({"test": both}, 0, (0, 0)) for both in (normal, brief)]
    fitted = contest().with_usable_score(matched)
    assert (fitted.scoring.main, fitted.scoring.difference) == (
        ("chrf", "chrF") if length < 4 else ("bleu", "BLEU")
    )
    assert ("no reference has 4 tokens" in fitted.substituted) == (length < 4)
    assert (
        score_difference(
            *(fitted.scoring.units(t) for t in (brief.champion, brief.challenger)),
            fitted.scoring.score,
        )
        < 0
    )
    assert not contest().with_usable_score(matched[:1]).substituted


def test_more_translations_of_the_same_sources_are_no_further_evidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tables_by_name = {name: pairs(rng, wrong, 0) for name, wrong in (("a", 0.3), ("b", 0.25))}
    compared = {}
    for copies in (1, 3):
        folder = tmp_path / str(copies)
        synthetic_runs.references(
            folder / "tokens", dict.fromkeys(("train", "test"), [["x"]] * 60 * copies)
        )
        outputs = []
        for name, table in tables_by_name.items():
            scores = pa.concat_tables([table] * copies)
            numbered = scores.set_column(0, scores.schema.field(0), pa.array(range(60 * copies)))
            (folder / name / "scores").mkdir(parents=True)
            tables.write(folder / name / "scores/test.parquet", numbered)
            (folder / name / "predictions").mkdir()
            synthetic_runs.hypotheses(
                folder / name / "predictions/hypotheses_test.parquet", ["x"] * 60 * copies
            )
            synthetic_runs.samples(folder / name / "predictions", [("a cat", None, name)])
            (folder / name / "metrics.json").write_text("{}")
            outputs.append(StageOutputs(folder / name))
        vocab = retokenize.read_tokenization(contender(folder / "vocab", {}).vocab)
        contested = contest()
        decision = contested.run(
            {"the test set": folder / "tokens"},
            {"the test set": outputs},
            [vocab, vocab],
            Uncounted(contested.settings),
        )
        [compared[copies]] = decision.compared

    assert (compared[3].rows, compared[3].units) == (180, 60)
    assert compared[3].p == compared[1].p
    assert compared[3].difference == compared[1].difference
    assert "says nothing about other seeds" in decision.markdown()


def test_two_word_challenger_can_win_by_chrf_with_reason_recorded(tmp_path: Path) -> None:
    """By BLEU both are 0, and nobody could ever be promoted."""
    rng = np.random.default_rng(2)
    sentences = {split: [["le", "chat"]] * 60 for split in ("train", "test")}
    synthetic_runs.references(tmp_path / "tokens", sentences)
    answered, ways = [], []
    for name, wrong in (("champion", 0.5), ("challenger", 0.05)):
        folder = tmp_path / f"answers_of_{name}"
        (folder / "scores").mkdir(parents=True)
        tables.write(folder / "scores/test.parquet", short(pairs(rng, wrong, 0), 2))
        (folder / "predictions").mkdir()
        synthetic_runs.hypotheses(
            folder / "predictions/hypotheses_test.parquet", [f"{name} says"] * 60
        )
        synthetic_runs.samples(folder / "predictions", [("a cat", None, name)])
        (folder / "metrics.json").write_text(
            json.dumps({"notes": ["corpora.pairs.bleu_tokenizer does not fit"]})
        )
        answered.append(StageOutputs(folder))
        ways.append(retokenize.read_tokenization(contender(tmp_path / name, {}).vocab))
    contested = contest()
    decision = contested.run(
        {"the test set": tmp_path / "tokens"},
        {"the test set": answered},
        ways,
        Uncounted(contested.settings),
    )
    assert decision.promote
    assert (decision.measure, decision.compared[0].champion.score > 20) == ("chrF", True)
    said = decision.markdown()
    assert (
        "On the test set: no reference has 4 tokens, so that BLEU is 0 whatever the answers; "
        "chrF ranks instead."
    ) in said
    assert said.count("On the test set: corpora.pairs.bleu_tokenizer does not fit.") == 1


def test_long_sentences_that_are_short_are_guarded_by_chrf() -> None:
    rng = np.random.default_rng(2)
    test = ScorePair(pairs(rng, 0.1, 0), pairs(rng, 0.3, 0))
    long = ScorePair(short(test.champion, 2), short(test.challenger, 2))
    [found] = check_guards(guard_input(test=test, test_long=long), {"bleu_long": 1.0})
    wanted = [
        float(mt_metrics.chrf(np.array([t["chrf"].to_pylist()]).sum(1))[0])
        for t in (long.champion, long.challenger)
    ]
    assert [found.champion, found.challenger] == pytest.approx(wanted)
    assert not found.holds


# Settings and choice


def test_the_projects_own_settings_guard_everything_that_can_be() -> None:
    found = settings.load(ROOT / "flow.yaml")
    assert {task: set(margins) for task, margins in found.guards.items()} == {
        task: set(names) for task, names in task_guards().items()
    }


@pytest.mark.parametrize(
    ("dotted", "value", "line"),
    [
        (
            "test",
            "t_test",
            "gate.test: got t_test; expected one of approximate_randomisation, paired_bootstrap.",
        ),
        ("level", 0.0, "gate.level: got 0.0; expected a share above 0"),
        (
            "resamples",
            39,
            (
                "gate.resamples: got 39; expected at least 14600, or no p-value could be below "
                "half of level / challenges, 0.000137."
            ),
        ),
        ("challenges", 0, "gate.challenges: got 0; expected at least 1"),
        (
            "beats_baseline",
            {"translations-toy_en_fr": "memory"},
            "gate.beats_baseline.translations-toy_en_fr: got an unknown task; expected TASK-CORPUS",
        ),
        (
            "guards.translation.chrff",
            1.0,
            "gate.guards.translation.chrff: got an unknown guard; expected one of score, chrf",
        ),
        (
            "guards.translations",
            {},
            "gate.guards.translations: got an unknown task; expected one of classification,",
        ),
        ("guards.translation", {"chrf": 1.0}, "gate.guards.translation.score: got nothing"),
        ("guards.fill_blank", ..., "gate.guards.fill_blank: got nothing"),
        (
            "guards.fill_blank.score",
            -0.1,
            "gate.guards.fill_blank.score: got -0.1; expected at least 0",
        ),
    ],
)
def test_settings_that_could_not_work_are_refused(dotted: str, value: object, line: str) -> None:
    content = yaml.safe_load((ROOT / "flow.yaml").read_text())["gate"]
    *above, last = dotted.split(".")
    here = functools.reduce(lambda part, key: part[key], above, content)
    here.pop(last) if value is ... else here.update({last: value})
    with pytest.raises(UserError) as refused:
        config.load(Settings, content, "gate")
    assert str(refused.value).startswith(line)


def test_seqline_check_reads_the_gate_too(project: Path, seqline) -> None:
    flow = project / "flow.yaml"
    flow.write_text(flow.read_text().replace("level: 0.05", "level: 5"))
    said = seqline(project, "check")
    assert said.status == 2
    assert said.err.startswith(
        "seqline: gate.level: got 5.0; expected a share above 0 and at most 0.5"
    )


def scored(task: str, valid: dict[str, object], test: dict[str, object]) -> dict[str, object]:
    return {"task": task, "valid": valid, "test": test}


@pytest.mark.parametrize(
    ("task", "key", "better", "worse"),
    [
        ("translation", "perplexity", {"score": 1.1}, {"score": 1.2}),
        ("classification", "accuracy", {"score": 91.0}, {"score": 90.0}),
        ("language_model", "bits_per_character", 0.5, 0.6),
    ],
)
def test_the_challenger_is_chosen_by_the_valid_split_whatever_the_test_says(
    task: str, key: str, better: object, worse: object
) -> None:
    runs = {
        "a": scored(task, {key: worse}, {key: better}),
        "b": scored(task, {key: better}, {key: worse}),
    }
    assert select_challenger(runs) == "b"
    assert select_challenger(dict(reversed(runs.items()))) == "b"


def test_equal_ones_and_those_without_a_validation_score_are_taken_in_order() -> None:
    same = scored("classification", {"accuracy": {"score": 90.0}}, {})
    assert select_challenger({"b": same, "a": same}) == "b"
    assert (
        select_challenger(
            {"skip_gram": scored("word_vectors", {}, {}), "cbow": scored("word_vectors", {}, {})}
        )
        == "skip_gram"
    )
    with pytest.raises(UserError, match=r"the metrics of c: got no valid\.accuracy\.score"):
        select_challenger({"b": same, "c": scored("classification", {}, {})})


def test_metrics_without_a_task_are_refused() -> None:
    same = scored("classification", {"accuracy": {"score": 90.0}}, {})
    without_task = {key: value for key, value in same.items() if key != "task"}
    message = r"^the metrics of c: got no task; expected .*\. Run `dvc repro -f evaluate@c`\.$"
    with pytest.raises(UserError, match=message):
        select_challenger({"b": same, "c": without_task})
