"""A mistake in params.yaml is one line that names the key, from `seqline check` and from a stage,
and nothing is written."""

import copy
import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fast_yaml
import pytest
import stage_runs
import yaml
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from long_cases import mostly_long

from pipeline.cli import validate_params
from pipeline.core import config, params
from pipeline.core.errors import UserError, exit_with
from pipeline.download.wanted import File

ROOT = Path(__file__).resolve().parents[2]
MISTAKES = [
    (
        "extra",
        {"a": 1},
        (
            "extra: got an unknown section; expected one of compute, evaluation, corpora, shared, "
            "settings, runs."
        ),
    ),
    (
        "evaluation.bootstraps",
        5,
        (
            "evaluation.bootstraps: got an unknown key; expected one of bootstrap, confidence, "
            "seed, test. Did you"
        ),
    ),
    (
        "evaluation.confidence",
        ...,
        "evaluation.confidence: got nothing; expected a number. Add the key.",
    ),
    (
        "evaluation.confidence",
        95,
        "evaluation.confidence: got 95.0; expected a share between 0 and 1, such as 0.95.",
    ),
    ("evaluation.test", ..., "evaluation.test: got nothing; expected true or false. Add the key."),
    ("evaluation.test", 0, "evaluation.test: got 0; expected true or false."),
    ("evaluation.bootstrap", "many", "evaluation.bootstrap: got many; expected a whole number."),
    ("evaluation.bootstrap", True, "evaluation.bootstrap: got True; expected a whole number."),
    (
        "evaluation.confidence",
        float("nan"),
        "evaluation.confidence: got nan; expected a finite number.",
    ),
    (
        "settings.lstm.optim.clip_norm",
        float("inf"),
        "settings.lstm.optim.clip_norm: got inf; expected a finite number.",
    ),
    ("evaluation.bootstrap", 1.5, "evaluation.bootstrap: got 1.5; expected a whole number."),
    (
        "evaluation",
        [1],
        "evaluation: got [1]; expected a section with the keys bootstrap, confidence, seed, test.",
    ),
    ("compute.device", "gpu", "compute.device: got gpu; expected auto, cpu, cuda, cuda:N or mps."),
    ("compute.workers", 0, "compute.workers: got 0; expected at least 1."),
    (
        "compute.cluster",
        "localhost:8786",
        "compute.cluster: got localhost:8786; expected a Dask scheduler's address, ",
    ),
    (
        "compute",
        ...,
        "compute: got nothing; expected one of evaluation, corpora, shared, settings, runs.",
    ),
    ("runs", {}, "runs: got {}; expected a section with at least one block."),
    (
        "runs.Big Model",
        {},
        (
            "runs: got Big Model; expected a name of small letters, digits and _, for a seed with "
            "-NUMBER at its end. Rename the block."
        ),
    ),
    ("runs.lstm-x", {}, "runs: got lstm-x; expected a name of small letters, digits and _, for a "),
    ("settings", {}, "settings: got {}; expected a section with at least one block."),
    ("settings.Big", {}, "settings: got Big; expected a name of small letters, digits and _, "),
    (
        "settings.lstm.optim.learning_rate",
        ".1e3",
        "settings.lstm.optim.learning_rate: got .1e3; expected a number.",
    ),
    (
        "settings.lstm.optim.name",
        "nesterof",
        "settings.lstm.optim.name: got nesterof; expected one of sgd, adagrad, momentum, ",
    ),
    (
        "settings.lstm.optim.name",
        ...,
        "settings.lstm.optim.name: got nothing; expected one of sgd, adagrad, momentum, ",
    ),
    (
        "settings.lstm.optim.name",
        "sgd",
        "settings.lstm.optim.betas: got an unknown key; expected one of learning_rate, ",
    ),
    (
        "settings.lstm.optim.name",
        ["sgd"],
        "settings.lstm.optim.name: got ['sgd']; expected one of sgd, ",
    ),
    (
        "settings.lstm.optim.schedule",
        "cosine",
        (
            "settings.lstm.optim.schedule: got cosine; expected a section whose name is one of "
            "constant, step, cosine, inverse"
        ),
    ),
    (
        "settings.lstm.optim.schedule",
        ...,
        (
            "settings.lstm.optim.schedule: got nothing; expected a section whose name is one of "
            "constant, step, cosine, inverse"
        ),
    ),
    (
        "settings.lstm.optim.schedule.every",
        2,
        "settings.lstm.optim.schedule.every: got an unknown key; expected one of name, ",
    ),
    (
        "settings.lstm.training.average",
        6,
        "settings.lstm.training.average: got 6; expected from 1 to max_epochs, 4, or null.",
    ),
    (
        "runs.lstm-1.family",
        "transformer_lm",
        (
            "runs.lstm-1.family: got transformer_lm; expected recurrent_lm, as runs.lstm-2 of the "
            "same setting lstm. Give one of them another setting."
        ),
    ),
    (
        "runs.lstm-2.task",
        "fill_blank",
        (
            "runs.lstm-1.task: got language_model; expected fill_blank, as runs.lstm-2 of the same "
            "setting lstm. "
        ),
    ),
    (
        "runs.lstm-2.seed",
        1,
        (
            "runs.lstm-1.seed: got 1; expected a seed that runs.lstm-2 of the same setting lstm "
            "does not have. Remove one of them."
        ),
    ),
    ("runs.lstm-1.seed", 0, "runs.lstm-1.seed: got 0; expected at least 1."),
    ("runs.lstm-1.seed", ..., "runs.lstm-1.seed: got nothing; expected a whole number. Add the "),
    (
        "runs.lstm-1.setting",
        "lstn",
        "runs.lstm-1.setting: got lstn; expected one of rnn, gru, lstm, ",
    ),
    ("runs.lstm-1.setting", ..., "runs.lstm-1.setting: got nothing; expected a text. Add the key."),
    (
        "runs.lstm-1.setting",
        ["lstm"],
        "runs.lstm-1.setting: got ['lstm']; expected a text.",
    ),
    (
        "runs.lstm-1.setting",
        "gru",
        (
            "runs.gru-1.seed: got 1; expected a seed that runs.lstm-1 of the same setting gru does "
            "not have. Remove one of them."
        ),
    ),
    (
        "runs.lstm-1.model",
        {"hidden": 8},
        (
            "runs.lstm-1.model: got a key that was moved; expected settings.NAME.model, and "
            "`setting: NAME` in the run. Move the run's model, objective, optim, training, search."
        ),
    ),
    (
        "runs.lstm-1.search",
        None,
        "runs.lstm-1.search: got a key that was moved; expected settings.NAME.search, and ",
    ),
    (
        "runs.lstm-1.hidden",
        8,
        "runs.lstm-1.hidden: got an unknown key; expected one of setting, family, task, corpus, ",
    ),
    ("runs.lstm-1", None, "runs.lstm-1: got "),
    (
        "settings.lstm.seed",
        1,
        "settings.lstm.seed: got an unknown key; expected one of model, objective, optim, ",
    ),
    ("settings.lstm.optim", ..., "settings.lstm.optim: got nothing; expected a "),
    ("settings.lstm", None, "settings.lstm: got "),
    (
        "runs.lstm-1.corpus",
        "toy_novel",
        "runs.lstm-1.corpus: got toy_novel; expected one of toy_story, ",
    ),
    (
        "runs.lstm-1.corpus",
        "toy_en_fr",
        "runs.lstm-1.corpus: got toy_en_fr, which is pair; expected toy_story",
    ),
    (
        "runs.lstm-1.init_from",
        "nothing",
        "runs.lstm-1.init_from: got nothing; expected scratch or one of rnn-1, rnn-2, rnn-3, ",
    ),
    (
        "runs.lstm-1.init_from",
        "lstm-1",
        "runs.lstm-1.init_from: got lstm-1; expected a run that does not begin from this one.",
    ),
    (
        "runs.lstm-1.init_from",
        "lstm",
        "runs.lstm-1.init_from: got lstm; expected scratch or one of rnn-1, rnn-2, rnn-3, ",
    ),
    (
        "runs.lstm-1.init_from",
        "gru-1",
        "settings.lstm.model.cell: got lstm; expected gru, the cell of its initial run gru-1. ",
    ),
    (
        "runs.lstm-1.init_from",
        "attention-1",
        (
            "runs.lstm-1.init_from: got attention-1, which is attention_seq2seq; expected scratch "
            "or rnn-1 or "
        ),
    ),
    (
        "settings.bert_sentiment.model.width",
        64,
        "settings.bert_sentiment.model.width: got 64; expected 48, the width of ",
    ),
    (
        "settings.bert_sentiment.model.heads",
        8,
        "settings.bert_sentiment.model.heads: got 8; expected 4, the heads of ",
    ),
    (
        "runs.bert-1.init_from",
        "lstm-1",
        (
            "runs.bert-1.init_from: got lstm-1, which is recurrent_lm; expected scratch or bert-2 "
            "or bert-3 for bert."
        ),
    ),
    (
        "settings.lstm.model.cell",
        "lsmt",
        "settings.lstm.model.cell: got lsmt; expected one of rnn, relu_rnn, gru, ",
    ),
    (
        "settings.lstm.search.method",
        "beams",
        "settings.lstm.search.method: got beams; expected one of beam, ",
    ),
    (
        "settings.lstm.search.method",
        ...,
        "settings.lstm.search.method: got nothing; expected one of beam, ",
    ),
    (
        "settings.lstm.search.widths",
        3,
        "settings.lstm.search.widths: got an unknown key; expected one of ",
    ),
    (
        "settings.seq2seq.search.penalty.coverage",
        0.2,
        "settings.seq2seq.search.penalty.coverage: got 0.2 with seq2seq, ",
    ),
    (
        "settings.seq2seq.search.penalty.length",
        "wu",
        "settings.seq2seq.search.penalty.length: got wu; expected one of book, gnmt.",
    ),
    (
        "settings.seq2seq.search.constraints.min_length",
        81,
        "settings.seq2seq.search.constraints.min_length: got 81; expected ",
    ),
    (
        "settings.transformer.model.learned_positions",
        16,
        (
            "settings.transformer.search.max_length: got 80; expected at most 16, the run's "
            "model.learned_positions."
        ),
    ),
    (
        "settings.seq2seq.model.variants",
        ["average_heads"],
        "settings.seq2seq.model.variants: got an unknown key; expected one of cell, ",
    ),
    (
        "settings.transformer.model.variants",
        ["rotary_positions", "relative_positions"],
        "settings.transformer.model.variants: got rotary_positions and relative_positions; ",
    ),
    (
        "settings.lstm.model.cell",
        "update_gru",
        "settings.lstm.model.implementation: got fused with cell update_gru; expected equations",
    ),
    (
        "settings.lstm.objective.scheduled_sampling",
        1.0,
        "settings.lstm.objective.scheduled_sampling: got an unknown key; expected one of ",
    ),
    (
        "settings.skip_gram.objective.negatives",
        None,
        "settings.skip_gram.objective.noise_words: got 16 with negatives null; expected ",
    ),
    (
        "settings.lstm.training.threads",
        ...,
        "settings.lstm.training.threads: got nothing; expected a whole number. Add the key.",
    ),
    (
        "settings.transformer.objective.label_smoothing",
        1.0,
        "settings.transformer.objective.label_smoothing: got 1.0; expected a share",
    ),
    (
        "corpora.toy_story.format",
        "toystory",
        "corpora.toy_story.format: got toystory; expected one of ",
    ),
    (
        "corpora.toy_story.limit",
        0,
        "corpora.toy_story.limit: got 0; expected at least 1, or null for all rows.",
    ),
    (
        "corpora.toy_story.split",
        "random",
        "corpora.toy_story.split: got random; expected official, or a section",
    ),
    (
        "corpora.toy_story.text.level",
        "sentence",
        "corpora.toy_story.text.level: got sentence; expected one of ",
    ),
    ("corpora.toy_story.vocab.size", 2, "corpora.toy_story.vocab.size: got 2; expected more than"),
    (
        "corpora.toy_story.source",
        {"magic": 1},
        (
            "corpora.toy_story.source: got magic; expected exactly one of the keys builtin, files, "
            "bundle, path."
        ),
    ),
    (
        "corpora.toy_story.source.builtin.grammar",
        "toy",
        "corpora.toy_story.source.builtin.grammar: got toy; expected one of ",
    ),
]


