"""`docs/params.md`: every key of `params.yaml`, from the dataclasses that load it.

    python -m pipeline.cli.params_page > docs/params.md

The meaning of a key is that in its dataclass's docstring, after the key in backticks and a colon;
else the one in `MEANINGS`."""

import dataclasses
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.cli.arguments import prepare_output
from pipeline.core import config, params
from pipeline.decoding.rules.constraints import Constraints
from pipeline.decoding.rules.penalty import Penalty
from pipeline.download import source, wanted
from pipeline.grammars import grammar
from pipeline.text import tokens, vocab
from pipeline.training import loop, optim

MEANINGS = {
    # Sections
    "Compute.device": "where models are trained; `auto` takes a GPU if there is one",
    "Compute.slots": "trainings that may share the CPU",
    "Compute.processes": "of one training; each computes some of an update's batches",
    "Compute.workers": "processes that tokenize, count and encode batches",
    "Compute.cluster": "a Dask scheduler, `tcp://host:8786`, whose workers do that instead",
    "Evaluation.bootstrap": "resamples behind every interval and every paired test",
    "Evaluation.confidence": "level of the intervals",
    "Evaluation.seed": "of the resamples",
    "Corpus.source": "where the files come from: [source](#source)",
    "Corpus.read": "what the reader of the format needs: [read](#read)",
    "Corpus.limit": "rows read at most of each split; null for all",
    "Corpus.split": "`official`, or a section: [split](#split)",
    "Corpus.text": "how texts become tokens: [text](#text); null for a corpus without text",
    "Corpus.vocab": "which tokens have ids: [vocab](#vocab)",
    "Corpus.samples": "sentences whose output the reports show: [samples](#samples)",
    "Corpus.format": "a file name in `pipeline/corpora/`: [read](#read)",
    "Corpus.bleu_tokenizer": "tokenizer of BLEU; `auto` goes by the script of the references",
    "Setting.model": "sizes of the family: [model](#model)",
    "Setting.objective": "batches and loss of the task: [objective](#objective)",
    "Setting.optim": "optimiser and learning rate: [optim](#optim)",
    "Setting.training": "[training](#training)",
    "Setting.search": "how outputs are searched: [search](#search)",
    "Run.setting": "a block under `settings:`",
    "Run.family": "a file name in `pipeline/models/`",
    "Run.task": "a file name in `pipeline/tasks/`",
    "Run.corpus": "a block under `corpora:`",
    "Run.init_from": "the run whose weights this one begins with, or `scratch`",
    "Run.seed": "of the weights, batches and dropout; at least 1",
    # Sources and splits
    "PathSource.path": "a file, a folder or a zip, seen from the project's root",
    "Listed.name": "name of the file in the corpus's folder",
    "Listed.sha256": "of the file itself, not of an archive around it; null if it changes",
    "Listed.bytes": "size of the file; null if `sha256` is",
    "Listed.urls": "addresses, tried in this order",
    "Bundle.name": "name of the packed file",
    "Bundle.folders": "folders of the archive whose files are packed",
    "Bundle.sha256": "of the files' listing by `sha256sum`, in the order of their names",
    "Bundle.bytes": "sum of the files' sizes",
    "Bundle.urls": "addresses of the archive, tried in this order",
    "grammars.Config.seed": "of the random numbers",
    "Split.method": "`hash` of the source text, or `contiguous` parts of each label",
    "Split.valid": "share of the rows for validation",
    "Split.test": "share of the rows for the test",
    "Folds.method": "cross-validation",
    "Folds.folds": "number of parts, by a hash of the source text",
    "Folds.fold": "the part that is test, from 0; the next one is valid",
    "OutOfTrain.method": "an official split that lacks valid",
    "OutOfTrain.valid": "share of train that becomes valid",
    "Sample.prompt": "the input; `___` is a blank for models that fill in blanks",
    "Sample.reference": "the expected output; null for none",
    # Formats
    "corpora.files": "files of each split: `train`, `valid`, `test`, others; or `all`, to be split",
    "corpora.columns": (
        "column of each part: `{source: ..., target: ...}`, `{text: ..., label: ...}`, "
        "`{premise: ..., hypothesis: ..., label: ...}` or `{text: ...}`"
    ),
    "csv.separator": 'character between cells, such as `,`, `;` or `"\\t"`',
    "labelled_archive.archive": "name of the tar.gz",
    "labelled_archive.folders": "folders of the archive, by split and label",
    "series_lines.history": "numbers before a row that are its inputs",
    "tab_separated_pairs.source_column": "number of the column, from 0",
    "tab_separated_pairs.target_column": "number of the column, from 0",
    "text_lines.benchmarks": "benchmarks of word vectors; null for none",
    "Benchmarks.similarity": "tables of word pairs with scores; the first one ranks the runs",
    "Benchmarks.analogies": "file in the format of word2vec's questions-words.txt; null for none",
    "Similarity.name": "name of the benchmark",
    "Similarity.file": "name of the file",
    "Similarity.first": "heading of the first word",
    "Similarity.second": "heading of the second word",
    "Similarity.score": "heading of the score",
    "ParallelFiles.source": "files of the source side, in order",
    "ParallelFiles.target": "files of the target side, in the same order",
    "toy_imbalanced_reviews.positive": "share of reviews that are positive by the rule",
    "toy_imbalanced_reviews.flipped": "share of labels that are opposite to the rule",
    "labelled_pairs.form": "`tsv`, with the columns' names in the first line, or `jsonl`",
    "labelled_pairs.premise": "column or key of the premise",
    "labelled_pairs.hypothesis": "column or key of the hypothesis",
    "labelled_pairs.label": "column or key of the label",
    "labelled_pairs.labels": "labels that are read; rows with others are rejects",
    "image_height": "rows of pixels of each picture",
    "image_width": "pixels in a row of each picture",
    # Text
    "Text.level": "`char`, `word`, `space` (already tokenized) or `bpe` (pieces of words)",
    "Text.lowercase": "whether texts become lower case",
    "Text.letters_only": "whether everything but letters becomes a space",
    "NoVocab.corpus": "the corpus's own name",
    # Models
    "cell": "kind of recurrent cell",
    "embedding": "size of an embedding vector",
    "hidden": "size of the hidden state or layer",
    "layers": "number of layers",
    "encoder_layers": "number of the encoder's layers",
    "decoder_layers": "number of the decoder's layers",
    "dropout": "share of units that are dropped in training",
    "bidirectional": "whether the encoder reads in both directions",
    "implementation": (
        "`fused`: torch's own layers, which are faster; `equations`: those of the book, step by "
        "step. Both have the same weights"
    ),
    "width": "size of a position's vector",
    "heads": "number of attention heads, a divisor of `width`",
    "feed_forward": "size of the feed-forward layer",
    "norm": "`layer` or `batch` normalization",
    "norm_first": "pre-norm, or post-norm as in the paper",
    "learned_positions": "number of learned positions; null for sinusoidal ones",
    "tied": "whether the output layer and the embedding share their weights",
    "dimension": "length of a vector",
    "recurrent_lm.embedding": "size of an embedding vector; 0 for one-hot inputs (d2l 9.5.2)",
    "bidirectional_lm.hidden": "size of the hidden state of each direction",
    "bidirectional_lm.layers": "number of layers of each direction",
    "birnn_classifier.hidden": "size of the hidden state of each direction",
    "text_cnn.widths": "widths of the filters in words",
    "text_cnn.filters": "number of filters of each width",
    "image_mlp.dropout": "share of units that are dropped after each hidden layer",
    "transformer_lm.learned_positions": "whether positions are learned, or sinusoidal",
    "lags": "number of values that are read",
    "interpolated_lm.ngrams": "settings of each n-gram model, by a name: [ngram_lm](#ngram_lm)",
    "translation_memory.similarity": (
        "of two sources: `overlap` (Dice's coefficient of the words), `tf_idf` (cosine of the "
        "weighted counts) or `edit` (1 - edit distance in words / length of the longer one)"
    ),
    # Objectives
    "batch_size": "rows of a batch",
    "language_model.steps": "tokens of each row of a batch",
    "language_model.sampling": "windows in `sequential` order, which carries states, or `random`",
    "language_model.max_train_tokens": "tokens of the stream that are trained on; null for all",
    "block_size": "neighbours that share their noise words",
    "noise_words": "noise words of a block; null for hierarchical softmax",
    "method": "name of the method",
    # Optimisers
    "learning_rate": "largest learning rate",
    "clip_norm": "largest norm of the gradient; null for any",
    "weight_decay": (
        "this multiple of x is added to g; adamw instead shrinks x by η times it (Loshchilov and "
        "Hutter 2019)"
    ),
    "schedule": "course of the learning rate: [schedule](#schedule)",
    "name": "name of the optimiser or schedule",
    "warmup_steps": "updates until the learning rate is reached, from 0 on",
    "Momentum.momentum": "β",
    "RMSprop.smoothing": "γ",
    "Adadelta.rho": "ρ",
    "Adam.betas": "β1 and β2",
    "Step.factor": "what the rate is multiplied by",
    "Step.every": "epochs between",
    "Config.max_epochs": "passes over the training data at most",
    "Config.precision": "`float32`, or `bfloat16` on a GPU or a CPU that has it",
    "Config.threads": "threads of torch",
    # Search
    "temperature": "divides the logits",
    "penalty": "how lengths are scored: [penalty](#penalty)",
    "constraints": "which tokens are allowed: [constraints](#constraints)",
    "n_best": "outputs per sentence",
    "max_length": "tokens at most",
    "Penalty.length": "`book` divides log P by length^alpha; `gnmt` as Wu et al. 2016",
}
"""Meanings of keys whose dataclass's docstring has none: by module or class and key, or by key."""

