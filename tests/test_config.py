"""A mistake in params.yaml is one line that names the key, from `seqline check` and from a stage, and nothing is written."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import stage_runs
import yaml
from dvc.utils.serialize import parse_yaml

from pipeline import config, params
from pipeline.download.wanted import File
from pipeline.errors import UserError, exit_with

ROOT = Path(__file__).resolve().parent.parent
MISTAKES = [
    ("extra", {"a": 1}, "extra: got an unknown section; expected one of compute, evaluation, corpora, runs."),
    (
        "evaluation.bootstraps",
        5,
        "evaluation.bootstraps: got an unknown key; expected one of bootstrap, confidence, seed. Did you",
    ),
    ("evaluation.confidence", ..., "evaluation.confidence: got nothing; expected a number. Add the key."),
    ("evaluation.confidence", 95, "evaluation.confidence: got 95.0; expected a share between 0 and 1, such as 0.95."),
    ("evaluation.bootstrap", "many", "evaluation.bootstrap: got many; expected a whole number."),
    ("evaluation.bootstrap", True, "evaluation.bootstrap: got True; expected a whole number."),
    ("evaluation.confidence", float("nan"), "evaluation.confidence: got nan; expected a finite number."),
    ("runs.lstm.optim.clip_norm", float("inf"), "runs.lstm.optim.clip_norm: got inf; expected a finite number."),
    ("evaluation.bootstrap", 1.5, "evaluation.bootstrap: got 1.5; expected a whole number."),
    ("evaluation", [1], "evaluation: got [1]; expected a section with the keys bootstrap, confidence, seed."),
    ("compute.device", "gpu", "compute.device: got gpu; expected auto, cpu, cuda, cuda:N or mps."),
    ("compute.workers", 0, "compute.workers: got 0; expected at least 1."),
    (
        "compute.cluster",
        "localhost:8786",
        "compute.cluster: got localhost:8786; expected a Dask scheduler's address, ",
    ),
    ("compute", ..., "compute: got nothing; expected one of evaluation, corpora, runs."),
    ("runs", {}, "runs: got {}; expected a section with at least one block."),
    ("runs.Big Model", {}, "runs: got Big Model; expected names of small letters, digits and _. Rename the block."),
    (
        "runs.lstm.optim.learning_rate",
        "1e-3",
        "runs.lstm.optim.learning_rate: got 1e-3; expected a number. Write it in full, as 0.001",
    ),
    ("runs.lstm.optim.name", "nesterof", "runs.lstm.optim.name: got nesterof; expected one of sgd, adagrad, momentum, "),
    ("runs.lstm.optim.name", ..., "runs.lstm.optim.name: got nothing; expected one of sgd, adagrad, momentum, "),
    ("runs.lstm.optim.name", "sgd", "runs.lstm.optim.betas: got an unknown key; expected one of learning_rate, "),
    ("runs.lstm.optim.name", ["sgd"], "runs.lstm.optim.name: got ['sgd']; expected one of sgd, "),
    (
        "runs.lstm.optim.schedule",
        "cosine",
        "runs.lstm.optim.schedule: got cosine; expected a section whose name is one of constant, step, cosine, inverse",
    ),
    (
        "runs.lstm.optim.schedule",
        ...,
        "runs.lstm.optim.schedule: got nothing; expected a section whose name is one of constant, step, cosine, inverse",
    ),
    (
        "runs.lstm.optim.schedule.every",
        2,
        "runs.lstm.optim.schedule.every: got an unknown key; expected one of name, warmup_steps.",
    ),
    ("runs.lstm.training.average", 6, "runs.lstm.training.average: got 6; expected from 1 to max_epochs, 5, or null."),
    ("runs.lstm.family", "recurent_lm", "runs.lstm.family: got recurent_lm; expected one of "),
    ("runs.lstm.task", "translating", "runs.lstm.task: got translating; expected one of "),
    ("runs.lstm.corpus", "toy_novel", "runs.lstm.corpus: got toy_novel; expected one of toy_story, "),
    ("runs.lstm.corpus", "toy_en_fr", "runs.lstm.corpus: got toy_en_fr, which is pair; expected toy_story"),
    ("runs.lstm.start", "nothing", "runs.lstm.start: got nothing; expected scratch or one of rnn, gru, lstm, "),
    ("runs.lstm.start", "lstm", "runs.lstm.start: got lstm; expected a run that does not begin from this one."),
    ("runs.lstm.start", "gru", "runs.lstm.model.cell: got lstm; expected gru, the cell of its start gru. Give both runs' "),
    ("runs.lstm.start", "attention", "runs.lstm.start: got attention, which is attention_seq2seq; expected scratch or rnn"),
    (
        "runs.bert_sentiment.model.width",
        64,
        "runs.bert_sentiment.model.width: got 64; expected 48, the width of ",
    ),
    (
        "runs.bert_sentiment.model.heads",
        8,
        "runs.bert_sentiment.model.heads: got 8; expected 4, the heads of ",
    ),
    ("runs.bert.start", "lstm", "runs.bert.start: got lstm, which is recurrent_lm; expected scratch for bert."),
    ("runs.lstm.model.cell", "lsmt", "runs.lstm.model.cell: got lsmt; expected one of rnn, gru, lstm"),
    ("runs.lstm.search.method", "beams", "runs.lstm.search.method: got beams; expected one of beam, "),
    ("runs.lstm.search.method", ..., "runs.lstm.search.method: got nothing; expected one of beam, "),
    ("runs.lstm.search.widths", 3, "runs.lstm.search.widths: got an unknown key; expected one of "),
    (
        "runs.seq2seq.search.penalty.coverage",
        0.2,
        "runs.seq2seq.search.penalty.coverage: got 0.2 with seq2seq, ",
    ),
    ("runs.seq2seq.search.penalty.length", "wu", "runs.seq2seq.search.penalty.length: got wu; expected one of book, gnmt."),
    (
        "runs.seq2seq.search.constraints.min_length",
        81,
        "runs.seq2seq.search.constraints.min_length: got 81; expected ",
    ),
    (
        "runs.transformer.model.learned_positions",
        16,
        "runs.transformer.search.max_length: got 80; expected at most 16, the run's model.learned_positions.",
    ),
    ("runs.lstm.training.threads", ..., "runs.lstm.training.threads: got nothing; expected a whole number. Add the key."),
    (
        "runs.transformer.objective.label_smoothing",
        1.0,
        "runs.transformer.objective.label_smoothing: got 1.0; expected a share",
    ),
    ("corpora.toy_story.format", "toystory", "corpora.toy_story.format: got toystory; expected one of "),
    ("corpora.toy_story.limit", 0, "corpora.toy_story.limit: got 0; expected at least 1, or null for all rows."),
    ("corpora.toy_story.split", "random", "corpora.toy_story.split: got random; expected official, or a section"),
    ("corpora.toy_story.text.level", "sentence", "corpora.toy_story.text.level: got sentence; expected one of "),
    ("corpora.toy_story.vocab.size", 2, "corpora.toy_story.vocab.size: got 2; expected more than"),
    (
        "corpora.toy_story.source",
        {"magic": 1},
        "corpora.toy_story.source: got magic; expected exactly one of the keys builtin, files, bundle, path.",
    ),
    (
        "corpora.toy_story.source.builtin.grammar",
        "toy",
        "corpora.toy_story.source.builtin.grammar: got toy; expected one of ",
    ),
]


def folder(root: Path) -> dict[str, bytes]:
    """All files with their contents, git's own excepted."""
    return {str(file): file.read_bytes() for file in root.rglob("*") if file.is_file() and ".git" not in file.parts}


