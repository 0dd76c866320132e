"""Texts from users at every level of text: their case, and the words that a vocabulary lacks."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.core import tables
from pipeline.predictor import unknown_words
from pipeline.text import bpe, vocab
from pipeline.text.encode import Codec, Description
from pipeline.text.input_codec import input_codec
from pipeline.text.tokens import LEVELS, Level, normalise, split

LOWERCASE = ["the cat sees a dog", "a dog's élan , été"]
CASED = [*LOWERCASE, "Paris is big"]
CORPORA = {"lowercase": LOWERCASE, "cased": CASED}


def folder_of(root: Path, texts: list[str], level: Level) -> Path:
    """The vocabulary of the texts, which were not lowercased, as the vocab stage writes it."""
    tokens = split(normalise(pa.array(texts), False, False), level)
    settings = vocab.Vocab(
        corpus="x", size=300 if level == "bpe" else None, min_count=1, share=True
    )
    if level == "bpe":
        tokenizer = bpe.train([tokens], settings)
        tokenizer.save(str(root / "text.tokenizer.json"))
        table = bpe.table(tokenizer, bpe.count(tokenizer, tokens))
    else:
        table = vocab.table(vocab.count(tokens), settings)
    tables.write(root / "text.parquet", table)
    Description(
        level=level,
        lowercase=False,
        letters_only=False,
        share=True,
        sides=("text",),
        sizes={"text": len(table)},
    ).save(root)
    return root


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("corpus", CORPORA)
def test_texts_of_the_corpus_have_the_ids_of_the_encode_stage(
    corpus: str, level: Level, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, CORPORA[corpus], level)
    texts = pa.array(CORPORA[corpus])
    assert (
        input_codec(folder, "text").encode(texts).equals(Codec.load(folder, "text").encode(texts))
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("corpus", CORPORA)
def test_capitals_are_small_letters_only_where_the_text_has_no_capitals(
    corpus: str, level: Level, tmp_path: Path
) -> None:
    codec = input_codec(folder_of(tmp_path, CORPORA[corpus], level), "text")
    plain, shouted = codec.encode(
        pa.array(["the cat sees a dog's élan", "The CAT sees a DOG'S E\u0301LAN"])
    ).to_pylist()
    assert (plain == shouted) == (corpus == "lowercase")


@pytest.mark.parametrize(
    ("level", "corpus", "words"),
    [
        ("word", "lowercase", ["fish", "!"]),
        ("word", "cased", ["The", "fish", "!"]),
        ("space", "lowercase", ["fish!"]),
        ("char", "lowercase", ["f", "i", "!"]),
        ("bpe", "lowercase", []),
    ],
)
def test_unknown_words_are_those_that_the_vocabulary_lacks_each_once(
    level: Level, corpus: str, words: list[str], tmp_path: Path
) -> None:
    codec = input_codec(folder_of(tmp_path, CORPORA[corpus], level), "text")
    texts = ["a dog", "", "The ___ fish! sees the fish!"]
    assert unknown_words(codec, texts) == [[], [], words]
