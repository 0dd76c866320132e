"""What several test files share: a small project of one's own, and the command line in it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fast_yaml
import hypothesis
import pytest

# tensors are small and the cores taken: a second thread waits, busily
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a test starts leaves compiled code beside the source, as a user's stages do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from pipeline import cli

# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile(
    "seqline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("seqline")
# `make test &` ignores Ctrl-C and `nohup` the end of the terminal, and so would all that a test
# starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
ROOT = Path(__file__).resolve().parent.parent
LONG = (
    *("retrain", "commands_run", "prefect_flow", "listening", "experiments", "dag"),
    *("served_folder", "docs_site", "serving", "plain_dvc", "work_pool", "tracking"),
    *("family_conformance", "foreign_servers", "parallel", "launcher", "models", "word_vectors"),
    *("shards", "browser"),
)


# Files whose tests start no servers and train little: `pytest -m quick` runs them within a minute.
QUICK = (
    *("bundle", "cache", "classifiers", "corpora", "cross_entropy", "decoding", "dropout"),
    *("family_oracles", "hostile_archives", "init_from", "mutations", "nn", "optim", "positions"),
    *("process_identity", "redirects", "reliability", "results", "search_rules", "structure"),
    *("text", "time_zone", "transformer_oracles"),
)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """The name of the argument for the bytes of an archive: these have the time of their making,
    and the processes that share the tests would have other names for them."""
    is_archive = isinstance(val, bytes) and val.startswith((b"PK", b"\x1f\x8b"))
    return argname if is_archive else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first: workers take a file at a time, and none should begin a
    long one at the end."""
    for item in items:
        is_quick = item.path.stem.removeprefix("test_") in QUICK
        if is_quick and item.get_closest_marker("long") is None:
            item.add_marker(pytest.mark.quick)

    place = {f"test_{name}": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


class CommandResult(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that `project` copies."""
    root = tmp_path_factory.mktemp("committed") / "project"
    root.mkdir()
    for name in ("dvc.yaml", "params.yaml", "flow.yaml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "presets", root / "presets")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    return root


@pytest.fixture(scope="session")
def initialised(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that `repository` copies."""
    root = shutil.copytree(committed, tmp_path_factory.mktemp("initialised") / "project")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    return root


@pytest.fixture
def project(committed: Path, tmp_path: Path) -> Path:
    """A committed project with this one's DAG, parameters and presets, and no code or data."""
    return shutil.copytree(committed, tmp_path / "project")


@pytest.fixture
def repository(initialised: Path, tmp_path: Path) -> Path:
    """The same as a DVC repository."""
    return shutil.copytree(initialised, tmp_path / "project")


@pytest.fixture
def seqline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """The console script, in this process: `seqline(folder, "use", "d2l")`."""

    def run(folder: Path, *arguments: str) -> CommandResult:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["seqline", *arguments])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return CommandResult(status, *capsys.readouterr())

    return run


@pytest.fixture
def edited() -> Callable[[Path, str, object], None]:
    """`edited(root, "runs.lstm.seed", 2)` sets a key of params.yaml; the value `...` removes it."""

    def edit(root: Path, dotted: str, value: object) -> None:
        content = fast_yaml.load((root / "params.yaml").read_text())
        *above, last = dotted.split(".")
        here = content
        for key in above:
            here = here[key]
        here.pop(last) if value is ... else here.update({last: value})
        (root / "params.yaml").write_text(fast_yaml.dump(content))

    return edit
