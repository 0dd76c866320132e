"""A project whose DAG has run, and the trainings, followers and servers of MLflow's tests."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import default_params
import pyarrow as pa
import pytest
import yaml
from conftest import ROOT
from mlflow import MlflowClient
from waiting import HANG_SECONDS

from pipeline.core import tables
from pipeline.serving import mlflow_ui, server_process
from pipeline.tracking import mlflow_store

TOP = Path(__file__).parents[2]
# Beside other tests a follower of the lowest priority may not run for minutes, and would give up
# before it has begun.
# Without a delay it sends also a training of the tests, which are all short, while it runs.
BUSY_MACHINE = {
    "SEQLINE_FOLLOWER_NICE": "0",
    "SEQLINE_FOLLOWER_SECONDS": "600",
    "SEQLINE_FOLLOWER_DELAY": "0",
}
TRAINING = """
import sys, time
from pathlib import Path
from pipeline import tracking
root, run, digest = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
steps, pause, start = int(sys.argv[4]), float(sys.argv[5]), 0
if len(sys.argv) > 6: start = int(sys.argv[6])
work = root / ".seqline" / "training" / run
work.mkdir(parents=True, exist_ok=True)
began = time.monotonic()
with tracking.live(run=run, digest=digest, work=work, root=root, tags={"device": "cpu"}) as log:
    for step in range(start + 1, steps + 1):
        log({"train/loss": 1.0 / step, "learning_rate": 0.5}, step)
        if step == start + 1: print("begun", flush=True)
        time.sleep(pause)
