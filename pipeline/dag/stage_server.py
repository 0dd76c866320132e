"""`python -m pipeline.dag.stage_server SOCKET`: imports what the stages import, once, and forks for
each command `python -m stages.NAME ...`.

Importing torch, Arrow and NumPy takes one to two seconds of a core, which hundreds of stages need
not pay. stage_forks.py starts this server and sends the requests. DVC is not imported here, no
tensor is made and no thread is started before a fork. So a stage finds the process that a new
Python would be after its imports: `sys.argv`, `__main__`, environment, descriptors, signals, exit
status and the last words of an error are the same.

Where a fork could behave differently, the server declines and the stage's command starts a new
Python: after an edit of this program's code, and for an environment that differs in more than
`_MAY_DIFFER`, as libraries read some variables when they are loaded.

A request is a message with five descriptors: a file of JSON (`Request`), the stage's stdin, stdout
and stderr, and a pipe for the answer. The answer is the line `declined`, or the line `started` and
later the exit status. When no one can send requests any longer, the server ends; what it started
belongs to the process groups of the requests."""

import argparse
import atexit
import contextlib
import gc
import importlib.util
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn

from pipeline.dag.fork_loop import ForkLoop

_DESCRIPTORS = 5  # of a request

# Packages of modules that stages pick by name (config.named_module).
_PICKED = (
    "pipeline.grammars",
    "pipeline.corpora",
    "pipeline.models",
    "pipeline.tasks",
    "pipeline.predictions",
    "pipeline.decoding",
    "pipeline.scoring.tasks",
)
# Modules that are imported by functions: torch's optimizers import `_dynamo` at their first step,
# which takes as long as torch itself, and Arrow imports pandas for its first array.
_LATE = ("torch._dynamo", "pandas", "sacrebleu.metrics")

# Variables that are read by the stages alone, and never when a library is loaded.
_MAY_DIFFER = ("CUDA_VISIBLE_DEVICES", "DVC_ROOT", "DVC_STAGE", "PWD", "OLDPWD", "SHLVL", "_")
_PREFIX_MAY_DIFFER = "SEQLINE_"
_MUST_AGREE = ("SEQLINE_CPU",)  # core/portable_cpu.py

# Arrow's second allocator has a thread of its own by default, and is not used by default.
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


class Request(NamedTuple):
    """A stage's command: its module and arguments, environment, folder, and process group."""

    module: str
    arguments: list[str]
    env: dict[str, str]
    cwd: str
    group: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.dag.stage_server")
    parser.add_argument("socket", type=int)
    arguments = parser.parse_args()

    # Before the imports: some set variables, and no edit of the code may be missed.
    env = {name: value for name, value in os.environ.items() if name not in NO_THREADS}
    folders = _code_folders()
    code = code_state(folders)
    _import_libraries()
    # A garbage collection in a fork writes to every object, which would copy all memory pages.
    gc.collect()
    gc.freeze()
    _Server(socket.socket(fileno=arguments.socket), env, folders, code).serve()
    os._exit(0)  # at once: nothing is to be cleaned up


def _import_libraries() -> None:
    """Import what the stages import, so far as it can be imported. A stage reports an error."""
    stages = importlib.import_module("stages")
    for name in _modules("stages"):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
        # The stage itself runs as `__main__`, and is not imported.
        sys.modules.pop(name, None)
        stages.__dict__.pop(name.rpartition(".")[2], None)

    for name in (*(name for package in _PICKED for name in _modules(package)), *_LATE):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _modules(package: str) -> list[str]:
    """Return the dotted names of the package's modules, sorted."""
    try:
        path = importlib.import_module(package).__path__
    except Exception:
        return []
    return sorted(module.name for module in pkgutil.iter_modules(path, f"{package}."))


