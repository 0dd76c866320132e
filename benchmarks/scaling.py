"""Speedup by more workers and more processes: one against N, in pairs on the same data.

    python -m benchmarks.scaling [--params params.yaml] [--corpus toy_en_fr] [--rows 400000] [--run
    attention] [--rounds 3]

Data: tokenize and encode as DVC runs them, with `compute.workers` 1 and then N. Training: one epoch
of the run on a smaller corpus (`--train-rows`) with `training.accumulate` N and `compute.processes`
1 and then N, one thread each. `--rows` applies to built-in corpora only; a real one (`--params
presets/d2l.yaml --corpus fra_eng`) is used whole. Every round does both in turn and prints their
ratio, start of processes included. The outputs are compared too: the bytes of tables, and losses to
0.02 %."""

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
    """Run a stage in the project `root`; return its seconds."""
    env = os.environ | {
        "PYTHONPATH": str(TOP),
        "SEQLINE_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
    }
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", f"stages.{name}", *arguments],
        cwd=root,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def write(root: Path, content: dict[str, Any], **compute: int) -> None:
    """Write params.yaml of the project `root` with these keys of `compute`."""
    content = content | {"compute": content["compute"] | {"device": "cpu"} | compute}
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def tokenize(root: Path, corpus: str, out: str) -> float:
    """Run the stage; return its seconds."""
    paths = ["--raw", "raw", "--out", f"{out}/tokens", "--metrics", f"{out}/metrics.json"]
    return stage(root, "tokenize", corpus, "--params", "params.yaml", *paths)


def encode(root: Path, out: str) -> float:
    """Run the stage; return its seconds."""
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
    """Run the stage; return its seconds."""
    paths = ["--tokens", tokens, "--words", tokens, "--out", "vocab"]
    return stage(root, "vocab", corpus, "--params", "params.yaml", *paths)


def train(root: Path, run: str, out: str) -> float:
    """Run the stage; return its seconds."""
    paths = ["--encoded", "1/encoded", "--vocab", "vocab", "--init-from", "scratch", "--out", out]
    return stage(root, "train", run, "--params", "params.yaml", *paths)


def digest(folder: Path) -> str:
    """Digest of the names and contents of a folder's files."""
    total = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def reduced_params(params: Path, corpus: str, run: str, rows: int) -> dict[str, Any]:
    """Reduce the params to one corpus and one run of one epoch on it.

    A built-in corpus has `rows` training rows."""
    content: dict[str, Any] = yaml.safe_load(params.read_text(encoding="utf-8"))
    block = content["corpora"][corpus] | {"limit": None}
    if "builtin" in block["source"]:
        block["source"]["builtin"]["sizes"]["train"] = rows
    block_of_run = content["runs"][run] | {"corpus": corpus, "init_from": "scratch"}
    setting = block_of_run["setting"]
    block_of_setting = content["settings"][setting]
    block_of_setting["training"] |= {"max_epochs": 1, "threads": 1, "average": None}
    return content | {
        "corpora": {corpus: block},
        "settings": {setting: block_of_setting},
        "runs": {run: block_of_run},
    }


def compare_data(
    root: Path, content: dict[str, Any], corpus: str, workers: int, rounds: int
) -> list[dict[str, float]]:
    """Return each round's speedup by `workers`, by stage."""
    write(root, content, workers=1)
    stage(root, "download", corpus, "--params", "params.yaml", "--out", "raw")
    speedups = []
    for number in range(rounds):
        seconds: dict[int, dict[str, float]] = {}
        # Alternate the order, so that a warm disk cache favours neither.
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
        speedups.append({name: seconds[1][name] / seconds[workers][name] for name in seconds[1]})
    return speedups


def compare_training(
    root: Path, content: dict[str, Any], corpus: str, run: str, processes: int, rounds: int
) -> list[float]:
    """Return each round's speedup by `processes`."""
    [setting] = content["settings"].values()
    setting["training"]["accumulate"] = processes
    write(root, content, workers=1)
    stage(root, "download", corpus, "--params", "params.yaml", "--out", "raw")
    tokenize(root, corpus, "1")
    vocab(root, corpus, "1/tokens")
    encode(root, "1")

    stage(root, "scratch", "--out", "scratch")
    speedups = []
    for number in range(rounds):
        seconds = {}
        for count in (1, processes) if number % 2 == 0 else (processes, 1):
            write(root, content, processes=count)
            seconds[count] = train(root, run, f"model_{count}")
            print(f"  {count} process(es): train {seconds[count]:.1f} s", flush=True)

        # Processes add gradients in another order, so that losses differ in the last digits.
        single, parallel = (
            tables.read(root / f"model_{count}/history.parquet", tables.HISTORY)["value"].to_numpy()
            for count in (1, processes)
        )
        np.testing.assert_allclose(parallel, single, rtol=2e-4)
        speedups.append(seconds[1] / seconds[processes])
    return speedups


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=TOP / "params.yaml")
    parser.add_argument("--corpus", default="toy_en_fr")
    parser.add_argument("--run", default="attention-1")
    for option, value in (("rows", 400_000), ("train-rows", 20_000), ("count", 2), ("rounds", 3)):
        parser.add_argument(f"--{option}", type=int, default=value)
    a = parser.parse_args()
    print(f"{a.corpus}, 1 against {a.count}, {a.rounds} rounds, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        content = reduced_params(a.params, a.corpus, a.run, a.rows)
        rounds = compare_data(Path(folder), content, a.corpus, a.count, a.rounds)
    speedups = {name: [values[name] for values in rounds] for name in rounds[0]}

    with tempfile.TemporaryDirectory() as folder:
        content = reduced_params(a.params, a.corpus, a.run, a.train_rows)
        speedups["train"] = compare_training(
            Path(folder), content, a.corpus, a.run, a.count, a.rounds
        )

    for name, values in speedups.items():
        print(
            f"{name:8} times faster: min {min(values):.2f}  median "
            f"{statistics.median(values):.2f}  max {max(values):.2f}"
        )


if __name__ == "__main__":
    main()
