"""Text to tokens and back, in Arrow: one pass over a batch, no Python per row.

Every text is normalised first (`normalise`; applying it twice changes nothing):
- Unicode NFC, so that é is one character however it was typed;
- lower case where `lowercase` says so (one character stays one character: Unicode's simple
  mapping);
- characters of no width or mere direction are dropped: soft hyphen U+00AD, U+200B zero width space,
  U+200C/D joiners, U+200E/F and U+202A-202E directions, U+2060-206F, U+FEFF byte order mark,
  U+180E;
- `&amp; &lt; &gt; &quot; &#39; &#x27; &apos; &nbsp;` are resolved, `&amp;lt;` as well, and `<br />`
  is a space;
- every Unicode space (U+00A0, U+202F narrow, U+2009 thin, U+3000, U+2028, ...), tab, line feed,
  carriage return, U+0085 and every other control character is a space; runs of spaces become one;
  none at either end;
- with `letters_only`, everything but letters and the marks on them is a space: the book's rule for
  The Time Machine (Dive into Deep Learning, "Converting Raw Text into Sequence Data"), with
  Unicode's letters instead of A-Z.

Levels (`split`):
- `char`: every character is a token, the space too.
- `word`: the book's rule for translation ("Machine Translation and the Dataset": punctuation marks
  are tokens), Unicode-aware. A word is letters, marks and digits; apostrophes and hyphens within it
  stay (he's, don't, dix-huit), so do `. , :` between digits (3.14, 10:30). French elision, one of
  c d j l m n s t or qu before an apostrophe, is a separate token with its apostrophe:
  l'eau -> l' eau. `<unk>`, `@-@`, `@,@` and `@.@` stay whole; any other character is a token.
- `space`: separated by spaces: for text that is already tokenised, such as WikiText.
- `bpe`: as `space`. The tokens here are whole words; the encode stage splits them into subwords
  (`pipeline.text.bpe`).

`join` is the inverse of `split`: exact for char, space and bpe. For word,
`split(join(tokens)) == tokens`: `. , ! ? ; : ) ]` are joined to the word on their left, `( [` and
an elision to the one on their right, and all other tokens are separated by a space."""

import functools
import itertools
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import config
from pipeline.core.errors import refuse

SIDES = ("text", "source", "target", "premise", "hypothesis")  # columns of raw text

Level = Literal["char", "word", "space", "bpe"]
LEVELS: tuple[Level, ...] = ("char", "word", "space", "bpe")
Offsets = np.ndarray[tuple[int], np.dtype[np.int32]]

# Not `\p{Cf}`: explicit ranges mean the same in every version of Unicode.
_INVISIBLE = r"[\x{AD}\x{180E}\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{206F}\x{FEFF}]"
_SPACES = (
    r"[\x{00}-\x{1F}\x{7F}-\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]"
)
# Ampersands first and all at once: the other patterns then resolve the entities that this
# uncovers, and a second pass changes nothing.
_ENTITIES = (
    (r"&(?:(?i:amp);)+", "&"),
    (r"&(?i:lt);", "<"),
    (r"&(?i:gt);", ">"),
    (r"&(?i:quot);", '"'),
    (r"&(?:#39|#[xX]27|(?i:apos));", "'"),
    (r"&(?i:nbsp);", " "),
)
# From this many characters, and marks among them, NFC of the standard library is too slow.
_LONG, _MANY_MARKS = 2000, 50
_BREAK = r"<(?i:br) ?/?>"
# A break without its last character, at a text's end.
_OPEN_BREAK = re.compile(r"<[bB][rR] ?/?\Z")
# From a position without a letter that the marks could belong to, up to the next letter.
_NO_LETTERS = r"(?:^|[^\p{L}\p{M}])\P{L}*"

