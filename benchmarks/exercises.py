"""Cost of a training step of each setting of the preset `exercises`, relative to the first.

    seqline use exercises && dvc repro encode && python -m benchmarks.exercises [--rounds 7]
    [--steps 20]

Every model takes the same batches of `toy_en_fr`, of 500 target tokens whatever its run's batch
size. Rounds alternate between the models, so that a busy machine affects all. Prints the median of
the rounds with the smallest and the largest. One thread."""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.rounds import median_ms, ratio_summary, time_alternating
from pipeline.contracts import Sizes
from pipeline.core import config, params, tables
from pipeline.core.seeding import derive
from pipeline.tasks import translation
from pipeline.training import checkpoint, devices


def make_update(root: Path, name: str, batches: int) -> Callable[[int], None]:
    """Return a function that updates the run's model on the batch of a number."""
    run = params.run(root / "params.yaml", name)
    vocab = json.loads((root / f"data/vocab/{run.corpus}/vocab.json").read_text(encoding="utf-8"))
    encoded = [
        tables.read(root / f"data/encoded/{run.corpus}/{split}.parquet", translation.SCHEMA)
        for split in ("train", "valid")
    ]
    objective = config.load(
        translation.Config,
        run.objective | {"batch_tokens": 500},
        f"settings.{run.setting}.objective",
    )
    task = translation.Task(*encoded, objective, derive(1, "data"), torch.device("cpu"))
    plan = task.plan(0)[:batches]
    torch.manual_seed(1)
    sizes = Sizes(vocab["sizes"]["source"], vocab["sizes"]["target"], vocab["share"])
    where = f"settings.{run.setting}.model"
    model = checkpoint.build(run.family, run.model, sizes, where).train()
    adam = torch.optim.Adam(model.parameters(), lr=0.0001)

    def update(number: int) -> None:
        adam.zero_grad()
        loss, _ = task.loss(model, task.batch(plan[number % batches]), None)
        (loss.total / loss.tokens).backward()
        adam.step()

    return update


def step_seconds(update: Callable[[int], None], steps: int) -> float:
    """Seconds of an update, the mean over `steps`."""
    start = time.perf_counter()
    for step in range(steps):
        update(step)
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    a = parser.parse_args()

    devices.prepare(1)
    # A step costs the same with each seed of a setting.
    first_run: dict[str, str] = {}
    for name, block in config.section(a.root / "params.yaml", "runs").items():
        first_run.setdefault(block["setting"], name)
    names = list(first_run)
    updates = {setting: make_update(a.root, name, a.steps) for setting, name in first_run.items()}
    seconds = time_alternating(
        {name: partial(step_seconds, update, a.steps) for name, update in updates.items()}, a.rounds
    )
    for name, values in seconds.items():
        print(
            f"{name}: {median_ms(values):.1f} ms a step, "
            f"{ratio_summary(values, seconds[names[0]])} of {names[0]}'s"
        )


if __name__ == "__main__":
    main()