def folder(root: Path) -> dict[str, bytes]:
    """All files with their contents, git's own excepted."""
    return {
        str(file): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and ".git" not in file.parts
    }


@pytest.mark.parametrize(("key", "value", "line"), mostly_long(MISTAKES, 20))
def test_check_refuses_in_one_line(
    key: str, value: object, line: str, project, seqline, edited
) -> None:
    edited(project, key, value)
    before = folder(project)
    result = seqline(project, "check")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"seqline: {line}"), result.err
    assert result.err.count("\n") == 1
    assert folder(project) == before


def test_the_corpus_of_one_s_own_that_the_readme_shows_is_in_order(
    project, seqline, edited
) -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [(name, block)] = yaml.safe_load(shown).items()
    edited(project, f"corpora.{name}", block)
    folder = project / block["source"]["path"]
    folder.mkdir(parents=True)
    (folder / block["read"]["files"]["all"][0]).write_text("en,fr\n")
    assert seqline(project, "check").out.startswith("params.yaml: 5 corpora, ")
    item = re.search(r"or files: \[{(.*?)}\]", shown)
    assert item is not None
    assert set(item[1].split(", ")) == {field.name for field in dataclasses.fields(File)}
    named = re.search(r"format: (\w+) +# or (.*)", shown)
    assert named is not None
    for form in [named[1], *named[2].split(", ")]:
        edited(project, f"corpora.{name}.format", form)
        assert "corpora.my_corpus.format" not in seqline(project, "check").err, (
            f"{form} is no format"
        )


