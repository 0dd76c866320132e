"""Two settings compared by themselves: the same test as in the report of all, and what is
refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import synthetic_runs
from stage_runs import run_evaluate

from pipeline.core import config
from pipeline.core.errors import UserError
from pipeline.report import cells, document, pair, results, setting_tests
from pipeline.scoring.seeds import SettingPair
from pipeline.scoring.tasks import Scoring

TRANSLATORS = {"seq2seq-1": 0.5, "seq2seq-2": 0.45, "transformer-1": 0.05, "transformer-2": 0.06}
MODELS = {"rnn-1": 2.6, "rnn-2": 2.7, "lstm-1": 2.1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluated runs; not to be changed."""
    root = synthetic_runs.project(tmp_path_factory.mktemp("pair"), TRANSLATORS, MODELS, rows=80)
    for name in TRANSLATORS:
        run_evaluate(root, name, "pairs")
    for name in MODELS:
        run_evaluate(root, name, "story")
    return root


def folders(root: Path) -> tuple[Path, Path, Path]:
    return root / "params.yaml", root / "reports/metrics", root / "data/scores"


def compared(root: Path, first: str, second: str) -> str:
    return document.markdown(pair.compare(*folders(root), (first, second), "NAME"), root)


@pytest.mark.long
def test_the_test_is_that_of_the_whole_report(root: Path) -> None:
    text = compared(root, "seq2seq", "transformer")
    assert text.startswith(
        "# transformer and seq2seq\n\n`transformer` is significantly better than `seq2seq`"
    )
    [whole] = [group for group in results.groups(*folders(root)) if group.corpus == "pairs"]
    [test] = whole.pairs
    assert f"| {test.difference:+.2f} | {test.low:+.2f} to {test.high:+.2f} |" in text
    assert compared(root, "transformer", "seq2seq") == text


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            ("rnn", "lstm"),
            "NAME: got lstm, which has one seed; expected at least 2 seeds to compare settings. "
            "Add a run with another seed under `runs:`, or name two runs instead.",
        ),
        (("rnn", "rnn"), "NAME: got rnn; expected two different settings."),
        (
            ("rnn", "seq2seq"),
            "NAME: got seq2seq, translators on pairs; expected a setting of the language models "
            "on story, as rnn is.",
        ),
    ],
)
def test_settings_that_cannot_be_compared_are_refused_in_one_line(
    root: Path, names: tuple[str, str], line: str
) -> None:
    with pytest.raises(UserError) as error:
        compared(root, *names)
    assert str(error.value) == line


def test_the_command_takes_settings_and_refuses_one_seed(root: Path, seqline) -> None:
    (root / "dvc.yaml").write_bytes((Path(__file__).parents[2] / "dvc.yaml").read_bytes())
    (root / "presets").mkdir()
    said = seqline(root, "compare", "transformer", "seq2seq")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("# transformer and seq2seq\n")
    mixed = seqline(root, "compare", "rnn", "lstm-1")
    assert (mixed.status, mixed.err) == (
        2,
        "seqline: NAME: got the setting rnn and a run; expected two settings or two runs.\n",
    )
    refused = seqline(root, "compare", "rnn", "lstm")
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith("seqline: NAME: got lstm, which has one seed; expected at least")


@pytest.mark.parametrize(
    ("task", "score", "difference", "detectable"),
    [
        ("word_vectors", "0.942 [0.920, 0.961]", "-0.004", "0.018 in agreement."),
        ("classification", "0.94 [0.92, 0.96]", "-0.00", "0.02 in points of accuracy."),
        ("language_model", "0.94 [0.92, 0.96]", "-0.0041", "0.0183 in bits per character."),
    ],
)
def test_scores_and_differences_have_the_decimals_of_their_task(
    task: str, score: str, difference: str, detectable: str
) -> None:
    scoring: Scoring = config.named_module("pipeline.scoring.tasks", task, "task").scoring(False)
    values = {"score": 0.9421, "low": 0.9199, "high": 0.9612}
    assert cells.estimate(values, scoring.form) == score

    test = SettingPair(
        first="a",
        second="b",
        difference=-0.0041,
        low=-0.01,
        high=0.002,
        p=0.2,
        corrected=0.2,
        seed_error=0.002,
        row_error=0.002,
        degrees=4.0,
        detectable=0.0183,
        more_seeds=None,
    )
    group = cast(Any, SimpleNamespace(task=scoring, pairs=[test]))
    assert setting_tests.difference(group, test)[1] == difference
    [paragraph] = setting_tests.detectable_difference(group)
    assert isinstance(paragraph, document.Paragraph)
    assert paragraph.text.endswith(f": {detectable}")
