"""Train one run of `params.yaml` on its encoded corpus: write weights, config and history.

A training that was killed is resumed."""

import argparse
import dataclasses
import hashlib
import json
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
from pipeline.contracts import Log, Sizes, Spelled
from pipeline.core import atomic, config, locks, params, stage_arguments, state_dir, tables
from pipeline.core.digest import add_file
from pipeline.core.errors import UserError, exit_with, refuse
from pipeline.core.seeding import derive
from pipeline.nn import positional
from pipeline.text import vocab as words_of
from pipeline.text.encode import check_ids, describe
from pipeline.text.specials import SPECIALS
from pipeline.training import (
    checkpoint,
    devices,
    families,
    fitted,
    init_from,
    launcher,
    loop,
    optim,
    parallel,
)

_SHARED_CODE = (
    "pipeline/nn",
    "pipeline/training",
    "pipeline/text",
    "pipeline/contracts.py",
    "pipeline/core",
)


def digest(run: params.Run, inputs: list[Path]) -> str:
    """Digest of all that the weights depend on: the run's blocks, torch, this program's code, and
    the data."""
    top = Path(__file__).parent.parent
    code = [file for path in code_deps(run) for file in _source_files(top / path)]
    data = [file for folder in inputs for file in sorted(folder.rglob("*")) if file.is_file()]

    settings = json.dumps([trained_block(run), torch.__version__], sort_keys=True)
    total = hashlib.sha256(settings.encode())
    for file in code:
        add_file(total, file.relative_to(top).as_posix(), file)
    for file in data:
        add_file(total, file.name, file)
    return total.hexdigest()


def code_deps(run: params.Run) -> list[str]:
    """The files and folders of code that `dvc.yaml` declares as dependencies of the run's train
    stage."""
    return [
        "stages/train.py",
        f"pipeline/models/{run.family}.py",
        f"pipeline/tasks/{run.task}.py",
        *_SHARED_CODE,
    ]


def _source_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def trained_block(run: params.Run) -> dict[str, Any]:
    """The run's block without `search`, which does not affect training."""
    return {key: value for key, value in dataclasses.asdict(run).items() if key != "search"}


def vocabulary_digest(vocab: Path, side: str) -> str:
    """Digest of the ids of one side; equal if one corpus uses the vocabulary of the other."""
    total = hashlib.sha256()
    for file in sorted(vocab.glob(f"{side}.*")):
        add_file(total, file.name, file)
    return total.hexdigest()