_ELISION = r"(?i:qu|[cdjlmnst])['’]"
_WORD = r"[\p{L}\p{M}\p{N}]+(?:['’\-][\p{L}\p{M}\p{N}]+)*"
_NUMBER = r"\p{N}+(?:[.,:]\p{N}+)+"
# RE2 takes the leftmost match and the first alternative: a space after every match separates the
# tokens. No groups: RE2 is five times slower with them.
_TOKEN = rf"<unk>|@[\-,.]@|{_ELISION}|{_NUMBER}|{_WORD}|[^ ]"
_LEANS_LEFT = r"^[.,!?;:)\]]$"
_LEANS_RIGHT = rf"^(?:[(\[]|{_ELISION})$"


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """The block `text` of a corpus.

    `max_tokens`: a row of more tokens (words, for bpe) is rejected; null accepts all rows.
    """

    level: Level
    lowercase: bool
    letters_only: bool
    max_tokens: int | None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise refuse("max_tokens", self.max_tokens, "at least 1, or null to keep every row")


def load_text(values: Any, has_text: bool, where: str) -> Text | None:
    """Load the block `text`, whose dotted name is `where`; None for a corpus without text, whose
    block is null."""
    if has_text:
        text: Text = config.load(Text, values, where)
        return text
    if values is not None:
        raise refuse(where, "a section", "null: the corpus has no text", "Set it to null.")
    return None


def normalise(texts: pa.StringArray, lowercase: bool, letters_only: bool) -> pa.StringArray:
    """Normalise texts (see the module's docstring); a null stays null."""
    texts = _composed(texts)
    if lowercase:
        texts = pc.utf8_lower(texts)
    texts = pc.replace_substring_regex(texts, _INVISIBLE, "")

    if pc.any(pc.match_substring(texts, "&")).as_py():
        for pattern, character in _ENTITIES:
            texts = pc.replace_substring_regex(texts, pattern, character)

    texts = pc.replace_substring_regex(texts, _SPACES, " ")
    texts = pc.replace_substring_regex(texts, "  +", " ")
    texts = _without_breaks(texts)

    # Compose again: dropped characters and lower case may have put accents next to letters.
    texts = _composed(texts)
    if letters_only:
        texts = pc.replace_substring_regex(texts, _NO_LETTERS, " ")
    return pc.ascii_trim(texts, characters=" ")


def split(texts: pa.StringArray, level: Level) -> pa.ListArray:
    """Split normalised texts into lists of tokens; an empty text has none."""
    if level == "char":
        return _characters(texts)
    if level == "word":
        separated = pc.replace_substring_regex(texts, _TOKEN, r"\0 ")
        texts = pc.ascii_rtrim(pc.replace_substring(separated, "  ", " "), characters=" ")
    return _words(texts)


def join(tokens: pa.ListArray, level: Level) -> pa.StringArray:
    """Join lists of tokens to texts: the inverse of `split`."""
    if level != "word":
        return pc.binary_join(tokens, "" if level == "char" else " ")

    words = tokens.flatten()
    starts = offsets(tokens)

    # Tokens without a space before them: punctuation, after an opening one, and the first of each.
    glued = pc.match_substring_regex(words, _LEANS_LEFT).to_numpy(zero_copy_only=False)
    glued[1:] |= pc.match_substring_regex(words, _LEANS_RIGHT).to_numpy(zero_copy_only=False)[:-1]
    glued[starts[:-1][starts[:-1] < len(words)]] = True
    spaced = pc.binary_join_element_wise(pc.if_else(pa.array(glued), "", " "), words, "")
    return pc.binary_join(lists(starts, spaced), "")


def round_trip(texts: pa.StringArray, text: Text) -> pa.StringArray:
    """Normalise, split and join texts: the form in which a perfect model would write them.

    References and predictions are put into this form before they are compared, so that a score
    measures the model and not the tokenization. Applying it twice changes nothing."""
    tokens = split(normalise(texts, text.lowercase, text.letters_only), text.level)
    return join(tokens, text.level)


def offsets(tokens: pa.ListArray) -> Offsets:
    """Offsets of each list in `tokens.flatten()`, and the end; correct for slices too."""
    if not len(tokens):
        return np.zeros(1, np.int32)
    absolute = tokens.offsets.to_numpy()
    from_zero: Offsets = absolute - absolute[0]
    return from_zero


def lists(starts: Offsets, values: pa.Array) -> pa.ListArray:
    """Lists of `values` that begin at `starts` (its last entry is the end)."""
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), values)