def code_state(folders: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Return time, size and inode of each file of code in the folders."""
    state = {}
    for top in folders:
        for folder, _, files in os.walk(top):
            for file in files:
                if file.endswith(".py"):
                    path = os.path.join(folder, file)
                    with contextlib.suppress(FileNotFoundError):
                        facts = os.stat(path)
                        state[path] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return state


def _code_folders() -> list[str]:
    """Return the folders of the packages `pipeline` and `stages`, which may have several."""
    specs = [importlib.util.find_spec(name) for name in ("pipeline", "stages")]
    return [path for spec in specs if spec for path in spec.submodule_search_locations or ()]


class _Server:
    """Serves the requests on `requests`. `env` is the environment in which the libraries were
    imported, and `code` the state of the code, from `folders`."""

    def __init__(
        self,
        requests: socket.socket,
        env: Mapping[str, str],
        folders: list[str],
        code: Mapping[str, tuple[int, int, int]],
    ) -> None:
        self._requests = requests
        self._env = env
        self._folders = folders
        self._code = code
        self._answers: dict[int, int] = {}  # descriptor of the answer, by process
        self._loop = ForkLoop(requests.fileno(), self._handle, self._ended)

    def serve(self) -> None:
        """Serve until no process can send requests."""
        self._loop.run()

    def _handle(self) -> bool:
        """Receive a request and start its stage; return False if no process can send another."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, 1, _DESCRIPTORS)
        if not message:
            return False
        file, *streams, answer = descriptors
        with open(file, encoding="utf-8") as content:
            request = Request(**json.load(content))

        if reason := self._reason_to_decline(request):
            _log(f"{request.module} in a new Python: {reason}")
            _write(answer, "declined")
            os.close(answer)
        else:
            # Before the fork: whoever reads no answer knows that the stage did not start.
            _write(answer, "started")
            pid = os.fork()
            if not pid:
                self._run_stage(request, streams, answer)
            _log(f"{request.module} in the fork {pid}")
            self._answers[pid] = answer
        for stream in streams:
            os.close(stream)
        return True

    def _reason_to_decline(self, request: Request) -> str:
        """Return how a fork would differ from a new Python; empty if it would not."""
        if os.path.realpath(request.cwd) != os.path.realpath(os.getcwd()):
            return f"it runs in {request.cwd}"
        if not _is_this_python(request.env.get("PATH")):
            return f"`python` is not {sys.executable}"
        if names := _differing(self._env, request.env):
            return f"other values of {', '.join(sorted(names))}"
        if code_state(self._folders) != self._code:
            return "the code was edited"
        return ""

    def _run_stage(self, request: Request, streams: Iterable[int], answer: int) -> NoReturn:
        """In the child: become the process of the stage's command, and run it."""
        status = 1
        try:
            os.setpgid(0, request.group)
            # If the reader has ended, the group is being ended too, and may have missed this one.
            if not _reader_has_ended(answer):
                for descriptor in (answer, *self._answers.values()):
                    os.close(descriptor)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                self._loop.leave()
                _set_environment(request)
                status = _run_module(request.module, request.arguments)
        except BaseException:  # `os._exit` below: the child must not continue the parent's loop
            traceback.print_exc()
        finally:
            os._exit(status)

    def _ended(self, pid: int, status: int) -> None:
        if (answer := self._answers.pop(pid, None)) is not None:
            _write(answer, str(status))
            os.close(answer)


def _log(line: str) -> None:
    """Write a line to the fork server's log."""
    with contextlib.suppress(OSError):  # a full disk
        print(line, file=sys.stderr, flush=True)


def _write(descriptor: int, line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(descriptor, f"{line}\n".encode())


def _reader_has_ended(descriptor: int) -> bool:
    """Return whether no process can read what is written to the pipe."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def _is_this_python(path: str | None) -> bool:
    """Return whether the command `python` is this Python, of this virtual environment."""
    command = shutil.which("python", path=path)
    return command is not None and Path(command).parent == Path(sys.executable).parent


def _differing(here: Mapping[str, str], there: Mapping[str, str]) -> set[str]:
    """Return the variables on which two environments differ, without those that may."""
    names = {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}
    return {
        name
        for name in names
        if name in _MUST_AGREE
        or (name not in _MAY_DIFFER and not name.startswith(_PREFIX_MAY_DIFFER))
    }


def _set_environment(request: Request) -> None:
    """Set the environment of a new process, its random numbers, and its name."""
    for name in os.environ.keys() - request.env.keys():
        del os.environ[name]
    os.environ.update(request.env | {"PWD": request.cwd})  # a shell would set PWD

    # Libraries seed their global generators when they are loaded. Python's own has a new seed
    # already.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()
    # The name that `top` shows; the command line stays that of the server.
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(request.module)


def _run_module(module: str, arguments: list[str]) -> int:
    """Run the module as `python -m MODULE ARGUMENTS...` does; return the exit status.

    Python's own end of a process would also free all objects, which takes a tenth of a second."""
    sys.argv = [module, *arguments]  # run_module puts the file's path in the first place
    interrupted = False
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = _exit_status(end)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        status = _report(error, trace)

    # As Python does at its end: wait for threads, call what libraries have registered, flush.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status


def _exit_status(end: SystemExit) -> int:
    """Return the status of `sys.exit(code)`; a code that is no number is printed."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _report(error: BaseException, trace: TracebackType | None) -> int:
    """Print an error that no one caught, as the stages' `sys.excepthook` does."""
    try:
        sys.excepthook(type(error), error.with_traceback(trace), trace)
    except SystemExit as end:
        return _exit_status(end)
    return 1


if __name__ == "__main__":
    main()