_MARKER = re.compile(r"(?:^|(?<=[.;:]) )(?:- )?((?:`\w+`(?:, | and )?)+)(?: of two sources)?: ")
_TITLE = "# Every key of params.yaml"
_INTRODUCTION = """
`python -m pipeline.cli.params_page > docs/params.md` writes this page, from the dataclasses that
load the file. `seqline check` compares your file with them.

Every key is required; only `bleu_tokenizer` may be left out. Unknown keys are refused. Write
numbers in full: 0.001, not 1e-3. Put `010` and `2024-01-01` in quotes. Blocks under `shared:`
are for YAML's merge keys (`<<`), and nothing else reads them.
"""


def page() -> str:
    """The page in Markdown."""
    parts = [_TITLE, _INTRODUCTION.strip(), *_sections(), *_corpora(), *_settings()]
    return "\n\n".join(parts) + "\n"


def undescribed() -> list[str]:
    """Keys without a meaning: `Class.key`."""
    return [row.split("|")[1].strip() for row in page().splitlines() if row.endswith("|  |")]


def _sections() -> Iterator[str]:
    yield "## compute\n\nNo DVC parameter: it does not change what a result means."
    yield _table(params.Compute)
    yield "## evaluation"
    yield _table(params.Evaluation)


def _corpora() -> Iterator[str]:
    yield "## corpora\n\nA block for each corpus, by its name."
    yield _table(params.Corpus)

    yield "### source\n\nOne of `builtin`, `files`, `bundle` and `path`."
    names = config.module_names("pipeline.grammars")
    writers = [
        name
        for name in names
        if hasattr(config.named_module("pipeline.grammars", name, name), "write")
    ]
    yield f"`builtin`: a `grammar` ({_names(writers)}), and its settings."
    yield _table(grammar.Config, "grammars.Config")
    common = {field.name for field in dataclasses.fields(grammar.Config)}
    for name in writers:
        module = config.named_module("pipeline.grammars", name, name)
        kind = getattr(module, "Config", grammar.Config)
        keys = [field.name for field in dataclasses.fields(kind) if field.name not in common]
        if keys:
            yield f"`grammar: {name}` also has these."
            yield _table(kind, name, keys=keys)
    yield "`files`: a list of sections, one for each file."
    yield _table(wanted.Listed)
    yield "`bundle`: the many small files in some folders of a tar, packed as one tar.gz."
    yield _table(wanted.Bundle)
    yield "`path`: your own files."
    yield _table(source.PathSource)

    yield "### read\n\nBy the `format` of the corpus."
    yield from _modules("corpora")
    for kind in _nested("corpora"):
        yield f"#### {_heading(kind)}\n\n{_about(kind)}"
        yield _table(kind)

    yield "### split\n\n`official`, if the corpus has train, valid and test; or one of these."
    for split in (params.Split, params.Folds, params.OutOfTrain):
        yield _about(split)
        yield _table(split)
    yield f"### text\n\n{_about(tokens.Text)}"
    yield _table(tokens.Text)
    yield "### vocab"
    yield _table(vocab.Vocab)
    yield _about(vocab.NoVocab)
    yield _table(vocab.NoVocab)
    yield "### samples\n\nA list of sections."
    yield _table(params.Sample)


