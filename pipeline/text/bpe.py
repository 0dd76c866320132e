"""Byte-level byte-pair encoding by the `tokenizers` library: text -> ids -> text is exact.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; bytes and word
pattern as in GPT-2. The library splits text into words before it merges, and a word's leading space
belongs to the word. Normalised text has single spaces. So each distinct word is encoded only once
(without a space at a text's beginning, with it elsewhere), and Arrow copies the subwords to its
occurrences. The specials have ids 0 to 3 but are not added tokens: `<eos>` written in a text is
five ordinary characters."""

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
    """Train a tokenizer of at most `config.size` ids (see `check_pieces`) on lists of words;
    deterministic."""
    assert config.size is not None
    trained = _new_tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=config.size,
        min_frequency=config.min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(
        (pc.binary_join(words, " ").to_pylist() for words in batches), trainer
    )

    # Copy the model to a new tokenizer: training registers the specials as added tokens.
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return _new_tokenizer(models.BPE(vocab=model["vocab"], merges=merges))


def load(path: Path) -> Tokenizer:
    """Load the tokenizer at `path`; UserError if there is none, or if it is damaged."""
    if not path.exists():
        raise refuse(
            str(path), "no such file", "a tokenizer of the vocab stage", "Run `dvc repro`."
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises plain `Exception` for any damage.
        raise refuse(
            str(path),
            " ".join(str(error).split()),
            "a tokenizer of the vocab stage",
            vocab.REPAIR_ADVICE,
        ) from None


def encode(tokenizer: Tokenizer, words: pa.ListArray) -> pa.ListArray:
    """Encode lists of words, joined by spaces, as lists of ids (list<int32>)."""
    flat = words.flatten().dictionary_encode()
    starts = offsets(words)

    # Code of an occurrence: twice the word's number, plus 1 if a space precedes it.
    has_space = np.ones(len(flat), np.int64)
    has_space[starts[:-1][starts[:-1] < len(flat)]] = 0
    codes = flat.indices.to_numpy() * np.int64(2) + has_space
    distinct, positions = np.unique(codes, return_inverse=True)

    # Encode each distinct word once.
    plain = flat.dictionary.take(pa.array(distinct // 2))
    texts = pc.binary_join_element_wise(pc.if_else(pa.array(distinct % 2 == 1), " ", ""), plain, "")
    encodings = tokenizer.encode_batch(texts.to_pylist(), add_special_tokens=False)
    ids = pa.array([encoding.ids for encoding in encodings], pa.list_(pa.int32()))

    pieces = ids.take(pa.array(positions))
    return lists(offsets(pieces)[starts], pieces.flatten())


def decode(tokenizer: Tokenizer, ids: Sequence[Sequence[int]]) -> list[str]:
    """Decode ids without specials; bytes that are not UTF-8 become U+FFFD."""
    texts: list[str] = tokenizer.decode_batch([list(row) for row in ids], skip_special_tokens=False)
    return texts


def count(tokenizer: Tokenizer, words: pa.ListArray) -> pa.Table:
    """Count the subwords of lists of words by id, as `vocab.count`."""
    return vocab.count(encode(tokenizer, words))


def table(tokenizer: Tokenizer, counts: pa.Table) -> pa.Table:
    """Vocabulary (`tables.VOCAB`) with each subword's count; subwords in the library's notation."""
    size = tokenizer.get_vocab_size()
    numbers = np.zeros(size, np.int64)
    numbers[counts["token"].to_numpy()] = counts["count"].to_numpy()
    tokens = [tokenizer.id_to_token(number) for number in range(size)]
    return pa.table(
        [pa.array(tokens), pa.array(range(size), pa.int32()), pa.array(numbers)],
        schema=tables.VOCAB,
    )


def _new_tokenizer(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