def train(
    arguments: argparse.Namespace,
    run: params.Run,
    loop_config: loop.Config | None,
    device: torch.device,
    group: parallel.Group,
    work: Path,
    key: str,
    log: Log,
) -> None:
    """Build the model, train it, and write the outputs.

    `loop_config`: None for a family that is fitted without gradients.

    `work` holds the state to resume from; `key` is the digest of the training. Of several processes
    only the first one writes.
    """
    where = f"runs.{arguments.run}"
    setting = f"settings.{run.setting}"
    devices.reuse_freed_memory()
    devices.prepare(fitted.THREADS if loop_config is None else loop_config.threads)

    # Data
    task_module = config.named_module("pipeline.tasks", run.task, f"{where}.task")
    paths = [arguments.encoded / f"{split}.parquet" for split in ("train", "valid")]
    splits = [
        tables.mapped(path, task_module.SCHEMA, work / f"{path.stem}.arrow") for path in paths
    ]
    vocab = describe(arguments.vocab)
    for path, table in zip(paths, splits, strict=True):
        check_ids(table, vocab.sizes, path)
    objective = None
    if run.objective is not None:
        objective = config.load_objective(task_module, run.objective, f"{setting}.objective")

    # Model
    source, target = task_module.SOURCE_TARGET
    # A corpus without text has no words, and no vocabulary of that name.
    sizes = Sizes(
        vocab.sizes.get(source, 0), vocab.sizes.get(target, 0), vocab.share or source == target
    )
    vocabularies = (
        vocabulary_digest(arguments.vocab, source),
        vocabulary_digest(arguments.vocab, target),
    )
    component = init_from.load_component(run, arguments.init_from, vocabularies, where)
    torch.manual_seed(derive(run.seed, "init"))
    model = checkpoint.build(run.family, run.model, sizes, f"{setting}.model", component)
    if objective is not None:
        families.refuse_other_objective(task_module, type(model), objective, f"{setting}.objective")
    if isinstance(model, Spelled):
        words = words_of.load(arguments.vocab / f"{source}.parquet", sizes.source, SPECIALS)
        model.read_words(words.to_pylist())
    if component is None:
        init_from.init_weights(model, run, arguments.init_from, vocabularies, where)
    loaded = dict(zip(paths, splits, strict=True))
    refuse_long_rows(model, task_module, objective, arguments.encoded, loaded, run.search or {})
    model.to(device)

    # Training
    seed = derive(run.seed, "data")
    build_task = getattr(task_module, "build", None) or task_module.Task
    task = None if objective is None else build_task(*splits, objective, seed, device)
    if loop_config is None:
        train_table, valid_table = splits
        validate = None if task is None else task.validate
        progress = fitted.fit(model, train_table, valid_table, seed, log, validate)
    else:
        assert task is not None
        trainer = loop.Loop(
            model,
            task,
            optim.load(run.optim, f"{setting}.optim"),
            loop_config,
            seed=derive(run.seed, "dropout"),
            work=work,
            log=log,
            group=group,
        )
        progress = run_loop(trainer, arguments.run)
    if not group.is_first:
        return

    metadata = {
        "run": trained_block(run),
        "sizes": dataclasses.asdict(sizes),
        "vocabularies": vocabularies,
        "parameters": checkpoint.parameter_count(model),
        "steps": progress.step,
        "best_step": progress.best_step,
        "digest": key,
    }
    if component is not None:
        metadata["component"] = checkpoint.component_blocks(arguments.init_from)
    with atomic.atomic_dir(arguments.out) as folder:
        checkpoint.write_model(folder, model, metadata)
        columns = list(zip(*progress.history, strict=True)) or [(), (), (), ()]
        history = dict(zip(tables.HISTORY.names, columns, strict=True))
        tables.write(folder / "history.parquet", pa.table(history, schema=tables.HISTORY))


def run_loop(trainer: loop.Loop, name: str) -> loop.Progress:
    """Train the run `name` with a progress bar, if stderr is a terminal."""
    is_first_process = trainer.group.is_first
    is_first_step = True
    has_bar = is_first_process and sys.stderr.isatty()
    with tqdm(desc=name, unit="step", dynamic_ncols=True, disable=not has_bar) as bar:

        def on_step(progress: loop.Progress, steps_per_epoch: int) -> None:
            nonlocal is_first_step
            if is_first_step and progress.step > 1 and is_first_process:
                print(f"{name}: resuming from step {progress.step - 1}", flush=True)
            is_first_step = False
            bar.total = steps_per_epoch * trainer.config.max_epochs
            bar.update(progress.step - bar.n)

        return trainer.run(on_step)


def refuse_long_rows(
    model: nn.Module,
    task: ModuleType,
    objective: Any,
    encoded: Path,
    loaded: Mapping[Path, pa.Table],
    search: dict[str, Any],
) -> None:
    """UserError if a split has a row longer than the model's learned positions.

    Without this check, only predict would fail. `loaded`: tables of `encoded` that are in memory
    already. Only tasks that read each row in one piece define `positions`. A model that defines
    `EXTRA_POSITIONS` reads that many more before each row, and no padding.
    """
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

    max_length = search.get("max_length")
    if isinstance(max_length, int):
        positional.refuse_longer(min(learned), max_length, "an answer of search.max_length")