def _composed(texts: pa.StringArray) -> pa.StringArray:
    """Unicode NFC by the standard library: that of Arrow 25 leaves NFC decomposed
    (apache/arrow#51225).

    Texts without a character from U+0300 on are already in NFC; only the others pass through
    Python."""
    needed = pc.fill_null(pc.match_substring_regex(texts, r"[^\x{00}-\x{2FF}]"), False)
    if not pc.any(needed).as_py():
        return texts
    composed = [
        unicodedata.normalize("NFC", _decomposed(text) if _has_many_marks(text) else text)
        for text in texts.filter(needed).to_pylist()
    ]
    return pc.replace_with_mask(texts, needed, pa.array(composed, pa.string()))


def _has_many_marks(text: str) -> bool:
    """Return whether a text is long and may have long runs of marks."""
    if len(text) <= _LONG:
        return False
    marks = sum(map(bool, map(unicodedata.combining, text)))
    # Vowels of Tibetan that decompose into two marks each.
    return marks + sum(text.count(vowel) for vowel in "\u0f73\u0f75\u0f81") > _MANY_MARKS


def _decomposed(text: str) -> str:
    """Unicode NFD in time that grows with the text: the standard library sorts a run of n marks in
    n * n steps."""
    characters = (part for character in text for part in unicodedata.normalize("NFD", character))
    runs = itertools.groupby(characters, key=lambda character: unicodedata.combining(character) > 0)
    # Canonical ordering. The sort is stable: marks of one class keep their order.
    sort = functools.partial(sorted, key=unicodedata.combining)
    return "".join(part for marks, run in runs for part in (sort(run) if marks else run))


def _without_breaks(texts: pa.StringArray) -> pa.StringArray:
    """Replace each line break of HTML by a space, also nested ones as in `<br<br>>`."""
    if not pc.any(pc.match_substring_regex(texts, _BREAK)).as_py():
        return texts
    texts = pc.replace_substring_regex(pc.replace_substring_regex(texts, _BREAK, " "), "  +", " ")

    # A replacement may have formed a new break: only those texts pass through Python.
    nested = pc.fill_null(pc.match_substring_regex(texts, _BREAK), False)
    if not pc.any(nested).as_py():
        return texts
    reduced = [_reduced(text) for text in texts.filter(nested).to_pylist()]
    return pc.replace_with_mask(texts, nested, pa.array(reduced, pa.string()))


def _reduced(text: str) -> str:
    """Replace breaks of any nesting in one pass: repeated replacement takes quadratic time."""
    output: list[str] = []
    for character in text:
        if character == ">" and (opening := _OPEN_BREAK.search("".join(output[-5:]))):
            del output[len(output) - len(opening[0]) :]
            character = " "
        if character != " " or output[-1:] != [" "]:
            output.append(character)
    return "".join(output)


def _words(texts: pa.StringArray) -> pa.ListArray:
    parts = pc.split_pattern(texts, " ")
    empty = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    if not empty.any():
        return parts

    # split_pattern gives an empty text one empty token; drop it.
    counts = np.where(empty, 0, pc.list_value_length(parts).to_numpy(zero_copy_only=False))
    values = parts.flatten()
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
    return lists(starts, values.filter(pc.not_equal(values, "")))


def _characters(texts: pa.StringArray) -> pa.ListArray:
    """Split into characters without copying the bytes: an offset at every byte that does not
    continue a UTF-8 character (10xxxxxx)."""
    if not len(texts):
        return pa.array([], pa.list_(pa.string()))
    bounds = np.frombuffer(texts.buffers()[1], np.int32)[
        texts.offset : texts.offset + len(texts) + 1
    ]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[bounds[0] : bounds[-1]]
    starts = np.flatnonzero((data & 0xC0) != 0x80).astype(np.int32)
    ends = np.append(starts, np.int32(len(data))).astype(np.int32)
    values = pa.StringArray.from_buffers(len(starts), pa.py_buffer(ends), pa.py_buffer(data))
    return lists(np.searchsorted(starts, bounds - bounds[0]).astype(np.int32), values)
