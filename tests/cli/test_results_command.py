"""`seqline results`: the outcome of all tests on one screen, and what to try next."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_folds
import synthetic_runs
import yaml
from stage_runs import run_evaluate

from pipeline.cli import next_steps, results, run
from pipeline.cli.standings import load_standings
from pipeline.dag import expected_time

TOP = Path(__file__).parents[2]
TRANSLATORS = {
    "transformer-1": 0.05,
    "transformer-2": 0.06,
    "seq2seq-1": 0.5,
    "seq2seq-2": 0.45,
    "ibm1": 0.8,
}
MODELS = {"rnn-1": 2.6, "rnn-2": 2.7, "lstm-1": 2.1}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Translators of which `ibm1` is a baseline, and language models; not to be changed."""
    root = synthetic_runs.project(tmp_path_factory.mktemp("results"), TRANSLATORS, MODELS, rows=80)
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["settings"]["ibm1"] |= {"optim": None, "training": None, "objective": None}
    content["corpora"]["pairs"]["samples"] = [
        {"prompt": "a ___ .", "reference": None},
        {"prompt": "he's calm .", "reference": None},
    ]
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    shutil.copy(TOP / "dvc.yaml", root)
    (root / "presets").mkdir()
    for name in TRANSLATORS:
        run_evaluate(root, name, "pairs")
    for name in MODELS:
        run_evaluate(root, name, "story")
    return root


def test_best_next_and_baseline_are_shown_with_their_distance(evaluated: Path, seqline) -> None:
    output = seqline(evaluated, "results")
    assert (output.status, output.err) == (0, "")
    lines = output.out.splitlines()
    at = lines.index("Translators on pairs (BLEU)")
    cells = [re.split(r" {2,}", line.strip()) for line in lines[at + 1 : at + 4]]
    assert [row[:2] for row in cells] == [
        ["best", "transformer"],
        ["next", "seq2seq"],
        ["baseline", "ibm1"],
    ]
    scores = [float(row[2].split(" ")[0]) for row in cells]
    for row, score in zip(cells[1:], scores[1:], strict=True):
        assert float(row[3]) == pytest.approx(scores[0] - score, abs=0.011)
        assert re.fullmatch(r"(yes|no), p [<=] 0\.\d{3}", row[4])
    assert cells[2][4].startswith("yes"), "four fifths of the baseline's words are wrong"


def test_values_for_scripts_are_those_of_the_metrics(evaluated: Path, seqline) -> None:
    standings = json.loads(seqline(evaluated, "results", "--json").out)
    [translators] = [each for each in standings if each["corpus"] == "pairs"]
    for row in translators["rows"]:
        names = [name for name in TRANSLATORS if name.partition("-")[0] == row["setting"]]
        metrics = [
            json.loads((evaluated / f"reports/metrics/{name}.json").read_text()) for name in names
        ]
        values = [each["test"]["bleu"]["score"] for each in metrics]
        assert row["values"] == values
        assert row["mean"] == pytest.approx(statistics.mean(values))
        assert row["is_baseline"] == (row["setting"] == "ibm1")
    [_, seq2seq, _] = translators["rows"]
    assert seq2seq["lead_of_best"] == pytest.approx(
        translators["rows"][0]["mean"] - seq2seq["mean"]
    )
    assert seq2seq["test"]["p"] <= seq2seq["test"]["p_corrected"]


def test_lower_scores_lead_where_lower_is_better_and_one_seed_is_not_tested(
    evaluated: Path,
) -> None:
    [models] = [each for each in load_standings(evaluated) if each.corpus == "story"]
    best, following = models.rows
    assert (best.name, following.name) == ("lstm", "rnn")
    assert following.lead is not None
    assert following.lead > 0
    assert following.p is None
    [_, title, _, line] = [line for line, _ in results.table([models])]
    assert title.endswith("(perplexity, lower is better)")
    assert line.endswith("not tested")


def test_the_default_dag_fits_on_one_screen(evaluated: Path, seqline) -> None:
    """Six tables of four lines, as the default DAG has, beside what the command prints here."""
    out = seqline(evaluated, "results").out.splitlines()
    tables = len(load_standings(evaluated))
    others = len(out) - sum(1 + len(each.rows) for each in load_standings(evaluated))
    assert tables == 2
    assert others + 6 * 4 <= 40
    assert max(map(len, out)) <= 100


