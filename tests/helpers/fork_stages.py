"""`python fork_stages.py ROOT`: run commands by a stage server, as the fork server does.

Each line of the input is `{"command": ..., "env": {...}, "log": FILE, "plain": false}`. The command
runs in a process group of its own with its output appended to the log. The output has a line with
the group's number, and then one with the exit status; null if the server ran nothing. With `plain`
a shell runs it instead, as in DVC."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.dag.stage_forks import StageForks


def main() -> None:
    root = Path(sys.argv[1])
    forks = StageForks(root)
    print(json.dumps(forks._process.pid), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            run(forks, root, order)
        os.waitpid(pid, 0)
    forks.end()


def run(forks: StageForks, root: Path, order: dict) -> None:
    os.setpgid(0, 0)
    answers = os.dup(1)
    os.write(answers, f"{os.getpid()}\n".encode())
    streams = (os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_APPEND))
    for number, stream in enumerate((*streams, streams[1])):
        os.dup2(stream, number)
    if order["plain"]:
        words = ["bash", "--noprofile", "--norc", "-c", order["command"]]
        status = subprocess.run(words, env=order["env"], cwd=root, check=False).returncode
    else:
        status = forks.run(order["command"], order["env"], str(root))
    os.write(answers, json.dumps(status).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
