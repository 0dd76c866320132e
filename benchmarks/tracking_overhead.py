"""Cost of tracking for a training: the same loop with it off, on the project's own store, a dead
and a stalling server.

    python -m benchmarks.tracking_overhead [--rounds 5] [--steps 4000] [--threads 1]

Every round times each case once in its own process, in a rotated order, and takes the ratio to that
round's `off`. The time is that of the whole training with the start and end of its tracking,
without imports. `cpu` is the training process's own work, `wall` the elapsed time; on a busy
machine only the first means much."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pipeline.tracking import mlflow_store

TOP = Path(__file__).parents[1]
CASES = ("off", "sqlite", "dead", "stalling")


def train(root: Path, steps: int, threads: int) -> dict[str, float]:
    """Run the loop of a small training: a few matrix products each way, and metrics at every tenth
    step."""
    import torch

    from pipeline import tracking

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    layers = [torch.randn(256, 256, requires_grad=True) for _ in range(4)]
    rows = torch.randn(512, 256)
    optimizer = torch.optim.Adam(layers, lr=0.001)
    work = root / "work"
    work.mkdir()

    wall = time.perf_counter()
    cpu = time.process_time()
    params = {"task": "benchmark", "family": "none", "corpus": "none"}
    with tracking.live(
        run="loop", digest=os.urandom(8).hex(), params=params, work=work, root=root
    ) as log:
        for step in range(1, steps + 1):
            hidden = rows
            for layer in layers:
                hidden = torch.tanh(hidden @ layer * 0.06)
            loss = hidden.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 10 == 0:
                log({"train/loss": float(loss), "learning_rate": 0.001, "gradient_norm": 1.0}, step)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def measure(case: str, stalling: str, steps: int, threads: int) -> dict[str, float]:
    """Measure one training in its own process and project.

    The store exists before, as it does from a project's second run on."""
    settings = {
        key: value
        for key, value in os.environ.items()
        if key not in ("MLFLOW_TRACKING_URI", "SEQLINE_TRACKING")
    }
    settings |= {"off": {"SEQLINE_TRACKING": "off"}, "sqlite": {}}.get(
        case, {"MLFLOW_TRACKING_URI": stalling}
    )
    settings["SEQLINE_FOLLOWER_DELAY"] = "0"  # its work begins with the training
    if case == "dead":
        settings["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if case == "sqlite":
            mlflow_store.connect(Path(folder))
        command = [sys.executable, "-m", "benchmarks.tracking_overhead", "--train", folder]
        command += ["--steps", str(steps), "--threads", str(threads)]
        process = subprocess.run(
            command, cwd=TOP, env=settings, capture_output=True, text=True, check=True
        )
        time.sleep(2)  # for the follower to end
    return dict(json.loads(process.stdout))


def serve_silence() -> str:
    """Start a server that accepts every connection and never responds; return its address."""
    server = socket.create_server(("127.0.0.1", 0))
    # References keep the connections open.
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            connections.append(server.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.train:
        print(json.dumps(train(a.train, a.steps, a.threads)))
        return

    stalling = serve_silence()
    ratios: dict[str, dict[str, list[float]]] = {case: {"wall": [], "cpu": []} for case in CASES}
    seconds = []
    for number in range(a.rounds):
        order = CASES[number % len(CASES) :] + CASES[: number % len(CASES)]
        times = {case: measure(case, stalling, a.steps, a.threads) for case in order}
        seconds.append(times["off"]["wall"])
        for case in CASES:
            for clock in ("wall", "cpu"):
                ratios[case][clock].append(times[case][clock] / times["off"][clock])

    off = statistics.median(seconds)
    print(
        f"{a.rounds} rounds of {off:.1f} s with tracking off, {a.threads} thread(s), "
        f"{os.cpu_count()} cores"
    )
    for case in CASES[1:]:
        for clock, values in ratios[case].items():
            low, middle, high = min(values), statistics.median(values), max(values)
            print(
                f"{case:9} {clock:4} ratio to off: min {low:.4f}  median {middle:.4f}  max "
                f"{high:.4f}"
            )


if __name__ == "__main__":
    main()