def test_three_commands_to_try_have_the_project_s_own_names(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standings = load_standings(evaluated)
    commands = [command for command, _ in next_steps.after_results(evaluated, standings)]
    assert commands == [
        """seqline translate 'he'"'"'s calm .' --run transformer""",
        "dvc exp run -S settings.transformer.optim.learning_rate=0.001 | grep -v skipping",
        "seqline ui",
    ]
    # The experiment is of the model that trained fastest here.
    monkeypatch.setattr(
        expected_time, "seconds", lambda _: {"train@lstm-1": 2.0, "train@transformer-1": 9.0}
    )
    commands = [command for command, _ in next_steps.after_results(evaluated, standings)]
    experiment = "dvc exp run -S settings.lstm.optim.learning_rate=0.002"
    assert commands[1] == f"{experiment} | grep -v skipping"
    # Under `make repro`, the environment is on the PATH but not active in the user's shell.
    monkeypatch.setattr(sys, "prefix", str(evaluated / ".venv"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert next_steps.activation(evaluated) == "source .venv/bin/activate"
    monkeypatch.setenv("VIRTUAL_ENV", str(evaluated / ".venv"))
    assert next_steps.activation(evaluated) is None


def test_a_run_of_targets_ends_with_their_scores_and_a_text_for_the_best(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.show_scores(evaluated, ["evaluate@seq2seq-1", "evaluate@transformer-2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["transformer", "seq2seq"]
    assert """  seqline translate 'he'"'"'s calm .' --run transformer-2""" in lines
    run.show_scores(evaluated, ["evaluate", "download@pairs"])
    assert capsys.readouterr().out == "", "no run is named"


def test_folds_are_one_table_with_the_number_of_folds(tmp_path: Path) -> None:
    nats = {"rnn": {0: [2.6], 1: [2.7], 2: [2.8]}, "lstm": {0: [2.1], 1: [2.0], 2: [2.2]}}
    root = synthetic_folds.project(tmp_path / "folds", nats)
    shutil.copy(TOP / "dvc.yaml", root)
    for setting, by_fold in nats.items():
        for fold in by_fold:
            run_evaluate(root, f"{setting}_{fold}-1", f"text_{fold}")
    [standing] = load_standings(root)
    assert [row["folds"] for row in standing.json()["rows"]] == [3, 3]
    assert [row.name for row in standing.rows] == ["lstm", "rnn"]
    assert all(len(row.values) == 3 for row in standing.rows)


def test_a_run_without_scores_is_refused_with_what_to_do(
    evaluated: Path, tmp_path: Path, seqline
) -> None:
    root = shutil.copytree(evaluated, tmp_path / "project")
    (root / "reports/metrics/ibm1.json").unlink()
    output = seqline(root, "results")
    assert (output.status, output.out) == (2, "")
    assert output.err.startswith("seqline: runs: got no scores of 1 of 8 (ibm1); expected scores")
    assert "`seqline run` computes them" in output.err


def test_comparing_two_settings_gives_values_for_scripts(evaluated: Path, seqline) -> None:
    output = seqline(evaluated, "compare", "seq2seq", "transformer", "--json")
    [pair] = json.loads(output.out)
    assert [row["setting"] for row in pair["rows"]] == ["transformer", "seq2seq"]
    test = pair["rows"][1]["test"]
    assert {test["first"], test["second"]} == {"transformer", "seq2seq"}
    assert test["low"] <= test["difference"] <= test["high"]
    assert test["p"] == test["p_corrected"], "a single pair needs no correction"


def test_settings_with_the_same_scores_are_said_to_be_equal(tmp_path: Path, seqline) -> None:
    perfect = dict.fromkeys(("transformer-1", "transformer-2", "seq2seq-1", "seq2seq-2"), 0.0)
    root = synthetic_runs.project(tmp_path / "equal", perfect, {}, rows=40)
    shutil.copy(TOP / "dvc.yaml", root)
    (root / "presets").mkdir()
    for run_name in perfect:
        run_evaluate(root, run_name, "pairs")
    text = seqline(root, "compare", "transformer", "seq2seq").out
    assert "`seq2seq` and `transformer` have the same score over seeds and test sentences." in text
    assert "better mean" not in text


def project_with_report(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of the project, with a page of the report."""
    root = tmp_path / "project"
    shutil.copytree(evaluated, root, symlinks=True)
    (root / "reports/index.html").write_text("<html>")
    return root


def test_a_run_of_everything_ends_with_the_table(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], seqline
) -> None:
    run.show_results(evaluated)
    assert capsys.readouterr() == ("", ""), "there is no report yet"
    root = project_with_report(evaluated, tmp_path)
    run.show_results(root)
    assert capsys.readouterr().out.strip() == seqline(root, "results").out.strip()
    (root / "reports/metrics/lstm-1.json").unlink()
    run.show_results(root)
    assert capsys.readouterr() == ("", ""), "not all runs have scores"


AFTER_A_LOST_SERVER = """
import argparse, atexit
from pathlib import Path
from pipeline.cli import run
from pipeline.dag import project
from pipeline.flow import commands

atexit.register(print, "what Prefect does at a normal exit")
project.check = lambda root: None
commands.run = lambda *arguments: commands.Ended(0, server_lost=True)
run.run(Path(), argparse.Namespace(targets=[], jobs=None))
"""


def test_a_run_whose_server_was_lost_ends_with_the_table_at_once(
    evaluated: Path, tmp_path: Path, seqline
) -> None:
    root = project_with_report(evaluated, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_LOST_SERVER],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == seqline(root, "results").out.strip()


@pytest.mark.parametrize("fault", ["no test scores", "another command", "a list", "no command"])
def test_a_table_that_cannot_be_made_is_no_failure_of_the_run(
    fault: str, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project_with_report(evaluated, tmp_path)
    if fault == "no test scores":
        path = root / "reports/metrics/lstm-1.json"
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps({key: metrics[key] for key in metrics if key != "test"}))
    else:
        dag = yaml.safe_load((root / "dvc.yaml").read_text())
        wrong = {"another command": {"cmd": "true --page"}, "a list": {"cmd": ["true"]}}
        dag["stages"]["report"] = wrong.get(fault, {})
        (root / "dvc.yaml").write_text(yaml.safe_dump(dag))
    run.show_results(root)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == (1 if fault == "no test scores" else 0)


def test_a_command_of_the_dag_without_its_path_is_refused_in_one_line(
    evaluated: Path, tmp_path: Path, seqline
) -> None:
    root = project_with_report(evaluated, tmp_path)
    text = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(text.replace("--comparison", "--tables"))
    refused = seqline(root, "results")
    assert refused.status == 2
    assert refused.err.startswith("seqline: dvc.yaml, stage report: got ")
    assert "expected a command with --comparison PATH" in refused.err
    assert len(refused.err.splitlines()) == 1