@pytest.mark.parametrize(("key", "value", "line"), MISTAKES, ids=[f"{key}={value}" for key, value, _ in MISTAKES])
def test_check_refuses_in_one_line(key: str, value: object, line: str, project, seqline, edited) -> None:
    edited(project, key, value)
    before = folder(project)
    said = seqline(project, "check")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"seqline: {line}"), said.err
    assert said.err.count("\n") == 1
    assert folder(project) == before


def test_the_corpus_of_one_s_own_that_the_readme_shows_is_in_order(project, seqline, edited) -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [(name, block)] = yaml.safe_load(shown).items()
    edited(project, f"corpora.{name}", block)
    assert seqline(project, "check").out.startswith("params.yaml: 5 corpora and ")
    item = re.search(r"# or files: \[{(.*?)}\]", shown)
    assert item is not None
    assert set(item[1].split(", ")) == {field.name for field in dataclasses.fields(File)}
    named = re.search(r"format: (\w+) +# or (.*)", shown)
    assert named is not None
    for form in [named[1], *named[2].split(", ")]:
        edited(project, f"corpora.{name}.format", form)
        assert "corpora.my_corpus.format" not in seqline(project, "check").err, f"{form} is no format"


def test_a_run_with_another_seed_is_a_line_and_dvc_reads_it_as_the_stages_do(project, seqline) -> None:
    text = (project / "params.yaml").read_text()
    assert text.count("  lstm:\n") == 1
    text = text.replace("  lstm:\n", "  lstm: &lstm\n") + "\n  lstm_2: {<<: *lstm, seed: 2}\n"
    (project / "params.yaml").write_text(text)
    assert " 17 runs, all in order" in seqline(project, "check").out
    content = yaml.safe_load(text)
    assert content["runs"]["lstm_2"] == content["runs"]["lstm"] | {"seed": 2}
    assert parse_yaml(text, "params.yaml") == content