def test_a_run_with_another_seed_is_a_line_and_dvc_reads_it_as_the_stages_do(
    project, seqline
) -> None:
    text = (project / "params.yaml").read_text()
    number = len(fast_yaml.load(text)["runs"])
    text += "  lstm-4: {<<: *lstm, seed: 4}\n"
    (project / "params.yaml").write_text(text)
    assert f" settings and {number + 1} runs, all in order" in seqline(project, "check").out
    content = yaml.safe_load(text)
    assert content["runs"]["lstm-4"] == content["runs"]["lstm-1"] | {"seed": 4}
    assert parse_yaml(text, "params.yaml") == content


@pytest.mark.parametrize(
    ("key", "value", "kind"), [("family", "recurent_lm", "models"), ("task", "speaking", "tasks")]
)
def test_a_setting_of_an_unknown_family_or_task_is_refused_with_the_choices(
    key: str, value: str, kind: str, project, seqline, edited
) -> None:
    for seed in (1, 2, 3):
        edited(project, f"runs.lstm-{seed}.{key}", value)
    result = seqline(project, "check")
    known = {path.stem for path in (ROOT / "pipeline" / kind).glob("[a-z]*.py")}
    line = re.fullmatch(
        rf"seqline: runs\.lstm-1\.{key}: got {value}; expected one of ([\w, ]+)\..*\n", result.err
    )
    assert line is not None, result.err
    assert set(line[1].split(", ")) == known


def test_a_setting_without_a_run_is_named(project, seqline, edited) -> None:
    block = fast_yaml.load((project / "params.yaml").read_text())["settings"]["lstm"]
    edited(project, "settings.spare", block)
    result = seqline(project, "check")
    assert (result.status, result.err) == (0, "")
    assert result.out.endswith("\nsettings without a run, which nothing reads: spare\n")


