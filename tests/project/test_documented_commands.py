"""Commands in the code blocks of README and docs: each can be parsed, and names what exists."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import code_blocks
import pytest
import yaml

from pipeline.cli import make_parser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS.remove(ROOT / "docs/log.md")  # dated records of experiments, with the commands of then
# Words that stand for the reader's own.
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b(?!=)|\.\.\.|\$")


def commands(text: str) -> Iterator[str]:
    """The commands of the code blocks, without pipes and redirections."""
    for block in code_blocks.blocks(text):
        for line in block:
            for part in re.split(r"\s&&(?:\s|$)|\s\|\s|;\s", line):
                yield re.sub(r"\s[<>]\s?\S+", "", part.strip())


def documented(program: str) -> list[tuple[str, str]]:
    pairs = []
    for document in DOCUMENTS:
        for command in commands(document.read_text(encoding="utf-8")):
            if command.startswith(program + " ") and "$(" not in command:
                pairs.append((document.name, command))
    return sorted(set(pairs))


@pytest.mark.parametrize(("document", "command"), documented("seqline"))
def test_a_seqline_command_can_be_parsed(document: str, command: str) -> None:
    assert not refusal(make_parser().parse_args, command), document


def refusal(parse: Callable[[list[str]], object], command: str) -> str:
    """The parser's reason to refuse the command's arguments; "" if it takes them."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            parse([word for word in shlex.split(command)[1:] if word != "..."])
    except SystemExit as end:
        return "" if not end.code else output.getvalue()
    except Exception as error:  # DVC's parser has errors of its own
        return f"{error!r} {output.getvalue()}"
    return ""


@cache
def presets() -> list[dict[str, Any]]:
    """The contents of params.yaml and of the presets."""
    files = [ROOT / "params.yaml", *(ROOT / "presets").glob("*.yaml")]
    return [yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in files]


def names(kind: str) -> set[str]:
    """Names under `kind:` in params.yaml and the presets."""
    return {name for content in presets() for name in content[kind]}


@pytest.mark.parametrize(
    ("document", "command"), [*documented("dvc repro"), *documented("seqline translate")]
)
def test_a_command_names_stages_and_runs_that_exist(document: str, command: str) -> None:
    runs, corpora = names("runs"), names("corpora")
    settings = names("settings")
    for stage, name in re.findall(r"\b(\w+)@([\w-]+)", command):
        if PLACEHOLDER.search(name):
            continue
        known = corpora if stage in ("download", "tokenize", "vocab", "encode") else runs
        assert name in known, f"{document}: {command}"
    for name in re.findall(r"--run ([\w-]+)", command):
        assert name in runs | settings | {"my_run"} or PLACEHOLDER.search(name), command


@pytest.mark.parametrize(("document", "command"), documented("make"))
def test_a_target_of_make_exists(document: str, command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("document", "command"), documented("dvc"))
def test_a_subcommand_of_dvc_exists(document: str, command: str) -> None:
    from dvc.cli import parser as dvc_parser

    assert not refusal(dvc_parser.get_main_parser().parse_args, command), document


def benchmarks() -> list[tuple[str, str]]:
    return [
        (document, command)
        for document, command in documented("python")
        if re.match(r"python -m benchmarks\.\w+", command)
    ]


@pytest.mark.parametrize(("document", "command"), benchmarks())
def test_a_benchmark_exists(document: str, command: str) -> None:
    module = command.split()[2].replace(".", "/")
    assert (ROOT / f"{module}.py").is_file(), f"{document}: {command}"


def test_there_are_commands_to_test() -> None:
    assert len(documented("seqline")) > 40
    assert len(documented("dvc")) > 10
    assert len(benchmarks()) > 5


@pytest.mark.long
@pytest.mark.parametrize(
    "command", ["seqline", "seqline --help", "seqline use", "seqline --version"]
)
def test_commands_that_need_no_trained_run_end_with_0(command: str) -> None:
    words = [sys.executable, "-c", "from pipeline.cli import main; main()", *command.split()[1:]]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
