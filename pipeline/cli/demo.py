"""`seqline demo`: a page on loopback that asks trained runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.arguments import add_server

if TYPE_CHECKING:
    from pipeline.runs.table import RunRow
    from pipeline.serving.demo import DemoRun, Panel

HELP = "serve a page that asks the trained runs, several families side by side, until Ctrl-C"
_MOST_EXAMPLES = 4
_SHORT = 3  # letters of a word, such as "the", whose neighbours say little


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    add_server(parser, 5002)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from pipeline.serving import demo

    demo.serve(panels(root), arguments.port, arguments.allow_host)


def panels(root: Path) -> "list[Panel]":
    """A panel for each command and corpus with trained runs; of a setting its best run. UserError
    if nothing is trained."""
    from pipeline.core import config
    from pipeline.core.errors import refuse
    from pipeline.runs import table
    from pipeline.scoring import tasks
    from pipeline.serving.demo import Panel
    from pipeline.serving.demo_answers import COMMANDS

    groups: dict[tuple[str, str], list[RunRow]] = {}
    for row in table.rows(root):
        command = tasks.interface(row.task).command
        if row.trained and command in COMMANDS:
            groups.setdefault((command, row.corpus), []).append(row)

    order = list(COMMANDS)
    offered = []
    for command, corpus in sorted(groups, key=lambda key: (order.index(key[0]), key[1])):
        rows = groups[command, corpus]
        runs = _runs(root, rows)
        if runs:
            kind = config.named_module("pipeline.tasks", runs[0].task, "task").KIND
            examples = _examples(root, command, corpus, runs[0].task)
            offered.append(Panel(command, corpus, examples, kind == "labelled_pair", runs))
    if not offered:
        expected = "a trained run that the page can ask, and there is none"
        raise refuse("demo", "none", expected, "Run `make repro`, or `dvc repro`.")
    return offered


def _runs(root: Path, rows: "list[RunRow]") -> "tuple[DemoRun, ...]":
    """The best run of each setting on validation data, if it reads text; the best setting first."""
    from pipeline.cli import chosen_run
    from pipeline.predictor import vocabulary
    from pipeline.runs import trained
    from pipeline.serving.demo import DemoRun

    by_setting: dict[str, list[RunRow]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, []).append(row)
    best = []
    why: dict[str, str] = {}
    for seeds in by_setting.values():
        names = [row.run for row in seeds]
        name = chosen_run.best_run(root, names)
        best.append(next(row for row in seeds if row.run == name))
        if len(names) > 1:
            group = f"{len(names)} seeds"
            why[name] = chosen_run.how_chosen(root, seeds[0].task, names, group)

    runs = []
    for row in sorted(best, key=_rank):
        files = trained.by_name(root, row.run, "--run").files
        if vocabulary(row.task, files.vocab) is None:
            continue
        score = ""
        if row.score is not None:
            title, percent, _ = row.metric.partition(", %")
            unit = " %" if percent else ""
            score = f"{title} {row.score:.{row.decimals}f}{unit} ({row.split})"
        name = f"{row.run}, {why[row.run]}" if row.run in why else row.run
        runs.append(DemoRun(row.run, name, row.setting, row.family, score, row.task, files))
    return tuple(runs)


def _rank(row: "RunRow") -> float:
    if row.score is None:
        return float("inf")
    return -row.score if row.higher_is_better else row.score


def _examples(root: Path, command: str, corpus: str, task: str) -> tuple[str, ...]:
    """The corpus's samples that fit the command, else the task's example."""
    from pipeline.core import config
    from pipeline.scoring import tasks
    from pipeline.text.blanks import BLANK

    block = config.blocks(root / "params.yaml", "corpora")[corpus]
    prompts = [str(sample["prompt"]) for sample in block["samples"]]
    fitting = [text for text in prompts if (BLANK in text) == (command == "fill")]
    if command == "neighbours":
        fitting = list(dict.fromkeys(word for text in fitting for word in text.split()))
        fitting = [word for word in fitting if len(word) > _SHORT]
    return tuple(fitting[:_MOST_EXAMPLES]) or (tasks.interface(task).example,)
