"""Texts with blanks to fill in.

Samples with a blank are for blank fillers and masked language models."""

import pyarrow as pa

from pipeline.text.encode import Codec

BLANK = "___"  # a token to fill in
_PLACEHOLDER = "a"


def encode_around_blanks(codec: Codec, text: str) -> list[list[int]]:
    """Ids of the parts before, between and after the blanks of a text.

    The ids are those that the parts have in the text with its blanks filled. A part encoded by
    itself would lose the space between it and a blank, which is a character, or, for bpe, belongs
    to the next word. So a part with such a space is encoded next to a placeholder."""
    parts = text.split(BLANK)
    [placeholder] = codec.encode(pa.array([_PLACEHOLDER])).to_pylist()
    before = [number > 0 and part[:1].isspace() for number, part in enumerate(parts)]
    after = [codec.level == "char" and part[-1:].isspace() for part in parts[:-1]] + [False]
    padded = [
        _PLACEHOLDER * first + part + _PLACEHOLDER * last
        for first, part, last in zip(before, parts, after, strict=True)
    ]

    # Remove the placeholders' ids.
    encoded = codec.encode(pa.array(padded)).to_pylist()
    return [
        ids[len(placeholder) * first : len(ids) - last]
        for first, ids, last in zip(before, encoded, after, strict=True)
    ]