def _settings() -> Iterator[str]:
    yield "## settings\n\nA block for each setting, by its name: all of a model but data and seed."
    yield _table(params.Setting)
    yield "### model\n\nBy the `family` of the runs."
    yield from _modules("models")
    yield "### objective\n\nBy the `task` of the runs; null for families that are only fitted."
    yield from _modules("tasks")
    yield "### optim\n\nBy its `name`."
    for kind in typing.get_args(optim.Config):
        yield f"#### {_literal(kind)}\n\n{_about(kind)}"
        yield _table(kind)
    yield "### schedule\n\nBy its `name`."
    for kind in typing.get_args(optim.Schedule):
        yield f"#### {_literal(kind)}\n\n{_about(kind)}"
        yield _table(kind)
    yield "### training"
    yield _table(loop.Config)
    yield "### search\n\nBy its `method`; null for tasks without a search."
    yield from _modules("decoding")
    yield "#### penalty"
    yield _table(Penalty)
    yield "#### constraints"
    yield _table(Constraints)

    yield "## runs\n\nA line for each run, by its name: a setting with a seed."
    keys = [
        field for field in dataclasses.fields(params.Run) if field.name not in params.SETTING_KEYS
    ]
    yield _table(params.Run, keys=[field.name for field in keys])


def _modules(package: str) -> Iterator[str]:
    """Heading, beginning of the docstring and table of each module's block."""
    for name in config.module_names(f"pipeline.{package}"):
        module = config.named_module(f"pipeline.{package}", name, name)
        about = _first_paragraph(module.__doc__ or "")
        yield f"#### {name}\n\n{about}"
        kinds = list(module.OBJECTIVES) if hasattr(module, "OBJECTIVES") else [module.Config]
        for kind in kinds:
            if len(kinds) > 1:
                yield f"`method`: {_literal(kind, 'method')}."
            yield _table(kind, name if package != "corpora" else f"{name} corpora")


