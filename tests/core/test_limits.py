"""Too little memory, too few descriptors or threads: one line, status 2, and outputs that are
complete or absent."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stage_runs
import yaml
from long_cases import mostly_long
from settings_blocks import joined, split

from pipeline.core import errors
from pipeline.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "download": "toy_story",
    "tokenize": "toy_story",
    "vocab": "toy_story",
    "encode": "toy_story",
    "scratch": "",
    "train": "rnn",
    "predict": "rnn",
    "evaluate": "rnn",
    "report": "",
}
NATIVE = (
    "terminate called after",
    "<jemalloc>",
    "OpenBLAS error",
    "cannot allocate memory for thread-local data",
)
"""Messages of libraries in C and C++."""


def failing(statement: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose `main` is the statement."""
    program = (
        "import errno, os, threading\nfrom pipeline.core.errors import *\ndef main():\n  "
        f"  {statement}\nexit_with(main)"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("raise MemoryError", "out of memory (an allocation failed)"),
        (
            "raise MemoryError('malloc of size 64 failed')",
            "out of memory (malloc of size 64 failed)",
        ),
        (
            "raise OSError(errno.ENOMEM, 'Cannot allocate memory')",
            "out of memory ([Errno 12] Cannot allocate memory)",
        ),
        (
            'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
            "out of memory (DefaultCPUAllocator",
        ),
        (
            "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')",
            "out of memory (CUDA out of memory",
        ),
        ("raise RuntimeError('could not create a primitive')", "out of memory (could not create"),
        (
            "raise ImportError('libtorch.so: failed to map segment from shared object')",
            "out of memory (libtorch.so",
        ),
        (
            "raise OSError(errno.EMFILE, 'Too many open files', 'some')",
            "out of file descriptors ([Errno 24]",
        ),
        (
            "raise OSError(errno.ENFILE, 'Too many open files in system')",
            "out of file descriptors ([Errno 23]",
        ),
        (
            "raise ImportError('x.so: cannot open shared object file: Too many open files')",
            "out of file descriptors",
        ),
        (
            'raise RuntimeError("can\'t start new thread")',
            "out of processes and threads (can't start",
        ),
        (
            "raise UserError('weights: got no weights') from MemoryError()",
            "out of memory (an allocation failed)",
        ),
    ],
)
def test_an_exhausted_resource_is_named_in_one_line(statement: str, line: str) -> None:
    done = failing(statement)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"seqline: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_only_a_lock_counts_no_longer_once_it_was_handled(number: int) -> None:
    """EAGAIN is what a taken lock gives; `from None` says that it was handled, also beneath further
    errors."""
    wrapped = [caught(number, None), caught(number, KeyError("cause")), RuntimeError("last")]
    wrapped[2].__cause__ = wrapped[0]
    handled, cause, beneath = (errors.exhausted(error) for error in wrapped)

    assert errors.exhausted(OSError(number, "refused")) is not None
    assert cause is None, "an explicit cause stands in the place of the context"
    assert (handled is None) == (beneath is None) == (number == errno.EAGAIN)


def caught(number: int, cause: BaseException | None) -> UserError:
    """An error raised `from cause` in answer to a refusal of the system's."""
    try:
        try:
            raise OSError(number, os.strerror(number))
        except OSError:
            raise UserError("lock: got a busy one; expected a free one.") from cause
    except UserError as error:
        return error


def test_the_message_of_an_error_takes_time_linear_in_its_length() -> None:
    """Of a million characters: quadratic time is hours, which the time limit of a test ends."""
    length = 1_000_000
    text = f"{'a' * length} mysql+x://me:secret@host/db?key=1 https://{'@' * length}last"
    assert (
        errors.describe_error(ValueError(text)) == f"{'a' * length} mysql+x://host/db https://last"
    )


