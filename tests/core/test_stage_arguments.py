"""No name out of params.yaml reaches a shell, under plain DVC and in flows
(pipeline/core/stage_arguments.py)."""

import argparse
import subprocess
import sys
from pathlib import Path

import fast_yaml
import flows
import pytest
import stage_runs
import yaml
from conftest import ROOT
from dvc.repo import Repo

from pipeline.core import stage_arguments
from pipeline.core.errors import UserError
from pipeline.dag import paths

HOSTILE = (
    "x; touch pwned; true",
    "$(touch pwned)",
    "`touch pwned`",
    "x' ; touch pwned; '",
    "x\ntouch pwned",
    "x && touch pwned",
    "../../pwned",
    "x > pwned",
    "-x",
    "x-",
    "x-1; touch pwned",
    "x-1-2",
    "Ä",
    "",
)


def copy_block(project: Path, section: str, name: str, changes: dict[str, object]) -> None:
    """Add the first block of the section once more, as `name`."""
    content = fast_yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
    first = next(iter(content[section].values()))
    content[section][name] = first | changes
    (project / "params.yaml").write_text(fast_yaml.dump(content), encoding="utf-8")


def dvc(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = flows.surroundings(project.parent / "prefect", None)
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def with_code(repository: Path) -> Path:
    """The repository with the files that its stages depend on."""
    for folder in ("pipeline", "stages"):
        (repository / folder).symlink_to(ROOT / folder)
    return repository


def test_no_command_of_the_dag_holds_a_value_of_params_yaml() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        assert "$" not in stage.get("do", stage)["cmd"], name


def test_every_stage_of_a_kind_has_the_same_command() -> None:
    commands: dict[str, set[str]] = {}
    for stage in Repo(str(ROOT)).index.stages:
        commands.setdefault(stage.name.partition("@")[0], set()).add(stage.cmd)
    assert {len(variants) for variants in commands.values()} == {1}


@pytest.mark.long
@pytest.mark.parametrize("name", ["x; touch pwned; true", "$(touch pwned)"])
def test_plain_dvc_executes_no_corpus_name(with_code: Path, name: str) -> None:
    copy_block(with_code, "corpora", name, {})
    done = dvc(with_code, "repro", "--single-item", f"download@{name}")
    assert done.returncode != 0
    assert (
        f"seqline: corpora: got {name}; expected a name of small letters, digits and _, "
        in done.stderr
    ), done.stderr
    assert not list(with_code.rglob("pwned"))


@pytest.mark.long
def test_plain_dvc_executes_no_value_that_names_another_block(with_code: Path) -> None:
    copy_block(with_code, "runs", "mine", {"init_from": "x; touch pwned; true"})
    (with_code / "data/models/x; touch pwned; true").mkdir(parents=True)
    for folder in ("encoded", "vocab"):
        (with_code / f"data/{folder}/toy_story").mkdir(parents=True)
    done = dvc(with_code, "repro", "--single-item", "train@mine")
    assert (
        "seqline: runs.mine.init_from: got x; touch pwned; true; expected a name" in done.stderr
    ), done.stderr
    assert not list(with_code.rglob("pwned"))


@pytest.mark.parametrize("section", ["corpora", "runs"])
@pytest.mark.parametrize("name", HOSTILE)
def test_flows_refuse_a_name_before_dvc_reads_the_project(
    project: Path, section: str, name: str
) -> None:
    copy_block(project, section, name, {})
    with pytest.raises(UserError) as error:
        paths.check_names(project)
    line = str(error.value)
    assert line.startswith(f"{section}: got ")
    assert line.endswith(
        "; expected a name of small letters, digits and _, for a seed with -NUMBER at its end. "
        "Rename the block."
    )
    assert "\n" not in line


def test_a_number_after_a_name_is_a_seed(project: Path) -> None:
    copy_block(project, "runs", "lstm-27", {"seed": 27})
    paths.check_names(project)


@pytest.mark.parametrize(
    "command", ["run", "refresh", pytest.param("retrain", marks=pytest.mark.long)]
)
def test_commands_refuse_a_name_in_one_line(with_code: Path, command: str) -> None:
    copy_block(with_code, "corpora", "x; touch pwned; true", {})
    done = flows.seqline(with_code, flows.surroundings(with_code.parent / "prefect", None), command)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert (
        "corpora: got x; touch pwned; true; expected a name of small letters, digits and _, for a "
        "seed with -NUMBER at its end. Rename the block."
    ) in output
    assert "Traceback" not in output
    assert not list(with_code.rglob("pwned"))


def parsed(
    monkeypatch: pytest.MonkeyPatch, stage: str, *words: str, project: Path
) -> argparse.Namespace:
    monkeypatch.setenv("DVC_STAGE", stage)
    monkeypatch.setattr("sys.argv", ["stage", *words])
    parser = argparse.ArgumentParser()
    parser.add_argument("--params", type=Path, default=project / "params.yaml")
    for option in ("--one", "--two"):
        parser.add_argument(option, type=Path)
    return stage_arguments.parse(parser, "corpora" if "vocab@" in stage else "runs")


def test_placeholders_are_filled_from_the_block_that_dvc_names(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--one", "data/{corpus}/{run}", "--two", "{init_from}")
    arguments = parsed(monkeypatch, "train@bert_sentiment-2", *words, project=project)
    assert arguments.run == "bert_sentiment-2"
    assert arguments.one == Path("data/toy_reviews/bert_sentiment-2")
    assert arguments.two == Path("bert-2")

    arguments = parsed(
        monkeypatch,
        "../dvc.yaml:vocab@toy_reviewers",
        "--one",
        "{corpus}/{vocabulary}",
        project=project,
    )
    assert (arguments.corpus, arguments.one) == ("toy_reviewers", Path("toy_reviewers/toy_reviews"))


def test_a_name_on_the_command_line_takes_precedence_over_dvc(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = parsed(monkeypatch, "train@lstm-1", "gru-2", "--one", "{run}", project=project)
    assert (arguments.run, arguments.one) == ("gru-2", Path("gru-2"))


def test_an_unknown_placeholder_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError,
        match=r"^dvc\.yaml: got \{model\}; expected one of \{run\}, \{corpus\}, \{init_from\}",
    ):
        parsed(monkeypatch, "train@lstm-1", "--one", "data/{model}", project=project)


def test_a_stage_without_a_name_says_which_argument_is_missing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(monkeypatch, "train", project=project)
    assert end.value.code == 2
    assert "required: run" in capsys.readouterr().err


def test_paths_that_commands_look_up_are_those_of_the_concrete_stages() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    outs = {
        stage.name: {Path(out.fs_path) for out in stage.outs}
        for stage in Repo(str(ROOT)).index.stages
    }
    for section, stage, option in (
        ("corpora", "download", "out"),
        ("runs", "train", "out"),
        ("runs", "evaluate", "metrics"),
    ):
        for name, block in content[section].items():
            assert paths.option_path(ROOT, stage, name, block, option) in outs[f"{stage}@{name}"]


def test_the_helper_of_tests_runs_the_command_of_dvc_yaml() -> None:
    assert stage_runs.words("scratch") == ["stages.scratch", "--out", "data/models/scratch"]
