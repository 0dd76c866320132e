"""Commands of README, docs/tour.md and docs/commands.md, run in a small finished project.

test_documented_commands.py parses all commands of all documents; these run, and end with 0."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import code_blocks
import command_server
import pytest
import trained_project

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("attention", "transformer", "lstm", "bidirectional", "skip_gram", "mlp")
COMPARED = ("attention", "transformer")
PROGRAMS = ("seqline", "dvc", "git")
QUIET = " | grep -v skipping"  # the same command without DVC's lines
# Commands that do not run here, by their beginnings, and why.
NOT_RUN = {
    "git clone ADDRESS": "needs the address of the project",
    "seqline add corpus FILE": "a placeholder",
    "seqline run": "starts a Prefect server; tests/flow",
    "seqline retrain": "starts a Prefect server; tests/flow",
    "seqline schedule": "runs until Ctrl-C; tests/flow",
    "seqline ui": "serves until Ctrl-C; tests/serving",
    "seqline demo": "serves until Ctrl-C; tests/serving",
    "seqline serve": "serves until Ctrl-C; tests/serving",
    "seqline rollback": "needs an earlier champion; tests/promotion",
    "seqline status": "reports a project without retrainings with status 1; tests/flow",
    "seqline claims": "reads this project's own report; tests/project/test_claims.py",
    "seqline use default": "needs a commit with the default params.yaml; tests/cli",
    "seqline doctor": "judges the installation; .ci/run",
    "seqline compare --json": "needs two names; tests/report",
    "seqline add model my_family": "writes into pipeline/models/; tests/cli",
    "seqline check-model my_family": "needs the reader's file; tests/conformance",
    "seqline add run my_family": "needs the reader's file; tests/cli",
    "dvc exp run -S evaluation.test=false": "evaluates all runs again; tests/dag",
}


def matches(command: str, beginning: str) -> bool:
    """Whether a command begins with these words."""
    return f"{command} ".startswith(f"{beginning} ")


def reason(command: str) -> str | None:
    """Why the command is not run here; None if it is."""
    return next((why for name, why in NOT_RUN.items() if matches(command, name)), None)


def sessions() -> dict[str, list[str]]:
    """Commands that are run one after the other: all of the tour, those of each block of README,
    and those that commands.md lists with `--json`. A command is in the first of them alone."""
    tour = code_blocks.blocks((ROOT / "docs/tour.md").read_text(encoding="utf-8"))
    readme = code_blocks.blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    reference = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    listed = {
        "tour": [command for block in tour for command in block],
        **{f"README, block {number}": block for number, block in enumerate(readme, 1)},
        "commands": re.findall(r"^\| `(seqline [\w-]+ --json)`", reference, re.MULTILINE),
    }
    result: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, commands in listed.items():
        ours = [line for line in commands if line.split(" ")[0] in PROGRAMS]
        new = [line for line in ours if line.removesuffix(QUIET) not in seen]
        seen |= {line.removesuffix(QUIET) for line in new}
        if new:
            result[name] = new
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project with a run of each setting that the documents name."""
    content: dict[str, Any] = trained_project.small(SETTINGS)
    # The words of README's examples; two seeds of the settings that it compares.
    content["corpora"]["toy_story"]["source"]["builtin"]["sizes"]["train"] = 2000
    content["runs"] = {
        f"{setting}-{seed}": block | {"setting": setting, "seed": seed}
        for setting, block in content["runs"].items()
        for seed in ((1, 2) if setting in COMPARED else (1,))
    }
    root = trained_project.build(tmp_path_factory.mktemp("finished") / "project", content)
    (root / "reviews.csv").write_text(
        "text,label\n" + "".join(f"word{i} good,{'yes' if i % 2 else 'no'}\n" for i in range(40))
    )
    for name in ("flow.yaml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "Baseline")
    return root


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def environment(
    finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a user, with the programs on the PATH."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[user]\nname = test\nemail = test@example.org\n")
    (home / "bin").mkdir()
    environment = os.environ | {
        "PATH": f"{home}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(finished),
        "SEQLINE_TRACKING": "off",
        "DVC_NO_ANALYTICS": "1",
        "HOME": str(home),
    }
    with command_server.programs(home / "bin", environment, finished):
        yield environment


@pytest.fixture
def shell(finished: Path, environment: dict[str, str]) -> Iterator[Any]:
    """Run a command line in the project; what it changed is undone at the end."""
    start = git(finished, "rev-parse", "HEAD").strip()

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=finished,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    yield run
    git(finished, "reset", "--quiet", "--hard", start)
    git(finished, "clean", "--quiet", "-d", "--force")
    run("dvc checkout --quiet")


@pytest.mark.parametrize("session", sessions())
def test_commands_of_a_session_end_with_0(session: str, finished: Path, shell: Any) -> None:
    for command in sessions()[session]:
        if reason(command) is not None:
            continue
        done = shell(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if command.startswith("seqline use"):  # another preset; the next commands ask this one
            git(finished, "restore", "params.yaml")


def test_every_reason_is_about_a_documented_command() -> None:
    documented = [command for commands in sessions().values() for command in commands]
    unused = [name for name in NOT_RUN if not any(matches(line, name) for line in documented)]
    assert unused == []
    ran = [command for command in documented if reason(command) is None]
    assert len(ran) > 25
