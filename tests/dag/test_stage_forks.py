"""Stages' commands as forks of stage_server.py: each is what a new Python would be."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flows
import psutil
import pytest
from waiting import wait_for

from pipeline.dag import stage_forks

ROOT = Path(__file__).resolve().parents[2]

# What a stage may depend on, printed by the stage itself.
FACTS = """
import json, os, signal, sys
import numpy, torch

facts = {
    "argv": sys.argv,
    "folder": os.getcwd(),
    "path": sys.path,
    "environment": {
        name: value for name, value in os.environ.items() if name not in ("_", "SHLVL", "OLDPWD")
    },
    "main": [__name__, __file__, __package__, __spec__.name, sys.modules["__main__"].__name__],
    "is main": sys.modules["__main__"].__dict__ is globals(),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "threads": len(os.listdir("/proc/self/task")),
    "signals": [
        str(signal.getsignal(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)
    ],
    "blocked": [str(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "streams": [
        [stream.fileno(), stream.encoding, stream.errors, stream.line_buffering]
        for stream in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "hook": sys.excepthook.__name__,
    "leads its group": os.getpgid(0) == os.getpid(),
    "threads of torch": torch.get_num_threads(),
    "kernels": torch.backends.cpu.get_cpu_capability(),
    "initialized": torch.cuda.is_initialized(),
}
print(json.dumps(facts))
"""
STAGES = {
    "facts": FACTS,
    "numbers": (
        "import random, numpy, torch\n"
        "print(random.random(), numpy.random.rand(), torch.rand(()).item())"
    ),
    "status": (
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(int(sys.argv[1]))"
    ),
    "text": "import sys\nsys.exit('last words')",
    "error": "raise LookupError('no such key')",
    "exhausted": "raise MemoryError",
    "refused": (
        "from pipeline.core.errors import exit_with, refuse\n"
        "def main():\n    raise refuse('a', 1, 'a 2')\n"
        "exit_with(main)"
    ),
    "interrupted": "raise KeyboardInterrupt",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "ending": (
        "import atexit, threading, time\n"
        "atexit.register(print, 'registered')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
        "print('main', end='')"
    ),
    "sleep": "import time\nprint('asleep', flush=True)\ntime.sleep(600)",
    "workers": (
        "import multiprocessing\n"
        "with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "    print(pool.map(double, [1, 2]))"
    ),
    "again": (
        "import subprocess, sys\n"
        "if len(sys.argv) > 1:\n    sys.exit(print('another process'))\n"
        "subprocess.run([sys.executable, '-m', 'stages.again', 'x'], check=True)"
    ),
}


class Ended(NamedTuple):
    """A command's exit status, and its output."""

    status: int | None
    output: str


class Server:
    """A stage server of the project `root`, and the process that sends its requests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "tests/helpers/fork_stages.py", root],
            cwd=root,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(root / "server.log").open("w"),
            start_new_session=True,
        )
        self.pid = self._read()

    def start(self, command: str, plain: bool = False, **env: str) -> int:
        """Start the command; return the number of its process group."""
        self.log.write_text("")
        order = {
            "command": command,
            "env": environment(**env),
            "log": str(self.log),
            "plain": plain,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def run(self, command: str, plain: bool = False, **env: str) -> Ended:
        """Run the command to its end."""
        self.start(command, plain, **env)
        return self.wait()

    def wait(self) -> Ended:
        """Wait for the command that was started."""
        status = self._read()
        return Ended(status, self.log.read_text())

    def close(self) -> None:
        """End the server as the fork server does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def environment(**more: str) -> dict[str, str]:
    """The environment of DVC and of the stages."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name[:6] != "PYTEST"}
    return inherited | {
        "PATH": binaries,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        **more,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of a project whose `stages` are those above, with this `pipeline`."""
    root = tmp_path_factory.mktemp("forks") / "project"
    (root / "stages").mkdir(parents=True)
    (root / "stages/__init__.py").write_text((ROOT / "stages/__init__.py").read_text())
    for name, text in STAGES.items():
        body = textwrap.indent(text, "    ")
        code = f"def double(number):\n    return 2 * number\nif __name__ == '__main__':\n{body}\n"
        (root / f"stages/{name}.py").write_text(code)
    started = Server(root)
    yield started
    started.close()


@pytest.mark.long
def test_the_stage_finds_the_process_of_a_new_python(server: Server) -> None:
    facts = []
    for plain in (False, True):
        ended = server.run(
            "python -m stages.facts --out data/{run}", plain, DVC_STAGE="train@a", SEQLINE_X="1"
        )
        assert ended.status == 0, ended.output
        facts.append(json.loads(ended.output))
    assert facts[0].pop("leads its group") is False, "the process of DVC leads it"
    facts[1].pop("leads its group")
    # Arrow's second allocator has a thread in a new Python.
    assert facts[0].pop("threads") == 1
    facts[1].pop("threads")
    assert facts[0] == facts[1]
    assert facts[0]["argv"] == [str(server.root / "stages/facts.py"), "--out", "data/{run}"]
    assert facts[0]["is main"]
    assert facts[0]["environment"]["DVC_STAGE"] == "train@a"


@pytest.mark.parametrize(
    "stage",
    [
        *("status 0", "status 3", "status 2", "text", "refused", "exhausted", "interrupted"),
        *("killed", "ending", "workers", "again"),
    ],
)
def test_status_and_output_are_those_of_a_new_python(stage: str, server: Server) -> None:
    fork = server.run(f"python -m stages.{stage}")
    new = server.run(f"python -m stages.{stage}", plain=True)
    assert fork.status is not None
    assert without_frames(fork) == without_frames(new)


def without_frames(ended: Ended) -> Ended:
    """The output without the lines of a traceback."""
    lines = [line for line in ended.output.splitlines() if not line.startswith("  ")]
    return Ended(ended.status, "\n".join(lines))


def test_traceback_of_an_error_begins_in_the_stage(server: Server) -> None:
    ended = server.run("python -m stages.error")
    assert ended.status == 1
    assert ended.output.splitlines()[0] == "Traceback (most recent call last):"
    assert ended.output.splitlines()[-1] == "LookupError: no such key"
    assert f'File "{server.root}/stages/error.py", line 4, in <module>' in ended.output
    assert "stage_server" not in ended.output


def test_stages_draw_different_random_numbers(server: Server) -> None:
    outputs = [server.run("python -m stages.numbers").output.split() for _ in range(2)]
    assert len({*outputs[0], *outputs[1]}) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_group_ends_the_stage(number: int, server: Server) -> None:
    group = server.start("python -m stages.sleep")
    wait_for(lambda: "asleep" in server.log.read_text(), "the stage's start")
    [stage] = [process for process in psutil.Process(server.pid).children() if process.is_running()]
    assert os.getpgid(stage.pid) == group
    os.killpg(group, number)
    wait_for(lambda: not stage.is_running(), "its end")
    reset(server)


def test_ctrl_c_reaches_the_stage(server: Server) -> None:
    group = server.start("python -m stages.sleep")
    wait_for(lambda: "asleep" in server.log.read_text(), "the stage's start")
    os.killpg(group, signal.SIGINT)
    ended = server.wait()
    assert ended.status == -signal.SIGINT
    assert ended.output.splitlines()[-1] == "KeyboardInterrupt"


def reset(server: Server) -> None:
    """The killed process of DVC prints no status: nothing is to be read."""
    assert server.run("python -m stages.status 0").status == 0


@pytest.mark.parametrize(
    "env",
    [{"OMP_NUM_THREADS": "2"}, {"PATH": "/usr/bin"}, {"SEQLINE_CPU": "native"}, {"LANG": "xx"}],
)
def test_another_environment_needs_a_new_python(env: dict[str, str], server: Server) -> None:
    assert server.run("python -m stages.status 0", **env) == Ended(None, "")


@pytest.mark.parametrize(
    "command",
    [
        "python work.py",
        "python -m stages.status 0; true",
        "python -m stages.status 0 > file",
        "python -m stages.status $HOME",
        "python -m stages.status ~",
        "python -m stages.status *",
        "python -m stages.status {1,2}",
        "python -m stages.status '0'",
        "python -m stages.status  0",
        "python -m pipeline.dag.graph",
    ],
)
def test_what_a_shell_would_change_is_left_to_the_shell(command: str, server: Server) -> None:
    assert server.run(command) == Ended(None, "")


def test_an_edit_of_the_code_needs_a_new_python(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").write_text("")
    (tmp_path / "stages/one.py").write_text("if __name__ == '__main__': print(1)\n")
    started = Server(tmp_path)
    assert started.run("python -m stages.one") == Ended(0, "1\n")
    (tmp_path / "stages/one.py").write_text("if __name__ == '__main__': print(11)\n")
    assert started.run("python -m stages.one") == Ended(None, "")
    started.close()


@pytest.mark.long
def test_a_dead_server_is_replaced_by_new_pythons(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "stages").mkdir(parents=True)
    (root / "stages/__init__.py").write_text("")
    for name in ("sleep", "status"):
        (root / f"stages/{name}.py").write_text((server.root / f"stages/{name}.py").read_text())
    dying = Server(root)
    group = dying.start("python -m stages.sleep")
    wait_for(lambda: "asleep" in dying.log.read_text(), "the stage's start")
    os.kill(dying.pid, signal.SIGKILL)
    assert dying.wait().status == -signal.SIGKILL
    os.killpg(group, signal.SIGKILL)
    assert dying.run("python -m stages.status 0") == Ended(None, "")
    dying.close()
    wait_for(lambda: flows.inhabitants(root) == [], "the end of all")


@pytest.mark.long
def test_server_ends_with_those_who_can_send_requests(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").write_text("")
    started = Server(tmp_path)
    started._process.kill()
    started._process.wait()
    wait_for(lambda: flows.inhabitants(tmp_path) == [], "the server's end")


def test_server_is_for_projects_with_stages_of_this_kind(tmp_path: Path) -> None:
    assert stage_forks.are_useful(ROOT, 3)
    assert not stage_forks.are_useful(ROOT, 2)
    assert not stage_forks.are_useful(tmp_path, 3)
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: python work.py}}")
    assert not stage_forks.are_useful(tmp_path, 3)
