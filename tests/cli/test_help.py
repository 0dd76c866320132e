"""The help, the version, `seqline` without a command, and completion in shells."""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.cli.examples import EXAMPLES
from pipeline.cli.help_page import EXIT_STATUSES
from pipeline.core import state_dir
from pipeline.core.errors import UserError
from pipeline.core.locks import owned_lock
from pipeline.flow import journal

ROOT = Path(__file__).resolve().parents[2]
SLOW = {"torch", "mlflow", "dvc", "prefect", "pandas", "numpy", "pyarrow", "rich"}
SHELLS = ("bash", "zsh", "fish")


def subparsers() -> dict[str, argparse.ArgumentParser]:
    [action] = [
        action
        for action in cli.make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return dict(action.choices)


def test_every_command_is_in_one_group_with_a_line_that_fits(project, seqline) -> None:
    page = seqline(project, "--help").out
    for name, command in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +\S", page, re.MULTILINE)
        assert " ".join(command.HELP.split()) in " ".join(page.split())
    assert sum(len(group) for group in cli.GROUPS.values()) == len(cli.COMMANDS)
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_examples_that_its_parser_takes(name: str, project, seqline) -> None:
    assert EXAMPLES[name]
    for example in EXAMPLES[name]:
        line = example.removeprefix("source <(").partition("  #")[0].partition(")")[0]
        words = shlex.split(re.split(r" [<>] ", line)[0])
        assert words[:2] == ["seqline", name]
        arguments = cli.make_parser().parse_args(words[1:])
        assert arguments.command == name
    result = seqline(project, name, "--help")
    assert result.status == 0
    assert all(f"  {example}\n" in result.out for example in EXAMPLES[name])


def test_no_example_is_of_an_unknown_command() -> None:
    assert EXAMPLES.keys() == cli.COMMANDS.keys() == subparsers().keys()


def test_exit_statuses_are_documented_alike_in_help_and_docs(project, seqline) -> None:
    page = " ".join(seqline(project, "--help").out.split())
    document = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    for status, meaning in EXIT_STATUSES.items():
        assert f"{status} {meaning}" in page
        assert f"| {status} | {meaning} |" in document


def test_docs_name_every_command_and_every_one_that_prints_json() -> None:
    document = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    for name, parser in subparsers().items():
        assert f"`seqline {name}`" in document, name
        has_json = any("--json" in action.option_strings for action in parser._actions)
        assert (f"`seqline {name} --json`" in document) == has_json, name


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["translate", "--help"], ["no-such"], []]
)
def test_help_and_overview_import_no_slow_library(words: list[str]) -> None:
    program = f"""
import sys
import pipeline.cli
sys.argv = ["seqline", *{words!r}]
try:
    pipeline.cli.main()
finally:
    print(sorted({SLOW!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_version_names_the_libraries_that_decide_results(tmp_path: Path, seqline) -> None:
    result = seqline(tmp_path, "--version")
    assert (result.status, result.err) == (0, "")
    assert re.fullmatch(
        r"seqline \S+ \(Python 3\.\S+, torch \S+, dvc \S+, mlflow \S+, prefect \S+\)\n", result.out
    )


def outputs(root: Path, count: int) -> None:
    """Empty outputs of the first `count` runs."""
    import fast_yaml

    runs = list(fast_yaml.load((root / "params.yaml").read_text())["runs"])
    (root / "reports/metrics").mkdir(parents=True)
    for name in runs[:count]:
        (root / "data/models" / name).mkdir(parents=True)
        (root / f"reports/metrics/{name}.json").touch()


@pytest.mark.parametrize(
    ("count", "next_command"), [(0, "seqline check"), (3, "seqline check"), (None, "results")]
)
def test_without_a_command_it_says_what_is_there_and_what_to_do(
    count: int | None, next_command: str, project, seqline
) -> None:
    outputs(project, 1000 if count is None else count)
    result = seqline(project / "presets")
    assert (result.status, result.err) == (0, "")
    runs = re.search(r"^runs +(\d+) in params.yaml, (\d+) trained, (\d+) scored$", result.out, re.M)
    assert runs is not None
    assert int(runs[2]) == int(runs[3]) == (int(runs[1]) if count is None else count)
    [first] = [line for line in result.out.splitlines() if line.startswith("next")]
    assert next_command in first


def test_without_a_command_a_flow_at_work_and_a_broken_params_file_are_named(
    project, seqline
) -> None:
    with owned_lock(project / state_dir.FLOW_LOCK, wait=False):
        assert "seqline status" in seqline(project).out
    (project / "params.yaml").write_text("runs: [")
    result = seqline(project)
    assert (result.status, result.err) == (0, "")
    assert "problem  " in result.out
    assert "seqline check" in result.out


def test_without_a_command_the_reason_of_a_failed_run_is_shown(project, seqline) -> None:
    with journal.record_flow(project, "run") as record:
        record.state = "failed"
        record.summary = "2 stages: 1 failed\nFAILED train@a: no luck\n       log: a.log"
    assert "last run  FAILED train@a: no luck\n" in seqline(project).out
    with pytest.raises(UserError), journal.record_flow(project, "run"):
        raise UserError("dvc.yaml: got no stages")
    assert "last run  failed: dvc.yaml: got no stages\n" in seqline(project).out
    with journal.record_flow(project, "run"):
        pass
    assert "last run" not in seqline(project).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["translat"],
            "COMMAND: got translat; expected a name that the help lists. Did you mean 'translate'?",
        ),
        (["completion", "bsh"], "SHELL: got bsh; expected one of bash, zsh, fish. Did you mean "),
        (["add", "zzz"], "WHAT: got zzz; expected one of corpus, run, model. See `seqline add"),
    ],
)
def test_a_word_that_is_none_of_the_choices_is_refused_with_the_nearest(
    words: list[str], message: str, project, seqline
) -> None:
    result = seqline(project, *words)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"seqline: {message}")
    assert result.err.endswith(" --help`.\n")
    assert result.err.count("\n") == 1


def test_outside_of_a_project_it_says_how_to_begin(tmp_path: Path, seqline) -> None:
    result = seqline(tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "make repro" in result.out


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_script_can_be_printed_anywhere_and_has_all_commands(
    shell: str, tmp_path: Path, seqline
) -> None:
    result = seqline(tmp_path, "completion", shell)
    assert (result.status, result.err) == (0, "")
    assert all(name in result.out for name in cli.COMMANDS)
    if program := shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(result.out)
        done = subprocess.run([program, "-n", str(script)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_names_for_completion_are_the_project_s(project, seqline) -> None:
    runs = seqline(project, "completion", "--names", "runs").out.split()
    assert {"attention", "attention-1", "trigram"} <= set(runs)
    stages = seqline(project, "completion", "--names", "stages").out.split()
    assert {"train", "train@attention-1", "report"} <= set(stages)
    presets = seqline(project, "completion", "--names", "presets").out.split()
    assert presets[0] == "default"
    assert "d2l" in presets
    families = seqline(project, "completion", "--names", "addable-families").out.split()
    assert {"attention_seq2seq", "text_cnn", "ngram_lm"} <= set(families)
    assert not {"image_cnn", "lag_mlp", "cache_lm"} & set(families), "these cannot be added"
    corpora = seqline(project, "completion", "--names", "corpora").out.split()
    assert {"toy_story", "toy_en_fr"} <= set(corpora)
    models = seqline(project, "completion", "--names", "models").out.split()
    assert "translation-toy_en_fr" in models


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash is installed")
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("seqline com", {"compare", "completion"}),
        ("seqline compare --", {"--help", "--json"}),
        ("seqline compare at", {"attention", "attention-1", "attention-2", "attention-3"}),
        ("seqline translate --run transformer_l", {"transformer_lm"}),
        ("seqline use mul", {"multi30k"}),
        ("seqline completion z", {"zsh"}),
        ("seqline add ru", {"run"}),
        ("seqline add run tex", {"text_cnn"}),
        ("seqline add run text_cnn toy_r", {"toy_reviews"}),
        ("seqline keep toy_e", {"toy_en_fr"}),
        ("seqline keep toy_reviews toy_e", {"toy_en_fr"}),
        ("seqline check-model image_c", {"image_cnn"}),
        ("seqline add mod", {"model"}),
        ("seqline add model mine --like text_c", {"text_cnn"}),
        ("seqline add model mine --task trans", {"translation"}),
    ],
)
def test_bash_completes_commands_options_and_names(
    line: str, completed: set[str], project: Path, seqline
) -> None:
    script = seqline(project, "completion", "bash").out
    words = line.split()
    shown = f"""
{script}
seqline() {{ {shlex.quote(sys.executable)} -c 'from pipeline.cli import main; main()' "$@"; }}
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
_shtab_seqline seqline {shlex.quote(words[-1])} {shlex.quote(words[-2])}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", shown],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert completed <= set(done.stdout.split()), done.stderr
    assert all(name.startswith(words[-1]) for name in done.stdout.split())


def test_status_and_champions_print_json(project, seqline, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    status = json.loads(seqline(project, "status", "--json").out)
    assert status["healthy"] is True
    assert {"subject", "detail"} == status["report"][0].keys()
    result = seqline(project, "champions", "--json", "--of", "data/raw")
    assert (result.status, result.out) == (2, "")
