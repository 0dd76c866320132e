"""Train one run of `params.yaml` on its encoded corpus: weights, config and history, resumed if it
was killed before."""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import torch
from torch import nn
from tqdm import tqdm

from pipeline import tracking
from pipeline.contracts import Log, Sizes
from pipeline.core import atomic, config, params, stage_arguments, tables
from pipeline.core.errors import UserError, exit_with, refuse
from pipeline.core.seeding import derive
from pipeline.nn import positional
from pipeline.text.encode import check_ids, describe
from pipeline.training import checkpoint, devices, launcher, loop, optim, parallel, start


def digest(run: params.Run, inputs: list[Path]) -> str:
    """Digest of all that the weights are a function of: the run's blocks, torch, this program's
    code, and the data."""
    top = Path(__file__).parent.parent
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    code = {Path(file) for file in found if file}
    ours = {f for f in code for part in ("pipeline", "stages") if f.is_relative_to(top / part)}
    # a view: it changes no weight
    ours -= {f for f in ours if "tracking" in f.relative_to(top).parts[1]}
    files = sorted(ours) + [
        f for folder in inputs for f in sorted(folder.rglob("*")) if f.is_file()
    ]
    total = hashlib.sha256(
        json.dumps([trained_block(run), torch.__version__], sort_keys=True).encode()
    )
    for file in files:
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def trained_block(run: params.Run) -> dict[str, Any]:
    """The run's block without `search`, which comes after training."""
    return {key: value for key, value in dataclasses.asdict(run).items() if key != "search"}


def vocabulary_digest(vocab: Path, side: str) -> str:
    """Digest of the ids of one side: equal for two corpora of which one takes the other's
    vocabulary."""
    total = hashlib.sha256()
    for file in sorted(vocab.glob(f"{side}.*")):
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def history_table(history: list[tuple[int, int, str, float]]) -> pa.Table:
    """The loop's history as a table in the schema HISTORY."""
    columns = list(zip(*history, strict=True)) or [(), (), (), ()]
    return pa.table(dict(zip(tables.HISTORY.names, columns, strict=True)), schema=tables.HISTORY)


def train(
    a: argparse.Namespace,
    run: params.Run,
    loop_config: loop.Config,
    device: torch.device,
    group: parallel.Group,
    work: Path,
    key: str,
    log: Log,
) -> None:
    """Build, train and land; `work` holds the state to resume from. Of several processes the first
    one lands."""
    name, where = a.run, f"runs.{a.run}"
    devices.prepare(loop_config.threads)
    task_module = config.named_module("pipeline.tasks", run.task, f"{where}.task")
    paths = [a.encoded / f"{split}.parquet" for split in ("train", "valid")]
    splits = [
        tables.mapped(path, task_module.SCHEMA, work / f"{path.stem}.arrow") for path in paths
    ]
    vocab = describe(a.vocab)
    for path, table in zip(paths, splits, strict=True):
        check_ids(table, vocab.sizes, path)
    objective = config.load(task_module.Config, run.objective, f"{where}.objective")
    task = task_module.Task(*splits, objective, derive(run.seed, "data"), device)
    source, target = task_module.SOURCE_TARGET
    sizes = Sizes(vocab.sizes[source], vocab.sizes[target], vocab.share or source == target)
    torch.manual_seed(derive(run.seed, "init"))
    model = checkpoint.build(run.family, run.model, sizes, f"{where}.model")
    vocabularies = vocabulary_digest(a.vocab, source), vocabulary_digest(a.vocab, target)
    start.init_weights(model, run, a.start, vocabularies, where)
    refuse_long_rows(
        model,
        task_module,
        objective,
        a.encoded,
        dict(zip(paths, splits, strict=True)),
        run.search or {},
    )
    model.to(device)
    optim_config = optim.load(run.optim, f"{where}.optim")
    seed = derive(run.seed, "dropout")
    trainer = loop.Loop(
        model, task, optim_config, loop_config, seed=seed, work=work, log=log, group=group
    )
    quiet, begun = not (group.is_first and sys.stderr.isatty()), False
    with tqdm(desc=name, unit="step", dynamic_ncols=True, disable=quiet) as bar:

        def tick(p: loop.Progress, steps: int) -> None:
            nonlocal begun
            if not begun and p.step > 1 and group.is_first:
                print(f"{name}: goes on after step {p.step - 1}", flush=True)
            begun = True
            bar.total = steps * loop_config.max_epochs
            bar.update(p.step - bar.n)

        done = trainer.run(tick)
    if not group.is_first:
        return
    parameters = sum(p.numel() for p in model.parameters())
    facts = {
        "run": trained_block(run),
        "sizes": dataclasses.asdict(sizes),
        "vocabularies": vocabularies,
        "parameters": parameters,
        "steps": done.step,
        "best_step": done.best_step,
        "digest": key,
    }
    with atomic.atomic_dir(a.out) as folder:
        checkpoint.write_model(folder, model, facts)
        tables.write(folder / "history.parquet", history_table(done.history))


