"""Byte-level byte-pair encoding by the `tokenizers` library: text -> ids -> text is exact.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; bytes and word
pattern as in GPT-2. The library splits text into words before it merges, and a word's leading space
belongs to the word. Normalised text has single spaces, so each distinct word is encoded once (bare
at a text's beginning, with its space elsewhere) and Arrow lays the pieces out. The specials own ids
0 to 3 but are no added tokens: `<eos>` written in a text is five ordinary characters."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.text import vocab
from pipeline.text.specials import SPECIALS
from pipeline.text.tokens import lists, offsets
from pipeline.text.vocab import Vocab


def train(batches: Iterable[pa.ListArray], config: Vocab) -> Tokenizer:
    """A tokenizer of at most `config.size` ids (see `check_pieces`) of lists of words; the same
    words give the same one."""
    assert config.size is not None
    learnt = _bare(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=config.size,
        min_frequency=config.min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learnt.train_from_iterator(
        (pc.binary_join(words, " ").to_pylist() for words in batches), trainer
    )
    model = json.loads(learnt.to_str())["model"]
    return _bare(models.BPE(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]))


def load(path: Path) -> Tokenizer:
    """The tokenizer at `path`; UserError if there is none, or if it is damaged."""
    if not path.exists():
        raise refuse(
            str(path), "no such file", "a tokenizer of the vocab stage", "Run `dvc repro`."
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        # the library raises `Exception` itself, whatever is wrong with the file
        raise refuse(
            str(path),
            " ".join(str(error).split()),
            "a tokenizer of the vocab stage",
            vocab.REPAIR_ADVICE,
        ) from None


def encode(tokenizer: Tokenizer, words: pa.ListArray) -> pa.ListArray:
    """Lists of words to lists of ids (list<int32>): those of the words joined by spaces."""
    flat, starts = words.flatten().dictionary_encode(), offsets(words)
    follows = np.ones(len(flat), np.int64)
    follows[starts[:-1][starts[:-1] < len(flat)]] = 0
    codes = flat.indices.to_numpy() * np.int64(2) + follows
    distinct, places = np.unique(codes, return_inverse=True)
    bare = flat.dictionary.take(pa.array(distinct // 2))
    texts = pc.binary_join_element_wise(pc.if_else(pa.array(distinct % 2 == 1), " ", ""), bare, "")
    found = [
        piece.ids for piece in tokenizer.encode_batch(texts.to_pylist(), add_special_tokens=False)
    ]
    pieces = pa.array(found, pa.list_(pa.int32())).take(pa.array(places))
    return lists(offsets(pieces)[starts], pieces.flatten())


def decode(tokenizer: Tokenizer, ids: Sequence[Sequence[int]]) -> list[str]:
    """Texts of ids without specials; bytes that are no UTF-8 show as U+FFFD."""
    texts: list[str] = tokenizer.decode_batch([list(row) for row in ids], skip_special_tokens=False)
    return texts


def count(tokenizer: Tokenizer, words: pa.ListArray) -> pa.Table:
    """As `vocab.count`, but of the pieces of lists of words, and by their ids."""
    return vocab.count(encode(tokenizer, words))


def table(tokenizer: Tokenizer, counts: pa.Table) -> pa.Table:
    """The vocabulary (`tables.VOCAB`) with each piece's count, as `count` has it; pieces as the
    library writes them."""
    size = tokenizer.get_vocab_size()
    numbers = np.zeros(size, np.int64)
    numbers[counts["token"].to_numpy()] = counts["count"].to_numpy()
    tokens = [tokenizer.id_to_token(number) for number in range(size)]
    return pa.table(
        [pa.array(tokens), pa.array(range(size), pa.int32()), pa.array(numbers)],
        schema=tables.VOCAB,
    )


def _bare(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
