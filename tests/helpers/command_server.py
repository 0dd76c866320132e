"""Programs `seqline` and `dvc` for a shell, as forks of one process that has imported their
libraries: a new Python takes four seconds of a core for that, each time.

A program is a short client, which passes its arguments, environment, folder and streams to the
server. The fork runs the program's `main`, and ends without what a new Python does at its end. The
console scripts themselves are tested in tests/core and tests/cli."""

import array
import contextlib
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

PROGRAMS = {"seqline": "pipeline.cli", "dvc": "dvc.cli"}  # modules with a function `main`
_LIBRARIES = ("torch", "torch._dynamo", "pandas", "matplotlib.figure", "dvc.repo")
_OWN = ("pipeline.tracking.registry", "pipeline.report.results", "pipeline.runs.trained")
_CLIENT = """#!{python} -SE
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.path.basename(__file__), sys.argv[1:], dict(os.environ), os.getcwd()])
streams = array.array("i", [0, 1, 2])
server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(request.encode() + b"\\n")
sys.exit(int(server.makefile().readline() or 134))  # nothing: the process was killed
"""


@contextlib.contextmanager
def programs(folder: Path, environment: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Put the programs into the folder; they work until the end of the context."""
    with contextlib.ExitStack() as servers:
        # An address of a socket has at most 104 characters.
        sockets = servers.enter_context(tempfile.TemporaryDirectory(prefix="commands"))
        for name in PROGRAMS:
            address = f"{sockets}/{name}"
            program = folder / name
            program.write_text(_CLIENT.format(python=sys.executable, address=address))
            program.chmod(0o755)
            command = [sys.executable, __file__, name, address]
            server = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE)
            servers.enter_context(server)
            servers.callback(server.terminate)
            assert server.stdout is not None
            assert server.stdout.readline(), f"no server for {name}"
        yield


def serve(program: str, path: str) -> None:
    """Import the program's libraries, say so with a line, and fork for each request."""
    main = importlib.import_module(PROGRAMS[program]).main
    for name in _LIBRARIES + (_OWN if program == "seqline" else ()):
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            _, parts, _, _ = client.recvmsg(1, socket.CMSG_SPACE(12))
            streams = array.array("i", parts[0][2]).tolist()
            if not os.fork():
                listener.close()
                _answer(client, streams, main)
            for descriptor in streams:
                os.close(descriptor)
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _answer(client: socket.socket, streams: list[int], main: object) -> NoReturn:
    """In the child: become the process of the command, run it, and send its exit status."""
    status = 1
    try:
        name, arguments, environment, folder = json.loads(client.makefile().readline())
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [name, *arguments]
        status = _status(main)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        client.sendall(b"%d\n" % status)
        os._exit(status)


def _status(main: object) -> int:
    assert callable(main)
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return int(code or 0) & 0xFF


if __name__ == "__main__":
    serve(*sys.argv[1:])
