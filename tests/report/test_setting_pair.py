"""Two settings compared by themselves: the same test as in the report of all, and what is
refused."""

from pathlib import Path

import pytest
import synthetic_runs
from stage_runs import run_evaluate

from pipeline.core.errors import UserError
from pipeline.report import document, pair, results

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