@pytest.mark.parametrize("section", ["settings", "corpora", "runs"])
@pytest.mark.parametrize("value", [None, 3, [], {}, ["lstm"], {"lstm": None}])
def test_a_run_of_a_broken_section_is_refused(section: str, value: object, project, edited) -> None:
    edited(project, section, value)
    with pytest.raises(UserError, match=rf"^(runs\.lstm-1|{section})[.:]"):
        params.run(project / "params.yaml", "lstm-1")


def test_runs_of_a_setting_may_have_the_same_seed_on_different_corpora(
    project, seqline, edited
) -> None:
    """As in a cross validation."""
    content = fast_yaml.load((project / "params.yaml").read_text())
    story = content["corpora"]["toy_story"]
    edited(project, "corpora.fold", story | {"vocab": story["vocab"] | {"corpus": "fold"}})
    edited(project, "runs.lstm-2", content["runs"]["lstm-1"] | {"corpus": "fold"})
    assert seqline(project, "check").status == 0


def test_a_run_is_loaded_with_the_blocks_of_its_setting(project) -> None:
    content = fast_yaml.load((project / "params.yaml").read_text())
    for name, block in content["runs"].items():
        run = dataclasses.asdict(params.run(project / "params.yaml", name))
        assert run == block | content["settings"][block["setting"]]


def test_the_sections_of_a_run_give_the_same_run(project, tmp_path) -> None:
    run = params.run(project / "params.yaml", "bert_sentiment-2")
    content = config.read(project / "params.yaml")
    alone = {"corpora": content["corpora"]} | params.sections(
        "bert_sentiment-2", dataclasses.asdict(run)
    )
    (tmp_path / "params.yaml").write_text(fast_yaml.dump(alone))
    assert params.run(tmp_path / "params.yaml", "bert_sentiment-2") == run


def test_a_recorded_run_without_a_setting_gets_one_of_its_name(project, tmp_path) -> None:
    """Older versions of the project recorded runs without a setting."""
    run = dataclasses.asdict(params.run(project / "params.yaml", "lstm-1"))
    del run["setting"]
    content = config.read(project / "params.yaml")
    alone = {"corpora": content["corpora"]} | params.sections("lstm", run)
    (tmp_path / "params.yaml").write_text(fast_yaml.dump(alone))
    assert params.run(tmp_path / "params.yaml", "lstm").setting == "lstm"


def test_a_run_may_begin_from_one_that_reads_the_same_ids_but_not_in_a_circle(
    project, seqline, edited
) -> None:
    block = fast_yaml.load((project / "params.yaml").read_text())["runs"]["bert-1"]
    edited(project, "runs.bert-4", block | {"init_from": "bert-1", "seed": 4})
    assert seqline(project, "check").status == 0
    edited(project, "runs.bert-1.init_from", "bert-4")
    result = seqline(project, "check")
    assert result.err == (
        "seqline: runs.bert-4.init_from: got bert-1; expected a run that does not begin from this "
        "one.\n"
    )


def test_a_run_cannot_begin_from_one_that_reads_other_ids(project, seqline, edited) -> None:
    content = fast_yaml.load((project / "params.yaml").read_text())
    other = content["corpora"]["toy_story"] | {
        "vocab": content["corpora"]["toy_story"]["vocab"] | {"corpus": "others"}
    }
    edited(project, "corpora.others", other)
    run = content["runs"]["bert-1"] | {"init_from": "bert-1", "corpus": "others"}
    edited(project, "runs.further", run)
    result = seqline(project, "check")
    assert result.err.startswith(
        "seqline: runs.further.init_from: got bert-1, which reads ids of toy_reviews; expected a "
        "run that "
    )
    assert result.err.count("\n") == 1


def test_a_run_that_is_called_scratch_is_refused(project, seqline, edited) -> None:
    block = fast_yaml.load((project / "params.yaml").read_text())["runs"]["lstm-1"]
    edited(project, "runs.scratch", block | {"seed": 4})
    assert "runs: got scratch; expected another name" in seqline(project, "check").err