def test_other_errors_keep_their_traceback() -> None:
    done = failing("raise RuntimeError('a mistake of ours')")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("limit", "statement", "line"),
    [
        (
            "-n 64",
            "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]",
            "out of file descriptors",
        ),
        ("-v 500000", "bytearray(1 << 32)", "out of memory"),
    ],
)
def test_a_really_exhausted_resource_is_named_in_one_line(
    limit: str, statement: str, line: str
) -> None:
    program = (
        "import os\nfrom pipeline.core.errors import exit_with\ndef main():\n    "
        f"{statement}\nexit_with(main)"
    )
    done = limited(limit, sys.executable, "-c", program)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"seqline: {line}")


def limited(limit: str, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command under `ulimit`."""
    return subprocess.run(
        ["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", *command],
        cwd=cwd,
        env=stage_runs.environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run on a small corpus."""
    root = tmp_path_factory.mktemp("limits")
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["corpora"] = {"toy_story": content["corpora"]["toy_story"]}
    content["corpora"]["toy_story"]["source"]["builtin"]["sizes"] = {
        "train": 200,
        "valid": 40,
        "test": 40,
    }
    content["compute"] |= {"device": "cpu"}
    content["runs"] = {"rnn": joined(content)["rnn"]}
    content["runs"]["rnn"]["model"] |= {"embedding": 8, "hidden": 8}
    content["runs"]["rnn"]["training"] |= {"max_epochs": 1}
    content["runs"]["rnn"]["objective"] |= {"batch_size": 4, "steps": 16}
    (root / "params.yaml").write_text(yaml.safe_dump(split(content)), encoding="utf-8")
    for stage, key in STAGES.items():
        if key != "rnn" and stage != "report":
            stage_runs.run(root, stage, key)
    return root


def content(paths: list[Path]) -> dict[Path, bytes]:
    files = [
        file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))
    ]
    return {file: file.read_bytes() for file in files if file.is_file()}


def check(root: Path, stage: str, limit: str) -> None:
    """Under the limit the stage ends well, or in one line with its former outputs as they were."""
    before = content(stage_runs.outs(root, stage, STAGES[stage]))
    done = limited(limit, sys.executable, "-m", *stage_runs.words(stage, STAGES[stage]), cwd=root)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode == 0:
        return
    assert content(stage_runs.outs(root, stage, STAGES[stage])) == before
    if not any(word in done.stderr for word in NATIVE):
        assert done.returncode == 2, done.stderr
        assert [line[:9] for line in done.stderr.splitlines()] == ["seqline: "], done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "limit"),
    mostly_long(
        [
            ("tokenize", "-n 20"),
            ("train", "-v 950000"),
            ("encode", "-v 350000"),
            ("train", "-v 500000"),
        ],
        2,
    ),
)
def test_a_stage_short_of_memory_or_descriptors_ends_in_one_line(
    stage: str, limit: str, trained: Path
) -> None:
    check(trained, stage, limit)


# Near 200,000 kB not even an integer can be allocated while modules are imported. CPython 3.11 then
# loops for ever in its own handling of exceptions.
@pytest.mark.long
@pytest.mark.parametrize(
    "limit", ["-n 20", *(f"-v {size}" for size in range(210_000, 1_700_000, 300_000))]
)
def test_every_stage_short_of_memory_or_descriptors_ends_in_one_line(
    limit: str, trained: Path
) -> None:
    for stage, key in STAGES.items():
        if not all(path.exists() for path in stage_runs.outs(trained, stage, key)):
            stage_runs.run(trained, stage, key)
        check(trained, stage, limit)


@pytest.mark.parametrize("command", ["check", "doctor", "status", "sync", "run", "champions"])
def test_a_command_with_too_few_descriptors_is_refused_before_it_begins(
    command: str, project: Path
) -> None:
    program = "from pipeline import cli; cli.main()"
    done = limited("-n 20", sys.executable, "-c", program, command, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "seqline: ulimit -n: got 20; expected at least 64 open files. Run `ulimit -n 1024` first.\n"
    )