def test_a_run_may_begin_from_one_that_reads_the_same_ids_but_not_in_a_circle(project, seqline, edited) -> None:
    block = yaml.safe_load((project / "params.yaml").read_text())["runs"]["bert"]
    edited(project, "runs.further", block | {"start": "bert"})
    assert seqline(project, "check").status == 0
    edited(project, "runs.bert.start", "further")
    said = seqline(project, "check")
    assert said.err == "seqline: runs.further.start: got bert; expected a run that does not begin from this one.\n"


def test_a_run_cannot_begin_from_one_that_reads_other_ids(project, seqline, edited) -> None:
    content = yaml.safe_load((project / "params.yaml").read_text())
    other = content["corpora"]["toy_story"] | {"vocab": content["corpora"]["toy_story"]["vocab"] | {"corpus": "others"}}
    edited(project, "corpora.others", other)
    edited(project, "runs.further", content["runs"]["bert"] | {"start": "bert", "corpus": "others"})
    said = seqline(project, "check")
    assert said.err.startswith("seqline: runs.further.start: got bert, which reads ids of toy_reviews; expected a run that ")
    assert said.err.count("\n") == 1


def test_a_run_that_is_called_scratch_is_refused(project, seqline, edited) -> None:
    edited(project, "runs.scratch", yaml.safe_load((project / "params.yaml").read_text())["runs"]["lstm"])
    assert "runs: got scratch; expected another name" in seqline(project, "check").err


STAGES = [
    ("download", "toy_story", "corpora.toy_story.sources", {}, "corpora.toy_story.sources: got an unknown key; expected "),
    (
        "download",
        "toy_story",
        "corpora.toy_story.source.builtin.size",
        {},
        "corpora.toy_story.source.builtin.size: got an unknown key; expected one of seed, sizes. Did you mean 'sizes'?",
    ),
    ("tokenize", "toy_story", "corpora.toy_story.format", "toystory", "corpora.toy_story.format: got toystory; expected "),
    ("tokenize", "toy_en_fr", "corpora.toy_en_fr.text.lowercase", 1, "corpora.toy_en_fr.text.lowercase: got 1; expected "),
    ("vocab", "toy_story", "corpora.toy_story.vocab.min_count", "1e2", "corpora.toy_story.vocab.min_count: got 1e2; "),
    ("encode", "toy_story", "compute.workers", 0, "compute.workers: got 0; expected at least 1"),
    ("train", "lstm", "runs.lstm.family", "lstm", "runs.lstm.family: got lstm; expected one of "),
    ("train", "lstm", "runs.lstm.training.patience", 0.5, "runs.lstm.training.patience: got 0.5; expected a whole number."),
    ("train", "lstm", "compute.devices", "cpu", "compute.devices: got an unknown key; expected one of device, slots, "),
    ("predict", "lstm", "runs.lstm.task", "speaking", "runs.lstm.task: got speaking; expected one of "),
    ("predict", "attention", "runs.attention.corpus", "toy", "runs.attention.corpus: got toy; expected one of toy_story, "),
    ("evaluate", "lstm", "evaluation.seed", ..., "evaluation.seed: got nothing; expected a whole number. Add the key."),
    ("report", "", "evaluation.confidence", "high", "evaluation.confidence: got high; expected a number."),
    ("report", "", "runs.rnn.seed", "one", "runs.rnn.seed: got one; expected a whole number."),
]