STAGES = [
    (
        "download",
        "toy_story",
        "corpora.toy_story.sources",
        {},
        "corpora.toy_story.sources: got an unknown key; expected ",
    ),
    (
        "download",
        "toy_story",
        "corpora.toy_story.source.builtin.size",
        {},
        (
            "corpora.toy_story.source.builtin.size: got an unknown key; expected one of seed, "
            "sizes. Did you mean 'sizes'?"
        ),
    ),
    (
        "tokenize",
        "toy_story",
        "corpora.toy_story.format",
        "toystory",
        "corpora.toy_story.format: got toystory; expected ",
    ),
    (
        "tokenize",
        "toy_en_fr",
        "corpora.toy_en_fr.text.lowercase",
        1,
        "corpora.toy_en_fr.text.lowercase: got 1; expected ",
    ),
    (
        "vocab",
        "toy_story",
        "corpora.toy_story.vocab.min_count",
        "1e2",
        "corpora.toy_story.vocab.min_count: got 100.0; expected a whole number.",
    ),
    ("encode", "toy_story", "compute.workers", 0, "compute.workers: got 0; expected at least 1"),
    (
        "train",
        "lstm-1",
        "runs.lstm-1.family",
        "lstm",
        "runs.lstm-1.family: got lstm; expected recurrent_lm, as runs.lstm-2 of the same setting ",
    ),
    (
        "train",
        "lstm-1",
        "runs.lstm-1.setting",
        "lstn",
        "runs.lstm-1.setting: got lstn; expected one of rnn, gru, lstm, ",
    ),
    (
        "train",
        "lstm-1",
        "runs.lstm-1.optim",
        {},
        "runs.lstm-1.optim: got a key that was moved; expected settings.NAME.optim, ",
    ),
    (
        "train",
        "lstm-1",
        "settings.lstm.training.patience",
        0.5,
        "settings.lstm.training.patience: got 0.5; expected a whole number.",
    ),
    (
        "train",
        "lstm-1",
        "runs.lstm-1.seed",
        0.5,
        "runs.lstm-1.seed: got 0.5; expected a whole number.",
    ),
    (
        "train",
        "lstm-1",
        "compute.devices",
        "cpu",
        "compute.devices: got an unknown key; expected one of device, slots, ",
    ),
    (
        "predict",
        "lstm-1",
        "runs.lstm-1.task",
        "speaking",
        "runs.lstm-1.task: got speaking; expected language_model, as runs.lstm-2 of the same ",
    ),
    (
        "predict",
        "attention-1",
        "runs.attention-1.corpus",
        "toy",
        "runs.attention-1.corpus: got toy; expected one of toy_story, ",
    ),
    (
        "evaluate",
        "lstm-1",
        "evaluation.seed",
        ...,
        "evaluation.seed: got nothing; expected a whole number. Add the key.",
    ),
    (
        "report",
        "",
        "evaluation.confidence",
        "high",
        "evaluation.confidence: got high; expected a number.",
    ),
    ("report", "", "runs.rnn-1.seed", "one", "runs.rnn-1.seed: got one; expected a whole number."),
]


@pytest.mark.parametrize(
    ("stage", "name", "key", "value", "line"),
    STAGES,
    ids=[f"{stage}-{key}" for stage, _, key, _, _ in STAGES],
)
def test_a_stage_refuses_in_one_line_and_writes_nothing(
    stage: str,
    name: str,
    key: str,
    value: object,
    line: str,
    project,
    edited,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edited(project, key, value)
    before = folder(project)
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: stage_runs.run(project, stage, name))
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith(f"seqline: {line}"), said.err
    assert said.err.count("\n") == 1
    assert {
        path: held for path, held in folder(project).items() if not path.endswith(".lock")
    } == before


def test_every_stage_that_reads_params_yaml_is_among_those_that_were_given_a_mistake() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {stage for stage, *_ in STAGES} == {
        name for name, block in stages.items() if "--params" in str(block)
    }


def test_a_block_that_is_not_there_is_refused_with_the_ones_that_are(
    project, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _, *options = stage_runs.words("download", "toy_story")
    command = [sys.executable, "-m", module, "toy_stories", *options]
    done = subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "seqline: corpora.toy_stories: got nothing; expected one of toy_story, "
    )
    assert done.stderr.count("\n") == 1


def test_the_console_script_itself_ends_with_2_and_one_line(project, edited) -> None:
    edited(project, "runs.lstm-1.seed", "one")
    script = Path(sys.executable).parent / "seqline"
    done = subprocess.run([str(script), "check"], cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "seqline: runs.lstm-1.seed: got one; expected a whole number.\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\n", "params.yaml: got while parsing a flow sequence"),
        ("- a\n", "params.yaml: got list; expected a mapping of sections."),
        ("", "params.yaml: got NoneType; expected a mapping of sections."),
        ("a: \x80\n", "params.yaml: got "),
        (
            "a: {b: 1}\na: 2\n",
            "a: got the key once more in line 2 of params.yaml; expected each key once. Remove one",
        ),
        (
            "a:\n  - b: 1\n  - {c: 1, c: 1}\n",
            "a[1].c: got the key once more in line 3 of params.yaml; expected ",
        ),
    ],
)
def test_broken_file_is_reported_in_one_line(text: str, line: str, project, seqline) -> None:
    (project / "params.yaml").write_bytes(text.encode("latin-1"))
    result = seqline(project, "check")
    assert result.status == 2
    assert line in result.err
    assert result.err.count("\n") == 1


def test_a_missing_file_says_where_it_was_looked_for(project, seqline) -> None:
    (project / "params.yaml").unlink()
    assert "params.yaml: got no such file; expected a YAML file." in seqline(project, "check").err


def test_readers_do_not_share_mutable_settings(project) -> None:
    mine = config.read(project / "params.yaml")
    mine["settings"]["lstm"]["optim"]["learning_rate"] = 1.0
    assert config.read(project / "params.yaml")["settings"]["lstm"]["optim"]["learning_rate"] < 1.0


def test_the_name_in_a_message_is_the_key_inside_lists_and_mappings_too(project, edited) -> None:
    edited(
        project,
        "corpora.toy_story.samples",
        [{"prompt": "a", "reference": None}, {"prompt": 1, "reference": None}],
    )
    with pytest.raises(
        UserError,
        match=(
            r"^corpora\.toy_story\.samples\[1\]\.prompt: got 1; expected a text\. Put it in "
            r"quotes\.$"
        ),
    ):
        params.corpus(project / "params.yaml", "toy_story")


