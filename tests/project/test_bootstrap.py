"""bootstrap.py: what it refuses, in one line, and when it does nothing. Installing everything is
what .ci/run does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bootstrap

ROOT = Path(__file__).resolve().parents[2]
UNREACHABLE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_RETRIES": "0",
    "PIP_NO_INDEX": "0",
    "PIP_CONFIG_FILE": os.devnull,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of all that bootstrap.py reads, in a folder whose name has a space."""
    root = tmp_path / "a project"
    root.mkdir()
    for name in ("bootstrap.py", "constraints.txt", "pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, root)
    return root


def run(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """bootstrap.py of `root` with an index that refuses every connection."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    command = [sys.executable, str(root / "bootstrap.py"), *arguments]
    return subprocess.run(
        command, env={**inherited, **UNREACHABLE, **environment}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip and nothing else, made by somebody else."""
    venv = tmp_path_factory.mktemp("original") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    return venv


@pytest.fixture
def bare(original: Path) -> Callable[[Path], None]:
    """`bare(venv)` puts such an environment at `venv`."""
    return lambda venv: shutil.copytree(original, venv, symlinks=True)


@pytest.mark.long
def test_unreachable_index_is_one_line_and_environment_stays_unfinished(project: Path) -> None:
    done = run(project)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "the package index" in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert bootstrap.read_stamp(project / ".venv") == bootstrap.UNFINISHED
    assert "torch==" in (project / ".venv" / "install.log").read_text()


@pytest.mark.long
def test_a_current_environment_is_left_alone_without_the_network(project: Path, bare) -> None:
    bare(project / ".venv")
    bootstrap.write_stamp(project / ".venv", bootstrap.digest(project))
    done = run(project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(project, "--dev").returncode == 2, "the development tools are not there yet"


@pytest.mark.long
@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_outdated_environment_is_updated_once_the_index_answers(
    project: Path, bare, name: str
) -> None:
    stamp = bootstrap.digest(project) + " dev"
    bare(project / ".venv")
    bootstrap.write_stamp(project / ".venv", stamp)
    with (project / name).open("a") as file:
        file.write("\n# newer\n")
    assert run(project).returncode == 2
    assert bootstrap.read_stamp(project / ".venv") == stamp


@pytest.mark.long
def test_unfinished_environment_is_recreated(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    venv.mkdir()
    bootstrap.write_stamp(venv, bootstrap.UNFINISHED)
    (venv / "half a package").touch()
    bootstrap.create(venv)
    assert bootstrap.runs(venv)
    assert not (venv / "half a package").exists()
    assert bootstrap.read_stamp(venv) == bootstrap.UNFINISHED


def test_a_second_set_up_waits_for_the_first_and_for_its_pip(project: Path, bare) -> None:
    bare(project / ".venv")
    bootstrap.write_stamp(project / ".venv", bootstrap.digest(project))
    with (project / ".venv.lock").open("w") as lock:
        bootstrap.hold(lock)
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
        )
    command = [sys.executable, str(project / "bootstrap.py")]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert "waiting for another" in second.stdout.readline()
    assert second.poll() is None
    child.communicate(b"\n")
    second.communicate(timeout=600)
    assert second.returncode == 0


def test_an_environment_that_was_moved_with_its_project_is_not_current(project: Path, bare) -> None:
    bare(project / ".venv")
    bootstrap.write_stamp(project / ".venv", bootstrap.digest(project))
    assert bootstrap.is_current(project / ".venv", bootstrap.digest(project), dev=False)
    moved = project.rename(project.parent / "elsewhere")
    assert not bootstrap.is_current(moved / ".venv", bootstrap.digest(moved), dev=False)


def test_an_environment_with_the_development_tools_serves_both_uses(tmp_path: Path, bare) -> None:
    bare(tmp_path / ".venv")
    bootstrap.write_stamp(tmp_path / ".venv", "abc dev")
    assert bootstrap.is_current(tmp_path / ".venv", "abc", dev=True)
    assert bootstrap.is_current(tmp_path / ".venv", "abc", dev=False)


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13)])
def test_old_python_is_refused_with_advice(version: tuple[int, ...]) -> None:
    with pytest.raises(
        bootstrap.SetupError,
        match=rf"got 3\.{version[1]}; expected 3\.11 or later\. .*make PYTHON=",
    ):
        bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 2), (4, 0, 0)])
def test_a_new_python_is_accepted(version: tuple[int, ...]) -> None:
    bootstrap.check_python(version)