print(time.monotonic() - began, flush=True)
"""


def run_block(setting: str = "lstm", seed: int = 1) -> dict[str, Any]:
    """The block of a run as the train stage gets it, with the keys of its setting."""
    return {
        "setting": setting,
        "family": "recurrent_lm",
        "task": "language_model",
        "corpus": "toy",
        "seed": seed,
        "init_from": "scratch",
        "model": {"hidden": 8},
        "objective": {"steps": 32},
        "optim": {"name": "adam"},
        "training": {"max_epochs": 1},
    }


def write_project(root: Path, names: tuple[str, ...] = ("lstm",), steps: int = 40) -> Path:
    """A project whose DAG has run: the files of the documented layout, with a lock that agrees with
    itself."""
    stages: dict[str, Any] = {}
    runs = {}
    for name in names:
        block = run_block(name)
        runs[name] = {**block, "search": {"method": "sampling", "temperature": 0.8}}
        stages |= lock_stages(name, runs[name])
        write_outputs(root, name, block, steps)
    (root / "reports" / "comparison.md").write_text("| run | perplexity |\n", encoding="utf-8")
    evaluation = {"bootstrap": 20, "confidence": 0.95, "seed": 1, "test": True}
    corpora = {"toy": {"text": {"level": "word"}}}
    default_params.write(root, {"evaluation": evaluation, "corpora": corpora, "runs": runs})
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "dvc.lock").write_text(
        yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8"
    )
    return root


def lock_stages(name: str, block: dict[str, Any]) -> dict[str, Any]:
    data = {"path": "data/encoded/toy", "md5": f"{1:032x}.dir"}
    model = {"path": f"data/models/{name}", "md5": f"{2:032x}.dir"}
    code = {"path": "pipeline/models/recurrent_lm.py", "md5": f"{3:032x}"}
    return {
        "tokenize@toy": {"params": {"params.yaml": {"corpora.toy.text": {"level": "word"}}}},
        "encode@toy": {"outs": [data]},
        f"train@{name}": {"deps": [code, data], "outs": [model]},
        f"predict@{name}": {
            "params": {
                "params.yaml": {
                    f"runs.{name}.setting": block["setting"],
                    f"settings.{block['setting']}.search": block["search"],
                }
            }
        },
        f"evaluate@{name}": {"deps": [model]},
    }


def write_outputs(root: Path, name: str, block: dict[str, Any], steps: int) -> None:
    folders = [
        f"data/models/{name}",
        f"data/predictions/{name}",
        "reports/metrics",
        f"reports/plots/{name}",
        "reports/figures",
    ]
    model, predictions, metrics, plots, figures = (root / folder for folder in folders)
    for folder in (model, predictions, metrics, plots, figures):
        folder.mkdir(parents=True, exist_ok=True)
    facts = {"run": block, "digest": digest_of(name), "parameters": 321, "best_step": steps}
    (model / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    rows = [
        {"step": s, "epoch": 0, "name": "train/loss", "value": 1.0 / s} for s in range(1, steps + 1)
    ]
    rows.append({"step": steps, "epoch": 0, "name": "valid/perplexity", "value": 3.5})
    tables.write(model / "history.parquet", pa.Table.from_pylist(rows, tables.HISTORY))
    sample = {
        "row": 0,
        "prompt": "once upon",
        "reference": "a time",
        "text": f"the answer of {name}",
        "log_prob": -1.5,
    }
    tables.write(predictions / "samples.parquet", pa.Table.from_pylist([sample], tables.SAMPLES))
    scores = {
        "run": name,
        "test": {
            "perplexity": {"score": 4.25, "low": 4.0, "high": 4.5},
            "bleu": {"score": 12.5, "signature": "nrefs:1|tok:13a"},
        },
    }
    (metrics / f"{name}.json").write_text(json.dumps(scores), encoding="utf-8")
    (plots / "history.csv").write_text("step,loss\n1,1.0\n", encoding="utf-8")
    (figures / name).mkdir(exist_ok=True)
    (figures / name / "attention_1.png").write_bytes(PNG)


def digest_of(name: str) -> str:
    return f"{sum(name.encode()):064x}"


def png(pixels: list[list[int]]) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    raw = b"".join(b"\0" + bytes(row) for row in pixels)
    head = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


PNG = png([[(x * y) % 256 for x in range(200)] for y in range(200)])


def start_training(
    root: Path, steps: int, pause: float, start: int = 0, run: str = "lstm", **environment: str
) -> Any:
    command = [
        sys.executable,
        "-c",
        TRAINING,
        str(root),
        run,
        digest_of(run),
        str(steps),
        str(pause),
        str(start),
    ]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **BUSY_MACHINE, **environment}
    return subprocess.Popen(command, cwd=TOP, env=settings, stdout=subprocess.PIPE, text=True)


def finish(training: Any) -> float:
    """Wait for the training; how long its loop took, in seconds."""
    said, _ = training.communicate(timeout=HANG_SECONDS)
    assert training.returncode == 0
    return float(said.split()[-1])


def curve(
    client: MlflowClient, root: Path, name: str = "lstm", metric: str = "train/loss"
) -> list[int]:
    found = mlflow_store.find_run(client, task_of(root, name), (name, digest_of(name)))
    return (
        sorted(point.step for point in client.get_metric_history(found.info.run_id, metric))
        if found
        else []
    )


def task_of(root: Path, name: str) -> str:
    return str(yaml.safe_load((root / "params.yaml").read_text())["runs"][name]["task"])


def recorded_runs(client: MlflowClient) -> list[Any]:
    """Every MLflow run: trained runs and the parent runs of their settings."""
    return list(
        client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    )


def all_runs(client: MlflowClient) -> list[Any]:
    """Every trained run."""
    return [run for run in recorded_runs(client) if mlflow_store.RUN in run.data.tags]


def parents(client: MlflowClient) -> list[Any]:
    """The parent runs of settings."""
    return [run for run in recorded_runs(client) if mlflow_store.RUN not in run.data.tags]


def followers(root: Path) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pipeline.tracking.follower" in words and str(root).encode() in words:
            found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty")
    mlflow_store.connect(root)
    return root / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose runs are trained, with a store that knows of none."""
    for variable in ("MLFLOW_TRACKING_URI", "SEQLINE_TRACKING", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in BUSY_MACHINE.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    return write_project(tmp_path)


@pytest.fixture
def stalling() -> Iterator[str]:
    """A server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    kept.append(listening.accept()[0])
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """A real `mlflow server` on loopback over SQLite."""

    def __init__(self, folder: Path, database: Path) -> None:
        folder.mkdir()
        (folder / "mlflow.db").write_bytes(database.read_bytes())
        self.port = unused_port()
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.command, self.store = (
            mlflow_ui.command(folder, self.port),
            f"sqlite:///{folder / 'mlflow.db'}",
        )

    def __enter__(self) -> "Server":
        self.process = server_process.start(
            self.command, self.folder, {"MLFLOW_BACKEND_STORE_URI": self.store}
        )
        server_process.wait_until_up(self.process, self.uri)
        return self

    def __exit__(self, *_: object) -> None:
        server_process.end(self.process)