# YAML that its readers do not agree on

_SCALARS = """
    010 0o10 08 00 0x10 0b1 1_000 1__ 1:30 1:30.5 -1:30 yes No ON off y n true False TRUE 1e3
    1e-3 1.e3 1.0e3 1.0e+3 .5 -.5
    5. 1.5_0 ._ .inf -.INF .nan = << ~ null NULL 2020-01-01 2020-13-45
    2020-01-01T10:00:00Z
    toy_story on_top 0.0 -0 +1 -1 1
    truex /a . .. - -- ok: 0x_ 0xg 1,000 12abc nan inf None é
"""
_PLAIN = st.one_of(
    st.sampled_from(_SCALARS.split()),
    st.text("0123456789.:-+_eExobyYnNtTfFsSlL~=<", min_size=1, max_size=7),
)


def _same(one: object, other: object) -> bool:
    return (type(one), repr(one)) == (type(other), repr(other))


@settings(deadline=None, max_examples=300)
@given(_PLAIN, _PLAIN, _PLAIN, st.booleans())
@example("010", "a", "b", True)
@example("a", "010", "b", True)
@example("no", "a", "yes", True)
def test_settings_match_dvc_or_are_refused(
    tmp_path_factory, key: str, value: str, item: str, block: bool
) -> None:
    text = (
        f"a:\n  {key}: {value}\n  list:\n  - {item}\n"
        if block
        else f"a: {{ {key} : {value} , list : [ {item} ]}}\n"
    )
    path = tmp_path_factory.mktemp("yaml") / "params.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        found = config.read(path)
        read_by_dvc = parse_yaml(text, "params.yaml")
    except (UserError, YAMLFileCorruptedError):  # the latter from DVC, which then runs nothing
        return
    assert _same(found, read_by_dvc), text
    assert all(isinstance(name, str) for name in found["a"])


@pytest.mark.parametrize(
    "value",
    ["3", "-1", "0.5", "true", "null", "toy_story", "'010'", '"yes"', "a b", "https://a.b/c", "[]"],
)
def test_values_that_all_readers_agree_on_are_read(tmp_path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"a: {value}\n")
    assert _same(config.read(path), parse_yaml(path.read_text(), "params.yaml"))


@pytest.mark.parametrize("value", ["no", "Yes", "off", "5e-05", "1.5e-07", "1e3", "-1E+20"])
def test_what_dvc_writes_without_quotes_is_read_as_dvc_reads_it(tmp_path, value: str) -> None:
    """As a value, in a list, and as a key of a text's kind; and so in dvc.lock."""
    path = tmp_path / "params.yaml"
    path.write_text(f"a: {value}\nb: [{value}]\n" + f"{value}: 1\n" * value.isalpha())
    by_dvc = parse_yaml(path.read_text(), "params.yaml")
    assert _same(config.read(path), by_dvc)
    assert _same(config.read(path, strict=False), by_dvc)


