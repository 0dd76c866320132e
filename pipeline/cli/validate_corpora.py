"""`seqline check` of the section `corpora` of `params.yaml`."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.core.mistakes import Mistakes
from pipeline.corpora import kind_of
from pipeline.download import own
from pipeline.download import source as download
from pipeline.scoring import tokenizers
from pipeline.text import tokens, vocab

_MOST_SHOWN = 10  # names of files in a message


def kinds(path: Path, names: list[str], mistakes: Mistakes, files: bool) -> dict[str, str]:
    """Kind, such as `text` or `pair`, of each corpus of the params file that has no mistake; those
    of the others are collected. `files`: whether own files have to be there."""
    result: dict[str, str] = {}
    for name in names:
        with mistakes.collect():
            result[name] = check(path, name, files)
    # A vocabulary of another corpus depends on that one's blocks.
    for name in list(result):
        with mistakes.collect():
            _vocabulary(path, name, result)
    return result


def check(path: Path, name: str, files: bool) -> str:
    """Kind of a corpus; UserError for all mistakes in its block."""
    block = params.corpus(path, name)
    where = f"corpora.{name}"
    mistakes = Mistakes()

    kind = ""
    names: dict[str, str] = {}
    with mistakes.collect():
        reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
        read = config.load(reader.Config, block.read, f"{where}.read")
        names = dict(_file_names(read, f"{where}.read"))
        kind = kind_of(reader, read)
    with mistakes.collect():
        tokenizers.require(block.bleu_tokenizer, f"{where}.bleu_tokenizer")
    with mistakes.collect():
        params.split(block, where)
    with mistakes.collect():
        if block.limit is not None and block.limit < 1:
            raise refuse(f"{where}.limit", block.limit, "at least 1, or null for all rows")
    has_text = tables.has_text(kind) if kind else block.text is not None
    _check_text(block, has_text, where, mistakes)
    with mistakes.collect():
        _source(block.source, f"{where}.source")
        if files:
            _check_files(path.parent, block.source, names, where)
    mistakes.refuse()
    return kind


def _check_text(block: params.Corpus, has_text: bool, where: str, mistakes: Mistakes) -> None:
    text = None
    with mistakes.collect():
        text = tokens.load_text(block.text, has_text, f"{where}.text")
    with mistakes.collect():
        size = vocab.load_block(block.vocab, has_text, f"{where}.vocab")
        if text is not None and text.level == "bpe" and isinstance(size, vocab.Vocab):
            vocab.check_pieces(size, f"{where}.vocab")


def _vocabulary(path: Path, name: str, kinds: Mapping[str, str]) -> None:
    """Check a vocabulary that belongs to another corpus; one with mistakes is not compared.

    Both corpora must tokenize alike, or models of one could not read the other."""
    block = params.corpus(path, name)
    where = f"corpora.{name}"
    vocab_corpus = block.vocab["corpus"]
    corpora = config.section(path, "corpora")
    if vocab_corpus not in corpora:
        raise refuse(
            f"{where}.vocab.corpus",
            vocab_corpus,
            "one of " + ", ".join(corpora),
            f"{name} is its own vocabulary's name.",
        )
    if vocab_corpus not in kinds:
        return

    # Ids depend on the tokens too, so the text block must be the same as well.
    vocab_owner = params.corpus(path, vocab_corpus)
    for key in ("text", "vocab"):
        if getattr(vocab_owner, key) != getattr(block, key):
            raise refuse(
                f"{where}.{key}",
                "another block",
                f"that of {vocab_corpus}, whose vocabulary it takes",
                "Copy the block.",
            )


def _source(source: dict[str, Any], where: str) -> None:
    """As the download stage reads it, without fetching."""
    kind = download.kind(source, where)
    if kind == "builtin":
        download.load_grammar(source["builtin"], f"{where}.builtin")
    else:
        config.load(download.SECTIONS[kind], source, where)


def _check_files(
    root: Path, source: Mapping[str, Any], names: Mapping[str, str], where: str
) -> None:
    """UserError for a path that is not there, and for all files, by their dotted keys in `names`,
    that the source does not have."""
    if "path" in source:
        path = source["path"]
        if not os.path.isabs(path):
            path = os.path.relpath(root / path)
        held = [name for name, _ in own.contents(path, f"{where}.source.path")]
    elif "files" in source:
        held = [file["name"] for file in source["files"]]
    elif "bundle" in source:
        held = [source["bundle"]["name"]]
    else:
        return  # a grammar writes its files

    mistakes = Mistakes()
    for key, name in names.items():
        if name not in held:
            todo = config.nearest(name, held)
            expected = "one of " + ", ".join(held[:_MOST_SHOWN])
            expected += ", ..." if len(held) > _MOST_SHOWN else ""
            with mistakes.collect():
                raise refuse(key, f"{name}, which the source lacks", expected, todo)
    mistakes.refuse()


def _file_names(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Dotted key and name of each file that a block `read` names."""
    for key in ("files", "archive"):
        yield from _texts(getattr(value, key, ()), f"{where}.{key}")
    benchmarks = getattr(value, "benchmarks", None)
    if benchmarks is not None:
        for number, table in enumerate(benchmarks.similarity):
            yield f"{where}.benchmarks.similarity[{number}].file", table.file
        yield from _texts(benchmarks.analogies or (), f"{where}.benchmarks.analogies")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _texts(item, f"{where}[{number}]")
    else:
        items = value if isinstance(value, dict) else dataclasses.asdict(value)
        for key, item in items.items():
            yield from _texts(item, f"{where}.{key}")