@pytest.mark.parametrize(
    ("stage", "name", "key", "value", "line"), STAGES, ids=[f"{stage}-{key}" for stage, _, key, _, _ in STAGES]
)
def test_a_stage_refuses_in_one_line_and_writes_nothing(
    stage: str, name: str, key: str, value: object, line: str, project, edited, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(project, key, value)
    before = folder(project)
    with pytest.raises(SystemExit) as end:
        exit_with(lambda: stage_runs.run(project, stage, name))
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith(f"seqline: {line}"), said.err
    assert said.err.count("\n") == 1
    assert {path: held for path, held in folder(project).items() if not path.endswith(".lock")} == before


def test_every_stage_that_reads_params_yaml_is_among_those_that_were_given_a_mistake() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {stage for stage, *_ in STAGES} == {name for name, block in stages.items() if "--params" in str(block)}


def test_a_block_that_is_not_there_is_refused_with_the_ones_that_are(project, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, *options = stage_runs.words("download", "toy_story")
    command = [sys.executable, "-m", module, "toy_stories", *options]
    done = subprocess.run(command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("seqline: corpora.toy_stories: got nothing; expected one of toy_story, ")
    assert done.stderr.count("\n") == 1


def test_the_console_script_itself_ends_with_2_and_one_line(project, edited) -> None:
    edited(project, "runs.lstm.seed", "one")
    script = Path(sys.executable).parent / "seqline"
    done = subprocess.run([str(script), "check"], cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "seqline: runs.lstm.seed: got one; expected a whole number.\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\n", "params.yaml: got while parsing a flow sequence"),
        ("- a\n", "params.yaml: got list; expected a mapping of sections."),
        ("", "params.yaml: got NoneType; expected a mapping of sections."),
        ("a: \x80\n", "params.yaml: got "),
        ("a: {b: 1}\na: 2\n", "a: got the key once more in line 2 of params.yaml; expected each key once. Remove one"),
        ("a:\n  - b: 1\n  - {c: 1, c: 1}\n", "a[1].c: got the key once more in line 3 of params.yaml; expected "),
    ],
)
def test_a_broken_file_is_told_in_one_line(text: str, line: str, project, seqline) -> None:
    (project / "params.yaml").write_bytes(text.encode("latin-1"))
    said = seqline(project, "check")
    assert said.status == 2
    assert line in said.err
    assert said.err.count("\n") == 1


def test_a_missing_file_says_where_it_was_looked_for(project, seqline) -> None:
    (project / "params.yaml").unlink()
    assert "params.yaml: got no such file; expected a YAML file." in seqline(project, "check").err


def test_what_one_reader_does_to_its_settings_no_other_sees(project) -> None:
    mine = config.read(project / "params.yaml")
    mine["runs"]["lstm"]["optim"]["learning_rate"] = 1.0
    assert config.read(project / "params.yaml")["runs"]["lstm"]["optim"]["learning_rate"] < 1.0


def test_the_name_in_a_message_is_the_key_inside_lists_and_mappings_too(project, edited) -> None:
    edited(project, "corpora.toy_story.samples", [{"prompt": "a", "reference": None}, {"prompt": 1, "reference": None}])
    with pytest.raises(UserError, match=r"^corpora\.toy_story\.samples\[1\]\.prompt: got 1; expected a text\.$"):
        params.corpus(project / "params.yaml", "toy_story")
