"""Two trained runs against each other through the project's own stages: what is asked, compared,
kept, and refused."""

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import default_params
import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import yaml
from safetensors.numpy import load_file, save_file
from waiting import wait_for

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.promotion import Contender, Decision, challenge, retokenize, trained_runs
from pipeline.promotion.alpha_spending import Allocation, TestSet
from pipeline.promotion.settings import Settings, load
from pipeline.promotion.stage_commands import Commands, run_stage
from pipeline.text.encode import describe

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 500, "valid": 40, "test": 120, "test_long": 30}
RUNS = {
    "birnn": "toy_reviews",
    "seq2seq": "toy_en_fr",
    "gru": "toy_story",
    "skip_gram": "toy_story",
    "bert": "toy_story",
}
LOCK = threading.Lock()


def small() -> dict[str, Any]:
    """The default params with small corpora and few small runs; `chars` reads the stories letter by
    letter."""
    content = default_params.load()
    corpora = {name: content["corpora"][name] for name in ("toy_reviews", "toy_en_fr", "toy_story")}
    runs = {name: content["runs"][name] | {"corpus": corpus} for name, corpus in RUNS.items()}
    default_params.shrink({"corpora": corpora, "runs": runs}, SIZES)
    story = corpora["toy_story"]
    for name, text, minimum in (
        ("frequent", {}, 12),
        ("chars", {"level": "char"}, 1),
        ("lower", {"lowercase": True}, 1),
    ):
        vocab = story["vocab"] | {"corpus": name, "min_count": minimum}
        corpora[name] = story | {"text": story["text"] | text, "vocab": vocab}
    for run in runs.values():
        run["training"]["patience"] = None
    runs["seq2seq"]["search"] |= {"max_length": 10}
    runs |= {name: runs["gru"] | {"corpus": name} for name in ("frequent", "chars", "lower")}
    content["evaluation"]["bootstrap"], content["compute"]["device"] = 100, "cpu"
    return content | {"corpora": corpora, "runs": runs}


@dataclass
class Project:
    """A folder as DVC would leave it, whose runs are made when they are asked for, once."""

    root: Path
    done: set[str] = field(default_factory=set)

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    def stage(self, name: str, key: str = "") -> None:
        if f"{name}@{key}" not in self.done:
            stage_runs.run(self.root, name, key)
            self.done.add(f"{name}@{key}")

    def corpus(self, name: str) -> Path:
        for stage in ("download", "tokenize", "vocab", "encode"):
            self.stage(stage, name)
        return self.root / "data/tokens" / name

    def contender(self, run: str) -> Contender:
        corpus = yaml.safe_load(self.params.read_text())["runs"][run]["corpus"]
        self.corpus(corpus)
        self.stage("scratch")
        self.stage("train", run)
        vocab = self.root / "data/vocab" / corpus
        return Contender(
            label=run,
            params=self.params,
            run=run,
            model=self.root / "data/models" / run,
            vocab=vocab,
        )

    def scores(self, run: str) -> dict[str, Any]:
        self.contender(run)
        for stage in ("predict", "evaluate"):
            self.stage(stage, run)
        found: dict[str, Any] = json.loads((self.root / f"reports/metrics/{run}.json").read_text())
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("challenge")
    default_params.write(root, small())
    for name in ("dvc.yaml", "flow.yaml"):
        shutil.copy(ROOT / name, root)
    (root / "presets").mkdir()
    return Project(root)


@pytest.fixture
def launched() -> list[str]:
    """The stages that a test's challenges have run, in their order."""
    return []


@pytest.fixture
def here(launched: list[str]) -> Callable[[Sequence[str], Path], int]:
    """Runs a stage in this process, for speed; a mistake's line goes to the log, as the stage's own
    process would say it."""

    def launch(command: Sequence[str], log: Path) -> int:
        module = command[2]
        with LOCK, pytest.MonkeyPatch.context() as patch:
            launched.append(module)
            patch.setattr("sys.argv", [module, *command[3:]])
            try:
                __import__(module, fromlist=["main"]).main()
            except UserError as error:
                log.write_text(f"seqline: {error}\n")
                return 2
        return 0

    return launch