def test_a_word_for_false_is_no_value_of_a_switch(project, seqline) -> None:
    path = project / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("  test: true", "  test: no"))
    result = seqline(project, "check")
    assert (result.status, result.err) == (
        2,
        "seqline: evaluation.test: got no; expected true or false.\n",
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [{prompt: see:this, reference: null}]\n", "a[0].prompt: got see:this"),
        ("urls: [https://a.b/c.txt]\n", "urls[0]: got https://a.b/c.txt"),
        ("a: {b:c: 1}\n", "a.b:c: got b:c"),
        ("a:\n  - {b: 1:30}\n", "a[0].b: got 1:30"),
    ],
)
def test_a_colon_in_brackets_that_dvc_cannot_read_is_refused(
    text: str, place: str, tmp_path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(YAMLFileCorruptedError):
        parse_yaml(text, "params.yaml")
    with pytest.raises(UserError) as refused:
        config.read(path)
    assert str(refused.value) == (
        f"{place}, which has a colon and stands in brackets; expected a value that DVC can read. "
        "Put it in quotes."
    )


def test_the_directive_of_an_older_yaml_is_refused(tmp_path) -> None:
    """After it, DVC reads `no` as false."""
    (tmp_path / "params.yaml").write_text("%YAML 1.1\n---\na: no\n")
    with pytest.raises(UserError, match=r"got %YAML 1\.1; expected YAML 1\.2\. Remove the line"):
        config.read(tmp_path / "params.yaml")


LABELS = (
    "runs: {{}}\ncorpora: {{c: {{read: {{files: {{all: {{{0}: [a.txt], other: [b.txt]}}}}}}}}}}\n"
)


@pytest.mark.parametrize(
    ("key", "said"),
    mostly_long(
        [
            ("true", "read as true"),
            ("2", "read as the number 2"),
            ("1.5", "read as the number 1.5"),
            ("010", "read as the number 8 or the number 10"),
            ("null", "read as null"),
            ("~", "read as null"),
        ],
        4,
    ),
)
def test_non_text_key_is_refused_with_its_value(project, seqline, key: str, said: str) -> None:
    for file, text in (
        ("params.yaml", LABELS.format(key)),
        ("flow.yaml", f"run: {{time_limits: {{{key}: 10}}}}\n"),
    ):
        before = (project / file).read_text()
        (project / file).write_text(text)
        where = "corpora.c.read.files.all" if file == "params.yaml" else "run.time_limits"
        found = seqline(project, "check")
        assert found.status == 2
        assert found.err == (
            f"seqline: {where}.{key}: got the key {key}, {said}; expected a text as the key. "
            f'Put it in quotes: "{key}".\n'
        )
        (project / file).write_text(before)
    path = project / "params.yaml"
    path.write_text(LABELS.format(f'"{key}"'))
    assert list(config.section(path, "corpora.c.read.files.all")) == [key, "other"]


def test_a_key_may_not_be_a_list(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text("runs: {[a]: 1}\n")
    with pytest.raises(
        UserError,
        match=r"^runs: got a list or section as a key; expected a text\. Put it in quotes\.$",
    ):
        config.read(tmp_path / "params.yaml")


def _lines_of_aliases(form: str) -> str:
    names = "abcdefghijklmnopqrstu"
    lines = ["a: &a {x: 1}"]
    lines += [
        f"{two}: &{two} {form.replace('@', '*' + one)}" for one, two in itertools.pairwise(names)
    ]
    return "\n".join(lines) + "\n"


BROKEN = {
    "a date that is none": (
        "evaluation: {seed: 2020-13-45}",
        "evaluation.seed: got 2020-13-45, which YAML reads as a date",
    ),
    "a date": (
        "evaluation: {seed: 2020-01-02}",
        "evaluation.seed: got 2020-01-02, which YAML reads as a date; expected ",
    ),
    "a tag": (
        "evaluation: {seed: !!float x}",
        "evaluation.seed: got the tag !!float; expected a value without a tag.",
    ),
    "a tag on a text": (
        "evaluation: {seed: !!str 3}",
        "evaluation.seed: got the tag !!str; expected ",
    ),
    "a set": (
        "evaluation: !!set {a, b}",
        "evaluation: got the tag !!set; expected a value without a tag.",
    ),
    "python's tag": (
        "evaluation: !!python/object/apply:os.system [true]",
        "evaluation: got the tag !!python/object/app",
    ),
    "a tag of no one's": ("evaluation: !mine {}", "evaluation: got the tag !mine; expected "),
    "a long number": (
        f"evaluation: {{seed: {'1' * 5000}}}",
        "evaluation.seed: got 111111111111111111111111111111..., a ",
    ),
    "a long hexadecimal number": (f"a: 0x{'f' * 5000}", "a: got 0xffff"),
    "a number with a huge exponent": ("a: 1e999999999", "a: got 1e999999999; expected a number."),
    "brackets": (
        "a: " + "[" * 900 + "]" * 900,
        "params.yaml: got over 50 levels, one inside the other, in line 1; expected ",
    ),
    "more brackets": ("a: " + "[" * 200_000, "params.yaml: got "),
    "a list of lists": ("- " * 100_000 + "a", "params.yaml: got over 50 levels"),
    "a list in itself": (
        "a: &a [*a]",
        "a[0]: got an alias of what it stands in; expected no list or section inside itself.",
    ),
    "a section in itself": ("a: &a {b: {c: *a}}", "a.b.c: got an alias of what it stands in"),
    "a merge of itself": ("a: &a {<<: *a}", "a.<<: got an alias of what it stands in"),
    "an alias of nothing": ("a: *b", "params.yaml: got found undefined alias"),
    "aliases of aliases": (
        _lines_of_aliases("[@, @, @]"),
        ": got over 200000 values, with every alias written out; expected ",
    ),
    "merges of merges": (
        _lines_of_aliases("{<<: [@, @, @]}"),
        ": got over 200000 values, with every alias written out",
    ),
    "a merge of no section": ("a: {<<: 3}", "params.yaml: got while constructing a mapping"),
    "two merges": (
        "a: &a {x: 1}\nb: {<<: *a, <<: *a}",
        "b.<<: got the key once more in line 2 of params.yaml; expected each",
    ),
    "an escape in a key": ('"a\\e[31m": {b: 1, b: 2}', "a\\x1b[31m.b: got the key once more"),
    "a line break in a key": ('"a\\nb": 010', "a\\nb: got 010; expected "),
    "two documents": (
        "a: 1\n---\nb: 2\n",
        "params.yaml: got expected a single document in the stream",
    ),
    "the mark of a value": ("a: =", "a: got =, which YAML reads as a tag !!value"),
    "the mark of a merge": ("a: <<", "a: got <<, which YAML reads as a tag !!merge"),
    "UTF-16 with a mark": (
        "a: 1\n".encode("utf-16"),
        "params.yaml: got byte 0xff at offset 0: the mark of UTF-16; expected",
    ),
    "UTF-16": (
        "a: 1\n".encode("utf-16-le"),
        "params.yaml: got byte 0x00 at offset 1, line 1: UTF-16LE; expected UTF-8.",
    ),
    "UTF-32": (
        "a: 1\n".encode("utf-32"),
        "params.yaml: got byte 0xff at offset 0: the mark of UTF-32; expected UTF-8. ",
    ),
    "bytes": (bytes(range(256)), "params.yaml: got byte 0x00 at offset 0, line 1; expected "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_yaml_that_no_settings_need_is_refused_in_one_line(project, seqline, name: str) -> None:
    content, line = BROKEN[name]
    path = project / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = seqline(project, "check")
    assert result.status == 2
    assert result.err.startswith("seqline: ")
    assert line in result.err, result.err
    assert result.err[:-1].isprintable()
    assert result.err.endswith("\n")
    assert len(result.err) < 600


@pytest.mark.parametrize("name", ["a date", "a list in itself", "brackets", "an escape in a key"])
def test_flow_refuses_whatever_check_refuses(project, seqline, name: str) -> None:
    (project / "params.yaml").write_text(BROKEN[name][0])
    before = folder(project)
    for command in ("run", "retrain"):
        said = seqline(project, command)
        assert said.status == 2
        assert BROKEN[name][1] in said.err, said.err
        assert said.err.count("\n") == 1
    assert {path: held for path, held in folder(project).items() if path in before} == before


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _nowhere(path: Path) -> None:
    path.symlink_to("nothing here")


PLACES = {
    _folder: "got a folder;",
    _loop: "got too many levels",
    _nowhere: "got no such file;",
    os.mkfifo: "got no regular",
}


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("file", ["params.yaml", "flow.yaml"])
def test_settings_path_that_is_not_a_file_is_refused(project, seqline, make, file: str) -> None:
    (project / file).unlink()
    make(project / file)
    result = seqline(project, "check")
    assert result.status == 2
    assert result.err.startswith("seqline: ")
    assert f"{file}: {PLACES[make]}" in result.err
    assert result.err.count("\n") == 1


def test_a_byte_order_mark_before_the_settings_is_skipped_as_dvc_does(project, seqline) -> None:
    path = project / "params.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert seqline(project, "check").status == 0
    assert parse_yaml(path.read_text(encoding="utf-8"), "params.yaml") == config.read(path)


def test_every_preset_is_read_by_dvc_as_by_the_stages() -> None:
    for path in [
        ROOT / "params.yaml",
        ROOT / "flow.yaml",
        ROOT / "dvc.yaml",
        *(ROOT / "presets").glob("*.yaml"),
    ]:
        assert _same(config.read(path), parse_yaml(path.read_text(encoding="utf-8"), path.name)), (
            path
        )


@pytest.mark.parametrize(
    "value",
    ["010", "0o7", "1.e3", "2020-13-45", "!!float x", "9" * 30, "[" * 900, "&a [*a]", "{2: a}"],
)
def test_a_value_given_to_use_is_held_to_the_same_rules(project, seqline, value: str) -> None:
    before = folder(project)
    said = seqline(project, "use", "d2l", "--set", f"runs.*.seed={value}")
    assert said.status == 2
    assert said.err.startswith("seqline: --set runs.*.seed")
    assert said.err.count("\n") == 1
    assert folder(project) == before


_ODD = (
    None,
    [],
    {},
    "x",
    "",
    5,
    -1,
    True,
    1.5,
    10**17,
    [["a"]],
    [{"a": [1]}],
    {"a": {"b": None}},
    "a\x1b[0m\nb",
)


def _leaves(node: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*above, key)
            yield from _leaves(value, (*above, key))


def test_any_value_in_any_place_is_in_order_or_refused_in_one_line(tmp_path) -> None:
    """Every key of two runs with their settings and corpora, each with another type in turn."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    kept = ("transformer", "text_cnn")
    content["settings"] = {name: content["settings"][name] for name in kept}
    content["runs"] = {f"{name}-1": content["runs"][f"{name}-1"] for name in kept}
    content["corpora"] = {name: content["corpora"][name] for name in ("toy_en_fr", "toy_reviews")}
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "flow.yaml", tmp_path)
    refused = 0
    for number, place in enumerate(_leaves(content)):
        for value in (_ODD[number % len(_ODD)], _ODD[(number * 5 + 3) % len(_ODD)]):
            changed = copy.deepcopy(content)
            here = changed
            for key in place[:-1]:
                here = here[key]
            here[place[-1]] = value
            path.write_text(json.dumps(changed), encoding="utf-8")
            try:
                validate_params.check(path)
            except UserError:  # which is one printable line, whatever it holds
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "command",
    [
        ("check",),
        ("runs",),
        ("results",),
        ("compare", "lstm", "gru"),
        ("translate", "--run", "lstm"),
    ],
    ids=lambda command: command[0],
)
def test_an_empty_section_or_run_is_refused_in_one_line(
    command: tuple[str, ...], project, seqline
) -> None:
    path = project / "params.yaml"
    above = path.read_text().partition("\nruns:\n")[0]
    for text, line in (
        ("runs:\n", "runs: got None; expected a section with at least one block. Add one, or "),
        ("runs:\n  a-1:\n", "runs"),
    ):
        path.write_text(f"{above}\n{text}")
        result = seqline(project, *command)
        assert result.status == 2
        assert result.err.startswith(f"seqline: {line}"), result.err
        assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", config.BLOCKS)
def test_a_section_without_blocks_is_a_mapping_or_refused(name: str, tmp_path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"{name}:\n")
    with pytest.raises(UserError, match=rf"^{name}: got None; expected a section with at least "):
        config.section(path, name)
    path.write_text(f"{name}: {{}}\n")
    assert config.blocks(path, name) == config.section(path, name) == {}