def _nested(package: str) -> list[Any]:
    """Dataclasses inside the blocks of the package, each once."""
    kinds: dict[Any, None] = {}
    for name in config.module_names(f"pipeline.{package}"):
        waiting = [config.named_module(f"pipeline.{package}", name, name).Config]
        while waiting:
            for hint in typing.get_type_hints(waiting.pop()).values():
                inner = [kind for kind in _leaves(hint) if dataclasses.is_dataclass(kind)]
                kinds |= dict.fromkeys(inner)
                waiting += inner
    return list(kinds)


def _leaves(hint: Any) -> list[Any]:
    arguments = typing.get_args(hint)
    return [leaf for part in arguments for leaf in _leaves(part)] if arguments else [hint]


def _table(cls: Any, scope: str = "", keys: Sequence[str] | None = None) -> str:
    """A row for each key of the dataclass: type and meaning."""
    hints = typing.get_type_hints(cls)
    if not hints:
        return "No keys: `{}`."
    documented = _documented(cls)
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key in keys or hints:
        scopes = [*scope.split(), cls.__name__]
        known = [f"{name}.{key}" for name in scopes if f"{name}.{key}" in MEANINGS]
        meaning = MEANINGS[known[0]] if known else documented.get(key) or MEANINGS.get(key, "")
        value = config.expected_type(hints[key])
        rows.append(f"| `{key}` | {_cell(value)} | {_cell(meaning)} |")
    return "\n".join(rows)


def _documented(cls: type) -> dict[str, str]:
    """Meanings of keys in the docstrings of the dataclass and of those that it extends."""
    meanings: dict[str, str] = {}
    for part in reversed(cls.__mro__[:-1]):
        text = " ".join((part.__doc__ or "").split())
        markers = list(_MARKER.finditer(text))
        ends = [*(marker.start() for marker in markers[1:]), len(text)][: len(markers)]
        for marker, end in zip(markers, ends, strict=True):
            meaning = text[marker.end() : end].partition(" - `")[0].rstrip(" .;")
            meanings |= dict.fromkeys(re.findall(r"\w+", marker[1].replace(" and ", " ")), meaning)
    return meanings


def _about(cls: type) -> str:
    """The docstring up to its first key."""
    text = " ".join((cls.__doc__ or "").split())
    marker = _MARKER.search(text)
    return _escaped(text[: marker.start()] if marker else text)


def _first_paragraph(text: str) -> str:
    return _escaped(" ".join(text.split("\n\n")[0].split()))


def _literal(cls: type, key: str = "name") -> str:
    return " and ".join(typing.get_args(typing.get_type_hints(cls)[key]))


def _heading(cls: type) -> str:
    return " ".join(re.findall("[A-Z][a-z]+", cls.__name__)).lower()


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text without tags of HTML, such as <eos>; those in backticks are none."""
    return re.sub(r"(`[^`]*`)|<(?=\w)", lambda match: match[1] or "&lt;", text)


def _main() -> None:
    prepare_output()
    sys.stdout.write(page())


if __name__ == "__main__":
    _main()