@pytest.fixture
def settings() -> Settings:
    return replace(load(ROOT / "flow.yaml"), resamples=499, challenges=1)


@pytest.fixture
def against(project: Project, here, settings: Settings, tmp_path: Path) -> Callable[..., Decision]:
    """`against(champion, challenger, tokens, ...)`: the gate's decision, with the tests' own launch
    and work folder."""

    def run(
        champion: Contender | None, challenger: Contender, tokens: dict[str, Path], **changes: Any
    ) -> Decision:
        given = {"settings": settings, "work": tmp_path / "work", "launch": here} | changes
        return challenge(project.root, champion, challenger, tokens, **given)

    return run


def spoilt(contender: Contender, folder: Path, noise: float, label: str = "spoilt") -> Contender:
    """The same run with noise on its weights: truly worse."""
    shutil.copytree(contender.model, folder)
    weights, rng = load_file(folder / "model.safetensors"), np.random.default_rng(1)
    noisy = {
        name: (w + noise * rng.normal(size=w.shape)).astype(w.dtype) for name, w in weights.items()
    }
    save_file(noisy, folder / "model.safetensors", {"facts": "{}"})
    return replace(contender, model=folder, label=label)


def only(tokens: Path) -> dict[str, Path]:
    return {"the test set": tokens}


# Through real processes


@pytest.mark.long
def test_the_command_compares_two_runs_and_promotes_nothing(
    project: Project, seqline, edited
) -> None:
    """As a user runs it, stages as processes; again, nothing is asked anew."""
    content = yaml.safe_load(project.params.read_text())
    edited(project.root, "runs.worse", content["runs"]["gru"] | {"seed": 2})
    spoilt(project.contender("gru"), project.root / "data/models/worse", 0.5)
    said = seqline(project.root, "compare", "worse", "gru")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(
        "# gru replaces worse\n\ngru is promoted: better on the test set by "
    )
    before = {
        path: path.stat().st_mtime_ns
        for path in (project.root / ".seqline/gate/compare").glob("*/scores")
    }
    back = seqline(project.root, "compare", "gru", "worse")
    assert "worse is not promoted: not significantly better on any test set" in back.out
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    refused = seqline(project.root, "compare", "gru", "frequent")
    assert refused.status == 2
    assert "got no data/models/frequent; expected a trained run. Run `dvc repro`" in refused.err
    assert (
        "NAME: got grv; expected a setting or a run, one of"
        in seqline(project.root, "compare", "grv", "gru").err
    )
    project.contender("birnn")
    refused = seqline(project.root, "compare", "gru", "birnn")
    assert refused.err.startswith(
        "seqline: RUN: got birnn, of classification on toy_reviews; expected a run of language_m"
    )


def test_an_interruption_leaves_no_process_and_starts_no_other(tmp_path: Path) -> None:
    commands, statuses, told = Commands(tmp_path), [], tmp_path / "pid"
    waits = (
        f"import os, time; open({str(told)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(6000)"
    )

    def run() -> None:
        statuses.extend(commands([sys.executable, "-c", waits], tmp_path / "log") for _ in range(2))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(lambda: told.exists() and told.read_text().endswith(" "), "the program")
    commands.end()
    thread.join()
    [pid] = told.read_text().split()
    assert len(statuses) == 2
    assert all(status < 0 for status in statuses)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not (tmp_path / ".seqline").exists(), "a flow ends what is on record"


