"""Repeated runs of a twelve-stage DAG, six stages at a time, one with a large out: no lock error,
and the `dvc.lock` of `dvc repro`.

    python -m benchmarks.repeated_runs [--repetitions 20] [--jobs 6] [--megabytes 500]

The runs use the Prefect server of PREFECT_API_URL; without it, each starts its own. The lock must
be that of `dvc repro`, byte for byte, and no stage's log may have a lock error."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import made_dag

_COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()", "run"]
_LOCK_ERROR = re.compile(r"is busy|Unable to acquire lock|attempt \d+ failed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--megabytes", type=int, default=500)
    a = parser.parse_args()

    top = str(Path(__file__).parents[1])
    os.environ |= {"SEQLINE_TRACKING": "off", "DVC_NO_ANALYTICS": "1", "PYTHONPATH": top}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        expected = _dvc_repro_lock(made_dag.make(Path(folder) / "dvc", 0.2, a.megabytes))
        failures = 0
        for number in range(1, a.repetitions + 1):
            failures += not _run_once(Path(folder) / "run", number, a, expected)
    print(f"{a.repetitions - failures} of {a.repetitions} right")
    sys.exit(bool(failures))


def _dvc_repro_lock(root: Path) -> bytes:
    subprocess.run(["dvc", "repro", "--quiet"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    lock = (root / "dvc.lock").read_bytes()
    subprocess.run(["rm", "-rf", str(root)], check=True)
    return lock


def _run_once(root: Path, number: int, a: argparse.Namespace, expected: bytes) -> bool:
    made_dag.make(root, 0.2, a.megabytes)
    start = time.monotonic()
    process = subprocess.run(
        [*_COMMAND, "--jobs", str(a.jobs)], cwd=root, capture_output=True, text=True
    )
    seconds = time.monotonic() - start

    logs = "".join(path.read_text() for path in (root / ".seqline" / "logs").rglob("*.log"))
    lock_error = _LOCK_ERROR.search(logs)
    same = (root / "dvc.lock").read_bytes() == expected
    print(
        f"{number}: status {process.returncode}, {seconds:.1f} s, dvc.lock "
        f"{'same' if same else 'OTHER'}{f', {lock_error[0]}' if lock_error else ''}",
        flush=True,
    )
    if process.returncode:
        print(process.stdout, process.stderr)
    subprocess.run(["rm", "-rf", str(root)], check=True)
    return process.returncode == 0 and same and lock_error is None


if __name__ == "__main__":
    main()
