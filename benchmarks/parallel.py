"""Time of the DAG by `dvc repro`, one stage at a time, and by `seqline run`, several at a time.

    python -m benchmarks.parallel [--jobs 2] [--preset default] [--set K=V ...] [--runs RUN ...]
    [--rounds 1] [--keep FOLDER]

Each runs in a fresh clone, which has an empty cache and the committed `dvc.lock`. With --set, both
use the same changed preset. `seqline run` reports to a Prefect server that is started before and
not timed. Prints both times, their ratio, and whether the two `dvc.lock` are equal, byte for byte.
The order alternates from round to round. Run it on an idle machine."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from benchmarks import prefect_server

TOP = Path(__file__).parents[1]
_SEQLINE = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="RUN",
        help="these runs of the preset and no others",
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave the last round's clones there"
    )
    a = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "prefect") as url:
        for number in range(a.rounds):
            run_pair(Path(folder), a, url, number)
        if a.keep:
            shutil.copytree(folder, a.keep, symlinks=True, ignore=shutil.ignore_patterns("prefect"))


def run_pair(folder: Path, a: argparse.Namespace, url: str, number: int) -> None:
    """One paired measurement."""
    commands = {
        "dvc repro": ["dvc", "repro"],
        "seqline run": [*_SEQLINE, "run", "--jobs", str(a.jobs)],
    }
    seconds: dict[str, float] = {}
    locks: list[bytes] = []
    # Alternate the order from round to round.
    for name in sorted(commands, reverse=bool(number % 2)):
        shutil.rmtree(folder / name.replace(" ", "_"), ignore_errors=True)
        root = clone(folder / name.replace(" ", "_"), a)
        env = environment(root) | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": url}
        output = folder / "output.txt"
        start = time.monotonic()
        with output.open("w") as file:
            process = subprocess.run(
                commands[name],
                cwd=root,
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        seconds[name] = time.monotonic() - start
        print(f"{name}: {seconds[name]:.1f} s", flush=True)
        if process.returncode:
            sys.exit(output.read_text()[-3000:])
        if name == "seqline run":
            print(output.read_text().splitlines()[-1])
            time_idle_run(root, env)
        locks.append((root / "dvc.lock").read_bytes())

    same = "the same" if locks[0] == locks[1] else "OTHER"
    print(
        f"ratio {seconds['seqline run'] / seconds['dvc repro']:.3f}, dvc.lock: {same}", flush=True
    )


def time_idle_run(root: Path, env: dict[str, str]) -> None:
    """Print the time of a run with nothing to do."""
    start = time.monotonic()
    process = subprocess.run(
        [*_SEQLINE, "run"], cwd=root, env=env, capture_output=True, text=True, check=True
    )
    print(
        f"nothing to do: {time.monotonic() - start:.1f} s ({process.stdout.splitlines()[-1]})",
        flush=True,
    )


def clone(root: Path, a: argparse.Namespace) -> Path:
    """Clone the committed project to `root`, with the preset and runs of the options."""
    subprocess.run(["git", "clone", "--quiet", str(TOP), str(root)], check=True)
    if a.preset != "default" or a.changes:
        changes = [word for change in a.changes for word in ("--set", change)]
        subprocess.run(
            [*_SEQLINE, "use", a.preset, *changes],
            cwd=root,
            env=environment(root),
            check=True,
            stdout=2,
        )

    if a.runs:
        content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        content["runs"] = {name: content["runs"][name] for name in a.runs}
        for key, section in (("corpus", "corpora"), ("setting", "settings")):
            used = {run[key] for run in content["runs"].values()}
            content[section] = {
                name: block for name, block in content[section].items() if name in used
            }
        (root / "params.yaml").write_text(
            yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    return root


def environment(root: Path) -> dict[str, str]:
    """Environment of both commands: this python and the clone's code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {
        "DVC_NO_ANALYTICS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return {**os.environ, **quiet, "PATH": path, "PYTHONPATH": str(root)}


def serving(home: Path) -> AbstractContextManager[str]:
    """Run a Prefect server; yield the address of its API."""
    home.mkdir()
    return prefect_server.running(home, environment(TOP) | {"PREFECT_HOME": str(home)})


if __name__ == "__main__":
    main()