def test_a_failure_has_the_message_of_its_own_stage(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("seqline: the note of an earlier stage\n")
    launch = Commands(tmp_path)

    def fail(command: Sequence[str], log: Path) -> int:
        program = "raise ValueError('a broken file')"
        return launch([sys.executable, "-c", program, command[2]], log)

    message = f"stages.encode failed with status 1: ValueError: a broken file. Its log is {log}."
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        run_stage(fail, log, "encode")


# What is compared


def test_scores_and_guards_are_those_of_the_runs_own_evaluation(
    project: Project, against, tmp_path: Path
) -> None:
    own, scores = project.contender("seq2seq"), project.scores("seq2seq")
    decision = against(
        spoilt(own, tmp_path / "spoilt", 0.05), own, only(project.corpus("toy_en_fr"))
    )
    [found], guards = decision.compared, {guard.name: guard for guard in decision.guards}
    assert found.rows == SIZES["test"]
    assert found.challenger.score > 0
    for key in ("score", "low", "high"):
        assert getattr(found.challenger, key) == pytest.approx(
            scores["test"]["bleu"][key], abs=1e-6
        )
    assert guards["score"].challenger == found.challenger.score
    assert guards["score"].champion == found.champion.score
    assert guards["chrf"].challenger == pytest.approx(scores["test"]["chrf"]["score"], abs=1e-6)
    assert guards["perplexity"].challenger == pytest.approx(
        scores["test"]["perplexity"]["score"], abs=1e-5
    )
    assert guards["empty"].challenger == pytest.approx(scores["test"]["empty"])
    assert guards["bleu_long"].challenger == pytest.approx(
        scores["test_long"]["bleu"]["score"], abs=1e-6
    )
    shown = [one for one in decision.samples if one.about == "sample"]
    samples = small()["corpora"]["toy_en_fr"]["samples"]
    assert [(one.prompt, one.reference) for one in shown] == [
        (s["prompt"], s["reference"]) for s in samples
    ]
    assert any(one.champion != one.challenger for one in decision.samples)
    assert json.loads(decision.json())["promote"] == decision.promote


def test_rows_on_which_the_challenger_gained_or_lost_are_shown(
    project: Project, against, tmp_path: Path
) -> None:
    own = project.contender("birnn")
    decision = against(
        own, spoilt(own, tmp_path / "spoilt", 2.0), only(project.corpus("toy_reviews"))
    )
    assert (decision.champion, decision.challenger) == ("birnn", "spoilt")
    gained, lost = (
        [one for one in decision.samples if one.about == f"{how} on the test set"]
        for how in ("gained", "lost")
    )
    assert gained
    assert lost
    assert all(one.champion == one.reference != one.challenger for one in lost)
    assert all(one.champion != one.reference == one.challenger for one in gained)


def test_with_no_champion_or_nothing_new_no_stage_is_run(
    project: Project, against, tmp_path: Path, launched
) -> None:
    own, tokens = project.contender("birnn"), only(project.corpus("toy_reviews"))
    first = against(None, own, tokens)
    assert (first.promote, first.compared, first.p) == (True, (), None)
    assert first.verdict == (
        "birnn is promoted: there is no champion of classification on toy_reviews that it "
        "had to beat."
    )
    copied = shutil.copytree(own.model, tmp_path / "copied")
    same = against(own, replace(own, model=copied, label="new"), tokens)
    assert (same.promote, same.reasons) == (
        False,
        ("nothing changed: weights, vocabulary and search are the champion's",),
    )
    assert launched == []


def test_no_champion_is_chosen_without_test_scores(
    project: Project, against, tmp_path: Path, launched
) -> None:
    own, tokens = project.contender("birnn"), only(project.corpus("toy_reviews"))
    content = yaml.safe_load(project.params.read_text(encoding="utf-8"))
    content["evaluation"]["test"] = False
    tuning = tmp_path / "params.yaml"
    tuning.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        against(None, replace(own, params=tuning), tokens)
    assert str(raised.value) == (
        "evaluation.test: got false; expected true, as a champion is chosen by test scores. Set "
        "it, and run `dvc repro`."
    )
    assert launched == []


def test_another_search_of_the_same_weights_is_another_challenger(
    project: Project, against, tmp_path: Path, edited
) -> None:
    own = project.contender("seq2seq")
    shutil.copy(project.params, tmp_path)
    edited(tmp_path, "settings.seq2seq.search.max_length", 1)
    short = replace(own, params=tmp_path / "params.yaml", label="short")
    decision = against(own, short, only(project.corpus("toy_en_fr")))
    assert len(decision.compared) == 1
    assert not decision.promote
    assert decision.compared[0].challenger.score < decision.compared[0].champion.score


def test_champion_predictions_are_computed_once(
    project: Project, against, launched, tmp_path: Path
) -> None:
    own, tokens = project.contender("birnn"), only(project.corpus("toy_reviews"))
    for number, noise in enumerate((0.5, 1.0)):
        against(own, spoilt(own, tmp_path / str(number), noise), tokens)
    assert sorted(launched) == sorted(3 * ["stages.encode", "stages.predict", "stages.evaluate"])
    assert len([path for path in (tmp_path / "work").iterdir() if path.is_dir()]) == 2, (
        "what was not used is cleared away"
    )


# Test sets


def test_rows_that_only_one_of_them_was_trained_on_are_left_out(
    project: Project, against, tmp_path: Path
) -> None:
    own, tokens = project.contender("birnn"), project.corpus("toy_reviews")
    grown = shutil.copytree(tokens, tmp_path / "grown")
    train, test = (
        tables.read(tokens / f"{split}.parquet", tables.TOKENS_LABELLED)
        for split in ("train", "test")
    )
    tables.write(grown / "train.parquet", pa.concat_tables([train, test.slice(0, 30)]))
    both = {"the champion's": tokens, "the present": grown}
    decision = against(own, spoilt(own, tmp_path / "spoilt", 1.0), both)
    known = set(train["text"].to_pylist())
    leaked = {
        row
        for row, text in enumerate(test["text"].to_pylist())
        if text in set(test["text"].to_pylist()[:30]) - known
    }
    assert len(leaked) > 20
    for one in decision.compared:
        assert (one.rows, one.left_out) == (SIZES["test"] - len(leaked), len(leaked))
    assert [one.name for one in decision.compared] == list(both)[:1], (
        "the same rows twice are no more proof"
    )
    assert decision.compared[0].corrected >= decision.compared[0].p


def test_a_test_set_that_was_all_seen_by_one_compares_nothing(
    project: Project, against, tmp_path: Path
) -> None:
    own, tokens = project.contender("birnn"), project.corpus("toy_reviews")
    grown = shutil.copytree(tokens, tmp_path / "grown")
    shutil.copy(tokens / "test.parquet", grown / "train.parquet")
    bare = shutil.copytree(tokens, tmp_path / "bare")
    tables.write(bare / "train.parquet", tables.TOKENS_LABELLED.empty_table())
    decision = against(own, spoilt(own, tmp_path / "spoilt", 1.0), {"one": bare, "two": grown})
    assert not decision.promote
    assert decision.reasons == (
        (
            "the two cannot be compared: every row of a test set was in the training text of "
            "one of "
            "them"
        ),
    )


# Unlike vocabularies


def test_models_of_unlike_vocabularies_are_compared_by_the_whole_text(
    project: Project, against
) -> None:
    """The smaller vocabulary calls more words unknown, which is cheap until their letters are paid
    for too."""
    every, frequent, tokens = (
        project.contender("gru"),
        project.contender("frequent"),
        project.corpus("toy_story"),
    )
    decision = against(every, frequent, only(tokens))
    [found] = decision.compared
    assert "letters too" in found.notes[0]
    scores = [project.scores(run)["test"] for run in ("gru", "frequent")]
    texts = tables.read(tokens / "test.parquet", tables.TOKENS_TEXT)
    letters = {letter for text in texts["text"].to_pylist() for letter in text}
    for contender, scored, shown in zip(
        (every, frequent), scores, (found.champion, found.challenger), strict=True
    ):
        known = set(
            tables.read(contender.vocab / "text.parquet", tables.VOCAB)["token"].to_pylist()
        )
        unknown = [word for row in texts["tokens"].to_pylist() for word in row if word not in known]
        spelt = sum(len(word) + 1 for word in unknown) * np.log(len(letters) + 1)
        own = project.root / "data/predictions" / contender.run / "likelihood_test.parquet"
        bits = (sum(tables.read(own, tables.LIKELIHOOD)["nats"].to_pylist()) + spelt) / np.log(2)
        characters = sum(texts["characters"].to_pylist()) + len(texts)  # with the ends of the rows
        assert shown.score == pytest.approx(bits / characters, rel=1e-6)
        assert scored["bits_per_character"] == pytest.approx(shown.score, abs=1e-6), (
            "as in its own scores"
        )
        assert scored.get("unknown", 0) == pytest.approx(
            len(unknown) / sum(map(len, texts["tokens"].to_pylist())), abs=1e-6
        )
    assert scores[1]["unknown"] > 0


def test_a_model_of_letters_and_one_of_words_read_the_same_test_set(
    project: Project, against
) -> None:
    decision = against(
        project.contender("gru"), project.contender("chars"), only(project.corpus("toy_story"))
    )
    [found] = decision.compared
    assert found.rows == SIZES["test"]
    assert found.challenger.score == pytest.approx(
        project.scores("chars")["test"]["bits_per_character"], abs=1e-6
    )


def test_models_of_unlike_texts_are_not_compared(project: Project, against, launched) -> None:
    decision = against(
        project.contender("gru"), project.contender("lower"), only(project.corpus("toy_story"))
    )
    assert not decision.promote
    assert decision.reasons[0].startswith(
        "the two cannot be compared: they are models of different texts, as text.lowercase"
    )
    assert launched == []


def test_word_vectors_are_compared_on_the_words_that_both_have(
    project: Project, against, edited, tmp_path: Path
) -> None:
    own = project.contender("skip_gram")
    content = yaml.safe_load(project.params.read_text())
    shutil.copy(project.params, tmp_path)
    edited(tmp_path, "runs.skip_gram", content["runs"]["skip_gram"] | {"corpus": "frequent"})
    other = Project(tmp_path)
    decision = against(
        own,
        replace(other.contender("skip_gram"), label="frequent"),
        only(project.corpus("toy_story")),
    )
    coverage = next(guard for guard in decision.guards if guard.name == "coverage")
    assert coverage.challenger < coverage.champion
    assert coverage.worse == pytest.approx(1 - coverage.challenger / coverage.champion)
    assert not decision.promote


def test_masked_models_are_compared_on_the_same_masks(
    project: Project, against, tmp_path: Path
) -> None:
    own = project.contender("bert")
    decision = against(
        own, spoilt(own, tmp_path / "spoilt", 0.5), only(project.corpus("toy_story"))
    )
    assert {guard.name for guard in decision.guards} == {"score", "mlm_accuracy", "nsp_accuracy"}
    assert not decision.promote
    refused = against(own, project.contender("frequent"), only(project.corpus("toy_story")))
    assert refused.reasons == (
        "a model for language_model cannot be compared with one for masked_language_model",
    )


def test_runs_of_another_maximum_length_are_masked_otherwise_and_not_compared(
    project: Project, against, tmp_path: Path, edited
) -> None:
    own = project.contender("bert")
    shutil.copy(project.params, tmp_path)
    edited(tmp_path, "settings.bert.objective.max_length", 10)
    shorter = replace(own, params=tmp_path / "params.yaml", label="shorter")
    shutil.copytree(own.model, tmp_path / "model")
    decision = against(
        own,
        spoilt(shorter, tmp_path / "spoilt", 0.01, "shorter"),
        only(project.corpus("toy_story")),
    )
    assert decision.compared == ()
    assert decision.reasons == (
        "the two cannot be compared: different words were masked for each of them, because "
        "objective.max_length or the vocabulary differs",
    )


# The level that is left, and the baseline


@dataclass
class FixedLedger:
    """A ledger that allows the test sets of these digests; None allows all of them."""

    digests: tuple[str, ...] | None
    reserved: int = 0

    def quote(self, test_sets: Sequence[TestSet]) -> Allocation:
        chosen = self.digests
        if chosen is None:
            chosen = tuple(one.digest for one in test_sets)
        return Allocation(
            level=0.05, budget=0.05, challenges=1, number=1, repeated=False, test_sets=chosen
        )

    def reserve(self, test_sets: Sequence[TestSet]) -> Allocation:
        self.reserved += 1
        return self.quote(test_sets)


def test_a_spent_level_ends_the_challenge_before_any_prediction(
    project: Project, against, launched, tmp_path: Path
) -> None:
    own, ledger = project.contender("birnn"), FixedLedger(())
    decision = against(
        spoilt(own, tmp_path / "spoilt", 2.0),
        own,
        only(project.corpus("toy_reviews")),
        ledger=ledger,
    )
    assert (decision.promote, decision.compared, launched, ledger.reserved) == (False, (), [], 0)
    assert decision.verdict.startswith(
        "birnn is not promoted: the level 0.05 of its test set is spent, by 0 challenges"
    )


def test_a_spent_test_set_only_guards(project: Project, against, tmp_path: Path) -> None:
    """The champion's own test set is spent, and the present one is new."""
    own, tokens = project.contender("birnn"), project.corpus("toy_reviews")
    half = shutil.copytree(tokens, tmp_path / "half")
    rows = tables.read(tokens / "test.parquet", tables.TOKENS_LABELLED)
    columns = rows.slice(60, 60).set_column(0, rows.schema.field("row"), pa.array(range(60)))
    tables.write(half / "test.parquet", columns)
    present = retokenize.md5(retokenize.test_set_files(half))
    decision = against(
        spoilt(own, tmp_path / "spoilt", 2.0),
        own,
        {"the champion's test set": tokens, "the present test set": half},
        ledger=FixedLedger((present,)),
    )
    spent, new = decision.compared
    assert (spent.p, spent.corrected) == (None, None)
    assert spent.guards
    assert "the level of this test set is spent" in spent.notes[0]
    assert new.p == new.corrected
    assert decision.deciding == new
    assert "p is corrected for 1 test set (Holm)" in decision.markdown()


def test_a_challenge_that_cannot_be_compared_spends_nothing(project: Project, against) -> None:
    ledger = FixedLedger(None)
    against(
        project.contender("gru"),
        project.contender("lower"),
        only(project.corpus("toy_story")),
        ledger=ledger,
    )
    assert ledger.reserved == 0


def test_each_challenge_is_tested_at_its_share(
    project: Project, against, settings: Settings, tmp_path: Path
) -> None:
    own, tokens = project.contender("gru"), only(project.corpus("toy_story"))
    worse = spoilt(own, tmp_path / "spoilt", 0.5)
    strict = replace(settings, challenges=100, resamples=4100)
    decision = against(worse, own, tokens, settings=strict)
    assert decision.promote
    assert decision.level == pytest.approx(0.0005)
    assert decision.reasons[-1] == (
        "tested at level 0.0005 = 0.05 / 100, as each of 100 challenges of a test set"
    )


def test_a_champion_must_beat_the_baseline_too(
    project: Project, against, tmp_path: Path, launched
) -> None:
    own, tokens = project.contender("gru"), only(project.corpus("toy_story"))
    worse = spoilt(own, tmp_path / "spoilt", 0.5)
    worst = spoilt(own, tmp_path / "worst", 1.0, "worst")

    for champion in (None, worse):
        beaten = against(champion, own, tokens, baseline=worst)
        assert beaten.promote
        assert beaten.baseline is not None
        assert beaten.baseline.challenger < beaten.baseline.baseline
        assert beaten.reasons[0].startswith("better than the baseline worst on the same rows: ")
        assert "## Baseline" in beaten.markdown()

    # A challenger that scores as the baseline does not beat it.
    equal = replace(own, label="baseline", run="gru", vocab=own.vocab)
    refused = against(None, own, tokens, baseline=equal)
    assert not refused.promote
    assert refused.reasons[0] == (
        "the baseline baseline (gate.beats_baseline) is not beaten: it is the challenger itself"
    )
    lost = against(worse, own, tokens, baseline=own)
    assert not lost.promote
    lost = against(None, worst, tokens, baseline=own)
    assert not lost.promote
    assert lost.reasons[0].startswith("not better than the baseline gru on the same rows: ")
    assert lost.reasons[0].endswith("(in bits per character)")
    assert json.loads(lost.json())["baseline"]["beaten"] is False


def test_a_baseline_is_not_asked_if_the_challenger_loses_anyway(
    project: Project, against, launched, tmp_path: Path
) -> None:
    own, tokens = project.contender("gru"), only(project.corpus("toy_story"))
    decision = against(own, spoilt(own, tmp_path / "spoilt", 0.5), tokens, baseline=own)
    assert decision.baseline is None
    assert len(launched) == 6


def test_a_baseline_that_is_none_is_refused_in_one_line(project: Project) -> None:
    settings = replace(load(ROOT / "flow.yaml"), beats_baseline={"language_model-toy_story": "gru"})
    assert trained_runs.baseline(project.root, settings, "classification", "toy_reviews") is None
    project.contender("gru")
    found = trained_runs.baseline(project.root, settings, "language_model", "toy_story")
    assert found is not None
    assert found.run == "gru"
    for name, said in (
        ("grv", "got grv; expected one of birnn, "),
        (
            "birnn",
            "got birnn, a run of classification on toy_reviews; expected a run of "
            "language_model on toy_story",
        ),
        ("chars", "got chars, a run of language_model on chars; expected a run of "),
    ):
        other = replace(settings, beats_baseline={"language_model-toy_story": name})
        with pytest.raises(UserError) as refused:
            trained_runs.baseline(project.root, other, "language_model", "toy_story")
        line = str(refused.value)
        assert line.startswith(f"gate.beats_baseline.language_model-toy_story: {said}")
        assert "\n" not in line


# What goes wrong


def test_a_contender_that_cannot_read_the_test_set_is_not_promoted(
    project: Project, against, tmp_path: Path
) -> None:
    own, tokens = project.contender("birnn"), project.corpus("toy_reviews")
    other = shutil.copytree(tokens, tmp_path / "other")
    rows = tables.read(tokens / "test.parquet", tables.TOKENS_LABELLED).to_pylist()
    rows[7]["label"] = "mixed"
    tables.write(other / "test.parquet", pa.Table.from_pylist(rows, tables.TOKENS_LABELLED))
    decision = against(own, spoilt(own, tmp_path / "spoilt", 1.0), only(other))
    assert not decision.promote
    assert decision.reasons[0].startswith("the two cannot be compared: stages.encode: ")
    assert "got the label mixed; expected one of negative, positive" in decision.verdict


def test_a_stage_that_breaks_down_stops_the_challenge_and_leaves_its_log(
    project: Project, against, tmp_path: Path
) -> None:
    own = project.contender("birnn")
    log_says = "a traceback's last line"

    def broken(command: Sequence[str], log: Path) -> int:
        log.write_text(f"Traceback\n{log_says}\n")
        return 1

    with pytest.raises(UserError) as told:
        against(
            own,
            spoilt(own, tmp_path / "spoilt", 1.0),
            only(project.corpus("toy_reviews")),
            launch=broken,
        )
    [line] = str(told.value).splitlines()
    assert line.startswith(f"stages.encode failed with status 1: {log_says}. Its log is {tmp_path}")
    assert log_says in Path(line.removesuffix(".").rpartition(" ")[2]).read_text()
    assert [path for path in (tmp_path / "work").iterdir() if path.is_dir()] == []


# Reading


@pytest.mark.parametrize("corpus", ["toy_story", "toy_en_fr", "toy_reviews", "chars", "lower"])
def test_a_test_set_read_as_its_own_corpus_reads_it_is_that_very_test_set(
    project: Project, corpus: str, tmp_path: Path
) -> None:
    tokens = project.corpus(corpus)
    retokenize.retokenize(tokens, describe(project.root / "data/vocab" / corpus), tmp_path / "read")
    splits = retokenize.list_splits(tokens)
    assert sorted(file.stem for file in (tmp_path / "read").glob("*.parquet")) == sorted(splits)
    for split in splits:
        before, after = (
            pa.parquet.read_table(folder / f"{split}.parquet")
            for folder in (tokens, tmp_path / "read")
        )
        assert after.equals(before)


def test_a_test_set_read_otherwise_keeps_its_rows_and_raw_text(
    project: Project, tmp_path: Path
) -> None:
    words, chars = project.corpus("toy_story"), project.corpus("chars")
    retokenize.retokenize(words, describe(project.root / "data/vocab/chars"), tmp_path / "read")
    found, want = (
        tables.read(folder / "test.parquet", tables.TOKENS_TEXT)
        for folder in (tmp_path / "read", chars)
    )
    assert found.equals(want)