def log_with_throughput(name: str, log: Log) -> Log:
    """A log that adds steps per second, and prints the metrics at the end of an epoch.

    The throughput is no part of the history, which is the same for every training of the run.
    """
    last_step: int | None = None
    last_time = 0.0

    def log_and_print(metrics: dict[str, float], step: int) -> None:
        nonlocal last_step, last_time
        now = time.monotonic()
        speed = {}
        if last_step is not None and step > last_step:
            speed = {"steps_per_second": (step - last_step) / (now - last_time)}
        last_step = step
        last_time = now

        log(metrics | speed, step)
        if any(key.startswith("valid/") for key in metrics):
            values = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
            print(f"{name} step {step}: {values}", flush=True)

    return log_and_print


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--params", "--encoded", "--vocab", "--init-from", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--work", type=Path, default=state_dir.TRAINING)
    arguments = stage_arguments.parse(parser, "runs")
    name = arguments.run

    # Check what is cheap before other processes start; `train` checks the rest.
    run = params.run(arguments.params, name)
    loop_config = fitted.training_config(run, f"settings.{run.setting}")
    families.refuse_other_task(run, f"runs.{name}")
    compute = params.compute(arguments.params)

    # The launcher starts this command again, in each of its processes.
    accumulate = 1 if loop_config is None else loop_config.accumulate
    count = parallel.process_count(compute.processes, accumulate)
    if count > 1 and not launcher.is_launched():
        sys.exit(launcher.launch(count, "stages.train", arguments.work))

    try:
        train_in_group(arguments, run, loop_config, compute)
    except parallel.PeerLost as error:
        # Without our launcher nobody else reports the error.
        if launcher.private_folder() is None:
            raise
        launcher.save_error(error, launcher.PEER_LOST)
        sys.exit(launcher.PEER_LOST)


def train_in_group(
    arguments: argparse.Namespace,
    run: params.Run,
    loop_config: loop.Config | None,
    compute: params.Compute,
) -> None:
    """Train as one of a group of processes; the group may have only this one."""
    accumulate = 1 if loop_config is None else loop_config.accumulate
    group, device_name = parallel.join(compute.device, accumulate)
    device = devices.choose(device_name, "compute.device")
    precision = "float32" if loop_config is None else loop_config.precision
    if precision == "bfloat16" and (reason := devices.bfloat16_warning(device)):
        print(
            f"seqline: settings.{run.setting}.training.precision: bfloat16 is several times slower "
            f"than float32 here: {reason}.",
            file=sys.stderr,
        )
    key = digest(run, [arguments.encoded, arguments.vocab, arguments.init_from])
    work = arguments.work / f"{arguments.run}-{key[:16]}"
    try:
        if not group.all_equal(key):
            raise refuse(
                "torchrun",
                "processes with other code, data or settings than the first one's",
                "the same",
                "Update every node's clone and data: git pull, dvc pull.",
            )
        if group.is_first:
            train_first(arguments, run, loop_config, device, group, work, key)
        else:
            rank_work = work.with_name(f"{work.name}-{group.rank}")
            train(
                arguments,
                run,
                loop_config,
                device,
                group,
                rank_work,
                key,
                log=lambda metrics, step: None,
            )
            shutil.rmtree(rank_work)
    except parallel.PeerLost:
        raise
    except UserError as error:
        launcher.save_error(error, 2)
        if group.is_first:
            raise
        sys.exit(2)  # all read the same settings, and the first process prints the error
    except KeyboardInterrupt:
        if group.is_first:
            raise
        sys.exit(130)
    finally:
        parallel.leave()


def train_first(
    arguments: argparse.Namespace,
    run: params.Run,
    loop_config: loop.Config | None,
    device: torch.device,
    group: parallel.Group,
    work: Path,
    key: str,
) -> None:
    """Run the first process: train under a lock, report to MLflow, and remove the work folder."""
    work.mkdir(parents=True, exist_ok=True)
    atomic.remove_folders(work / "lock")
    with locks.file_lock(work / "lock"):
        with tracking.live(
            run=arguments.run,
            digest=key,
            work=work,
            root=Path("."),
            params=dataclasses.asdict(run),
            tags={"device": str(device), "processes": str(group.size), "torch": torch.__version__},
        ) as log:
            log = log_with_throughput(arguments.run, log)
            train(arguments, run, loop_config, device, group, work, key, log)
        shutil.rmtree(work)


if __name__ == "__main__":
    exit_with(main)
