"""Text to ids and back, with the vocabulary of a corpus's `vocab` stage.

A vocabulary's folder holds `<side>.parquet` (`tables.VOCAB`) for each side (text; or source and
target), for bpe `<side>.tokenizer.json` as well, `label.parquet` if the texts have labels
(`pipeline.text.labels`), and `vocab.json` (`Description`)."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline.core import config
from pipeline.core.errors import read_json, refuse
from pipeline.text import bpe, vocab
from pipeline.text.specials import BOS, EOS, PAD, SPECIALS, UNK
from pipeline.text.tokens import Level, join, lists, normalise, offsets, split

_TODO = "Run `dvc checkout` of its folder, or `dvc repro -f` of the stage encode."
SPACE = "▁"  # replaces a space in plots


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """`vocab.json`: settings of normalising and splitting, and the number of ids of each side, and
    of labels if there are any. A corpus without text has no sides, and `level` is null."""

    level: Level | None
    lowercase: bool
    letters_only: bool
    share: bool
    sides: tuple[str, ...]
    sizes: dict[str, int]

    def save(self, folder: Path) -> None:
        (folder / "vocab.json").write_text(
            json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8"
        )


def describe(folder: Path) -> Description:
    """Read the description of the vocabulary in `folder`; UserError if there is none."""
    path = folder / "vocab.json"
    values = read_json(path, "what the vocab stage writes", vocab.REPAIR_ADVICE)
    description: Description = config.load(Description, values, str(path))

    sides = description.sides
    sizes = description.sizes
    has_text = description.level is not None
    if bool(sides) != has_text or set(sides) - set(sizes) or min(sizes.values(), default=1) < 1:
        value = f"sides {', '.join(sides)} and sizes {sizes}"
        raise refuse(str(path), value, "the number of ids of each side", vocab.REPAIR_ADVICE)
    return description


class Codec:
    """Encoder and decoder of one side. Ids are without `<bos>` and `<eos>`, which the tasks add."""

    def __init__(
        self, description: Description, tokens: pa.StringArray, tokenizer: Tokenizer | None
    ) -> None:
        """`tokens`: the token of each id. `tokenizer`: for bpe only."""
        assert description.level is not None
        assert (description.level == "bpe") == (tokenizer is not None)
        self.level: Level = description.level
        self.size = len(tokens)
        self._description = description
        self._tokens = tokens
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, side: str) -> "Codec":
        """Load the vocabulary of `side` in `folder`; UserError if there is none."""
        description = describe(folder)
        if side not in description.sides:
            raise refuse(str(folder), f"side {side}", "one of " + ", ".join(description.sides))

        tokens = vocab.load(folder / f"{side}.parquet", description.sizes.get(side), SPECIALS)
        tokenizer = (
            bpe.load(folder / f"{side}.tokenizer.json") if description.level == "bpe" else None
        )
        if tokenizer is not None and tokenizer.get_vocab_size() != len(tokens):
            path = folder / f"{side}.tokenizer.json"
            size = tokenizer.get_vocab_size()
            raise refuse(
                str(path),
                f"{size} pieces",
                f"{len(tokens)}, as {side}.parquet has",
                vocab.REPAIR_ADVICE,
            )
        return cls(description, tokens, tokenizer)

    def encode(self, texts: pa.StringArray) -> pa.ListArray:
        """Encode raw texts as lists of ids (list<int32>), normalised and split like the training
        text."""
        return self.encode_tokens(
            split(
                normalise(texts, self._description.lowercase, self._description.letters_only),
                self.level,
            )
        )

    def unknown(self, text: str) -> list[str]:
        """Tokens of a raw text that the vocabulary lacks; bpe lacks none."""
        if self.level == "bpe":
            return []
        tokens = self._split(text)
        missing: list[str] = tokens.filter(
            pc.is_null(pc.index_in(tokens, self._tokens))
        ).to_pylist()
        return missing

    def name_unknown(self, names: Sequence[str], text: str) -> list[str]:
        """The display forms `names` of a raw text's ids, with the word behind each `<unk>`:
        `house (unk)`. Names of further ids may follow."""
        if self.level == "bpe":
            return list(names)
        words = self._split(text).to_pylist()
        return [
            f"{word} (unk)" if name == SPECIALS[UNK] and word not in (None, name) else name
            for name, word in itertools.zip_longest(names, words[: len(names)])
        ]

    def _split(self, text: str) -> pa.Array:
        """The tokens of a raw text."""
        description = self._description
        texts = normalise(
            pa.array([text], pa.string()), description.lowercase, description.letters_only
        )
        return split(texts, self.level).flatten()

    def encode_tokens(self, tokens: pa.ListArray) -> pa.ListArray:
        """Encode tokens of the tokenize stage as ids; a token outside the vocabulary is `<unk>`."""
        if self._tokenizer is not None:
            return bpe.encode(self._tokenizer, tokens)

        ids = pc.fill_null(pc.index_in(tokens.flatten(), self._tokens), UNK)
        numbers = ids.to_numpy()
        # "<eos>" written in a text is an unknown word, not the end.
        literal = np.isin(numbers, [PAD, BOS, EOS])
        if literal.any():
            ids = pa.array(np.where(literal, UNK, numbers).astype(np.int32))
        return lists(offsets(tokens), ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode one list of ids, without specials (except `<unk>`, which stays visible)."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Decode many lists of ids, as `decode`."""
        plain_ids = [[number for number in row if number not in (PAD, BOS, EOS)] for row in ids]
        if self._tokenizer is not None:
            return bpe.decode(self._tokenizer, plain_ids)

        rows = pa.array(plain_ids, pa.list_(pa.int32()))
        tokens = lists(offsets(rows), self._tokens.take(rows.flatten()))
        texts: list[str] = join(tokens, self.level).to_pylist()
        return texts

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Display form of each id's token: specials by name, spaces as ▁, bpe's bytes as text."""
        names = [self._tokens[int(number)].as_py() for number in ids]
        if self._tokenizer is not None:
            pieces = bpe.decode(self._tokenizer, [[number] for number in ids])
            names = [
                name if number < len(SPECIALS) else piece
                for number, name, piece in zip(ids, names, pieces, strict=True)
            ]
        return [name.replace(" ", SPACE) for name in names]


def check_ids(table: pa.Table, sizes: Mapping[str, int], path: Path) -> None:
    """Refuse a table of the encode stage that is damaged or does not fit the vocabulary.

    `sizes`: the number of ids by side, as `Description` has it.
    """
    if not np.array_equal(table["row"].to_numpy(), np.arange(len(table))):
        raise refuse(str(path), "rows out of order", f"the rows 0 to {len(table) - 1}", _TODO)

    for column in table.schema.names:
        side = "text" if column in ("ids", "premise", "hypothesis") else column
        if side not in sizes:
            continue

        ids = table[column].combine_chunks()
        ids = ids.flatten() if pa.types.is_list(ids.type) else ids
        if table[column].null_count or ids.null_count:
            raise refuse(str(path), f"rows without {column}", f"{column} in every row", _TODO)

        bounds = pc.min_max(ids)
        lowest = bounds["min"].as_py()
        highest = bounds["max"].as_py()
        if len(ids) and (lowest < 0 or highest >= sizes[side]):
            value = f"the id {lowest if lowest < 0 else highest} in the column {column}"
            raise refuse(
                str(path), value, f"ids from 0 to {sizes[side] - 1}, as the vocabulary has", _TODO
            )