def test_an_old_python_can_read_the_whole_file() -> None:
    compile(
        (ROOT / "bootstrap.py").read_text(),
        "bootstrap.py",
        "exec",
        flags=0,
        dont_inherit=True,
        _feature_version=6,
    )


def test_a_python_without_ensurepip_is_refused_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    monkeypatch.setattr(
        bootstrap.importlib.util,
        "find_spec",
        lambda name: None if name == "ensurepip" else object(),
    )
    with pytest.raises(
        bootstrap.SetupError, match=r"module ensurepip.*apt-get install python3\.\d+-venv"
    ):
        bootstrap.check_venv_module()


def test_a_disk_that_is_too_small_is_refused_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(
        bootstrap.SetupError, match=r"got \d+\.\d GB free; expected 2000000\.0 GB.*TMPDIR"
    ):
        bootstrap.check_disk({str(tmp_path): 1e6, str(tmp_path / "not" / "yet" / "there"): 1e6})
    bootstrap.check_disk({str(tmp_path): 0.0})


def test_cuda_wants_more_room_than_the_cpu(tmp_path: Path) -> None:
    assert sum(bootstrap.needs(tmp_path, cuda=True).values()) > 2 * sum(
        bootstrap.needs(tmp_path, cuda=False).values()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels bring CUDA")
@pytest.mark.parametrize(
    ("needs", "cuda"),
    [(["numpy", "nvidia-nccl-cu13==2.29"], True), (["numpy", "sympy>=1"], False), ([], False)],
)
def test_torch_requirements_show_whether_cuda_is_bundled(needs: list[str], cuda: bool) -> None:
    report = bootstrap.json.dumps(
        {"install": [{"metadata": {"name": "torch", "requires_dist": needs}}]}
    )
    assert bootstrap.is_cuda(report) is cuda


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("OSError: [Errno 28] No space left on device\nERROR: x", "a full disk"),
        (
            "WARNING: Retrying after NameResolutionError(...)\nERROR: No matching distribution",
            "package index: got 'NameResolutionError'",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from "
            "versions: none)\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            (
                "torch==2.13.0: got none from the package index; expected one for Python "
                f"{sys.version.split()[0]} on "
            ),
        ),
        (
            "ERROR: Cannot install a and b\nERROR: ResolutionImpossible",
            "pip: got ResolutionImpossible",
        ),
        ("", "pip: got a failure without a message"),
    ],
)
def test_pip_s_failures_become_one_line(output: str, said: str, tmp_path: Path) -> None:
    message = str(bootstrap.diagnose(output, tmp_path / "install.log"))
    assert said in message
    assert "\n" not in message


PIP = """Collecting dvc==3.67.1 (from seqline==0.1.0)
  Downloading dvc-3.67.1-py3-none-any.whl.metadata (18 kB)
  Downloading dvc-3.67.1-py3-none-any.whl (470 kB)
  Using cached prefect-3.8.8-py3-none-any.whl (6.9 MB)
Installing collected packages: dvc, prefect, seqline
"""


def test_progress_in_a_pipe_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = bootstrap.Progress()
    for number in range(60):
        progress.note(f"  Downloading package_{number}-1.0-py3-none-any.whl (1 kB)\n")
    for line in PIP.splitlines():
        progress.note(line)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["25", "50", "unpacking"]
    assert " 3 packages" in lines[-1]


def test_progress_on_a_terminal_is_a_line_that_is_rewritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = bootstrap.Progress()
    for line in PIP.splitlines():
        progress.note(line)
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.split() == ["1", "packages", "downloaded,", "now", "dvc"]
    assert second.split()[:3] == ["unpacking", "3", "packages:"]


def test_unwritable_folder_is_reported_in_one_line(project: Path) -> None:
    (project / ".venv.lock").mkdir()
    done = run(project)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert ".venv.lock" in done.stderr


@pytest.mark.long
def test_make_passes_the_refusal_on(project: Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    command = ["make", f"PYTHON={sys.executable}", "repro"]
    done = subprocess.run(
        command, cwd=project, env={**inherited, **UNREACHABLE}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "the package index" in done.stderr


def test_every_pin_is_exact_and_names_no_host() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert [
        line
        for line in lines
        if not bootstrap.re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)
    ] == []


def test_the_two_packages_that_break_prefect_when_newer_stay_below() -> None:
    pins = dict(
        line.lower().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert (0, 139) <= tuple(int(word) for word in pins["fastapi"].split(".")[:2]) < (0, 151)
    assert tuple(int(word) for word in pins["sqlalchemy"].split(".")[:2]) == (2, 0)
    assert pins["torch"] == "2.13.0"
