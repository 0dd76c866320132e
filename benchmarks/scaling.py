"""What more workers, and more processes, gain: one against two in pairs, on the same data, one
after the other.

    python -m benchmarks.scaling [--params params.yaml] [--corpus toy_en_fr] [--rows 400000] [--run
    attention] [--rounds 3]

Data: tokenize and encode as DVC runs them, with `compute.workers` 1 and then N. Training: one epoch
of the run on a smaller corpus (`--train-rows`) with `training.accumulate` N and `compute.processes`
1 and then N, one thread each. Rows count for built-in corpora alone; a real one (`--params
presets/d2l.yaml --corpus fra_eng`) is taken whole. Every round does both in turn and gives their
ratio, starts of processes included; the outputs are compared, too: bytes of tables, losses to 0.02
%."""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.core import tables

TOP = Path(__file__).parents[1]


def stage(root: Path, name: str, *arguments: str) -> float:
    """Seconds that a stage takes in the project `root`."""
    inside = os.environ | {
        "PYTHONPATH": str(TOP),
        "SEQLINE_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
    }
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", f"stages.{name}", *arguments],
        cwd=root,
        env=inside,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def write(root: Path, content: dict[str, Any], **compute: int) -> None:
    """params.yaml of the project `root` with these keys of `compute`."""
    content = content | {"compute": content["compute"] | {"device": "cpu"} | compute}
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def tokenize(root: Path, corpus: str, out: str) -> float:
    """Seconds of the stage."""
    paths = ["--raw", "raw", "--out", f"{out}/tokens", "--metrics", f"{out}/metrics.json"]
    return stage(root, "tokenize", corpus, "--params", "params.yaml", *paths)


def encode(root: Path, out: str) -> float:
    """Seconds of the stage."""
    return stage(
        root,
        "encode",
        "--params",
        "params.yaml",
        "--tokens",
        f"{out}/tokens",
        "--vocab",
        "vocab",
        "--out",
        f"{out}/encoded",
    )


def vocab(root: Path, corpus: str, tokens: str) -> float:
    """Seconds of the stage."""
    paths = ["--tokens", tokens, "--words", tokens, "--out", "vocab"]
    return stage(root, "vocab", corpus, "--params", "params.yaml", *paths)


def train(root: Path, run: str, out: str) -> float:
    """Seconds of the stage."""
    paths = ["--encoded", "1/encoded", "--vocab", "vocab", "--start", "scratch", "--out", out]
    return stage(root, "train", run, "--params", "params.yaml", *paths)


def digest(folder: Path) -> str:
    """The content of a folder's files."""
    total = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def reduced_params(params: Path, corpus: str, run: str, rows: int) -> dict[str, Any]:
    """The params with one corpus, of `rows` training rows if it is a built-in one, and one run of
    one epoch on it."""
    content: dict[str, Any] = yaml.safe_load(params.read_text(encoding="utf-8"))
    block = content["corpora"][corpus] | {"limit": None}
    if "builtin" in block["source"]:
        block["source"]["builtin"]["sizes"]["train"] = rows
    own = content["runs"][run] | {"corpus": corpus, "start": "scratch"}
    own["training"] |= {"max_epochs": 1, "threads": 1, "average": None}
    return content | {"corpora": {corpus: block}, "runs": {run: own}}


def compare_data(
    root: Path, content: dict[str, Any], corpus: str, workers: int, rounds: int
) -> list[dict[str, float]]:
    """Each round's seconds of one worker by those of `workers`, stage by stage."""
    write(root, content, workers=1)
    stage(root, "download", corpus, "--params", "params.yaml", "--out", "raw")
    found = []
    for number in range(rounds):
        seconds: dict[int, dict[str, float]] = {}
        for count in (1, workers) if number % 2 == 0 else (workers, 1):
            write(root, content, workers=count)
            tokenizing = tokenize(root, corpus, str(count))
            if not (root / "vocab").exists():
                vocab(root, corpus, f"{count}/tokens")
            encoding = encode(root, str(count))
            seconds[count] = {
                "tokenize": tokenizing,
                "encode": encoding,
                "both": tokenizing + encoding,
            }
            print(
                f"  {count} worker(s): tokenize {tokenizing:.1f} s, encode {encoding:.1f} s",
                flush=True,
            )
        assert digest(root / "1") == digest(root / str(workers)), "the outputs differ"
        found.append({name: seconds[1][name] / seconds[workers][name] for name in seconds[1]})
    return found


def compare_training(
    root: Path, content: dict[str, Any], corpus: str, run: str, processes: int, rounds: int
) -> list[float]:
    """Each round's seconds of one process by those of `processes`."""
    content["runs"][run]["training"]["accumulate"] = processes
    write(root, content, workers=1)
    stage(root, "download", corpus, "--params", "params.yaml", "--out", "raw")
    tokenize(root, corpus, "1")
    vocab(root, corpus, "1/tokens")
    encode(root, "1")
    stage(root, "scratch", "--out", "scratch")
    found = []
    for number in range(rounds):
        seconds = {}
        for count in (1, processes) if number % 2 == 0 else (processes, 1):
            write(root, content, processes=count)
            seconds[count] = train(root, run, f"model_{count}")
            print(f"  {count} process(es): train {seconds[count]:.1f} s", flush=True)
        one, several = (
            tables.read(root / f"model_{count}/history.parquet", tables.HISTORY)["value"].to_numpy()
            for count in (1, processes)
        )
        np.testing.assert_allclose(several, one, rtol=2e-4)
        found.append(seconds[1] / seconds[processes])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=TOP / "params.yaml")
    parser.add_argument("--corpus", default="toy_en_fr")
    parser.add_argument("--run", default="attention")
    for option, value in (("rows", 400_000), ("train-rows", 20_000), ("count", 2), ("rounds", 3)):
        parser.add_argument(f"--{option}", type=int, default=value)
    a = parser.parse_args()
    print(f"{a.corpus}, 1 against {a.count}, {a.rounds} rounds, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as training:
        content = reduced_params(a.params, a.corpus, a.run, a.rows)
        ratios = compare_data(Path(data), content, a.corpus, a.count, a.rounds)
        content = reduced_params(a.params, a.corpus, a.run, a.train_rows)
        trained = compare_training(Path(training), content, a.corpus, a.run, a.count, a.rounds)
    for name, found in [
        *((name, [one[name] for one in ratios]) for name in ratios[0]),
        ("train", trained),
    ]:
        print(
            f"{name:8} times faster: min {min(found):.2f}  median "
            f"{statistics.median(found):.2f}  max {max(found):.2f}"
        )


if __name__ == "__main__":
    main()
