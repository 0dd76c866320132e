"""Many runs of a twelve-stage DAG, six stages at a time, one of them with a large out: no lock
error, the right `dvc.lock`.

    python -m benchmarks.repeated_runs [--repetitions 20] [--jobs 6] [--megabytes 500]

With a Prefect server in PREFECT_API_URL, else each run starts its own. The lock must be that of
`dvc repro`, byte for byte, and no stage's log may speak of a lock."""

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
        wanted = _by_dvc(made_dag.make(Path(folder) / "dvc", 0.2, a.megabytes))
        wrong = 0
        for number in range(1, a.repetitions + 1):
            wrong += not _once(Path(folder) / "run", number, a, wanted)
    print(f"{a.repetitions - wrong} of {a.repetitions} right")
    sys.exit(bool(wrong))


def _by_dvc(root: Path) -> bytes:
    subprocess.run(["dvc", "repro", "--quiet"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    lock = (root / "dvc.lock").read_bytes()
    subprocess.run(["rm", "-rf", str(root)], check=True)
    return lock


def _once(root: Path, number: int, a: argparse.Namespace, wanted: bytes) -> bool:
    made_dag.make(root, 0.2, a.megabytes)
    began = time.monotonic()
    done = subprocess.run(
        [*_COMMAND, "--jobs", str(a.jobs)], cwd=root, capture_output=True, text=True
    )
    took = time.monotonic() - began
    logs = "".join(path.read_text() for path in (root / ".seqline" / "logs").rglob("*.log"))
    found = _LOCK_ERROR.search(logs)
    same = (root / "dvc.lock").read_bytes() == wanted
    print(
        f"{number}: status {done.returncode}, {took:.1f} s, dvc.lock {'same' if same else 'OTHER'}",
        end="",
    )
    print(f", {found[0]}" if found else "", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr)
    subprocess.run(["rm", "-rf", str(root)], check=True)
    return done.returncode == 0 and same and found is None


if __name__ == "__main__":
    main()