def refuse_long_rows(
    model: nn.Module,
    task: ModuleType,
    objective: Any,
    encoded: Path,
    loaded: Mapping[Path, pa.Table],
    search: dict[str, Any],
) -> None:
    """UserError if a split has a row longer than the model's learned positions; without this, only
    predict would find it.

    `loaded`: tables of `encoded` that need not be read again. Only tasks that read each row in one
    piece define `positions`. A model that defines `EXTRA_POSITIONS` reads that many more before
    each row, and no padding."""
    learned = [
        part.table.num_embeddings
        for part in model.modules()
        if isinstance(part, positional.Learned)
    ]
    if not learned or not hasattr(task, "positions"):
        return
    extra = getattr(sys.modules[type(model).__module__], "EXTRA_POSITIONS", None)
    for path in sorted(encoded.glob("*.parquet")):
        table = loaded[path] if path in loaded else tables.read(path, task.SCHEMA)
        length = task.positions(table, objective, path.stem == "train", extra is None)
        positional.refuse_longer(
            min(learned), length + (extra or 0), f"a text of the split {path.stem}"
        )
    answer = search.get("max_length")
    if isinstance(answer, int):
        positional.refuse_longer(min(learned), answer, "an answer of search.max_length")


def announced(name: str, log: Log) -> Log:
    """`log`, told the throughput as well (which has no place in the history), and epochs' ends also
    printed."""
    last: list[tuple[int, float]] = []

    def both(metrics: dict[str, float], step: int) -> None:
        now = time.monotonic()
        speed = (
            {"steps_per_second": (step - last[-1][0]) / (now - last[-1][1])}
            if last and step > last[-1][0]
            else {}
        )
        last[:] = [(step, now)]
        log(metrics | speed, step)
        if any(key.startswith("valid/") for key in metrics):
            print(
                f"{name} step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()),
                flush=True,
            )

    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--params", "--encoded", "--vocab", "--start", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".seqline/training"))
    a = stage_arguments.parse(parser, "runs")
    run = params.run(a.params, a.run)
    loop_config = config.load(loop.Config, run.training, f"runs.{a.run}.training")
    config.named_module("pipeline.models", run.family, f"runs.{a.run}.family")
    config.named_module("pipeline.tasks", run.task, f"runs.{a.run}.task")
    compute = params.compute(a.params)
    count = parallel.process_count(compute.processes, loop_config.accumulate)
    if count > 1 and not launcher.is_launched():
        sys.exit(launcher.launch(count, "stages.train", a.work))
    try:
        work_together(a, run, loop_config, compute)
    except parallel.PeerLost as error:
        if launcher.private_folder() is None:
            raise
        launcher.report_error(error)
        sys.exit(launcher.PEER_LOST)


def work_together(
    a: argparse.Namespace, run: params.Run, loop_config: loop.Config, compute: params.Compute
) -> None:
    """Train as one of a group of processes, which may be this one alone."""
    group, own = parallel.join(compute.device, loop_config.accumulate)
    device = devices.choose(own, "compute.device")
    key = digest(run, [a.encoded, a.vocab, a.start])
    work = a.work / f"{a.run}-{key[:16]}"
    try:
        if not group.all_equal(key):
            todo = "Bring every node's clone and data level: git pull, dvc pull."
            raise refuse(
                "torchrun",
                "processes with other code, data or settings than the first one's",
                "the same",
                todo,
            )
        if group.is_first:
            lead(a, run, loop_config, device, group, work, key)
        else:
            own_work = work.with_name(f"{work.name}-{group.rank}")
            train(a, run, loop_config, device, group, own_work, key, lambda metrics, step: None)
            shutil.rmtree(own_work)
    except parallel.PeerLost:
        raise
    except UserError as error:
        if group.is_first:
            raise
        launcher.report_error(error)
        sys.exit(2)  # all read the same settings, and the first process prints the error
    except KeyboardInterrupt:
        if group.is_first:
            raise
        sys.exit(130)
    finally:
        parallel.leave()


def lead(
    a: argparse.Namespace,
    run: params.Run,
    loop_config: loop.Config,
    device: torch.device,
    group: parallel.Group,
    work: Path,
    key: str,
) -> None:
    """Run the first process: train under a lock, report to MLflow, and remove the work folder."""
    work.mkdir(parents=True, exist_ok=True)
    atomic.remove_folders(work / "lock")
    with atomic.exclusive(work / "lock"):
        tags = {"device": str(device), "processes": str(group.size), "torch": torch.__version__}
        root = Path(os.environ.get("DVC_ROOT", "."))
        block = dataclasses.asdict(run)
        with tracking.live(
            run=a.run, digest=key, work=work, root=root, params=block, tags=tags
        ) as log:
            train(a, run, loop_config, device, group, work, key, announced(a.run, log))
        shutil.rmtree(work)


if __name__ == "__main__":
    exit_with(main)
