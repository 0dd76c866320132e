"""The tokenizer of BLEU that fits a corpus: chosen by the script of its references, or checked against it.

`auto` counts the letters of all references (train, valid and test; answers play no part):
- `13a` unless more than half of the letters belong to a script that is written without spaces between words;
- of those scripts, `char` if Thai, Lao, Khmer, Burmese or Tibetan are the majority;
- else Japanese if more than a tenth of the Han and kana characters are kana: `ja-mecab` if its library is installed, else
  `char`;
- else `zh`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.errors import refuse
from pipeline.params import AUTO, Tokenizer

SPLITS = ("train", "valid", "test")
ASIAN = ("zh", "ja-mecab", "char")  # for these, TER sets the characters of Han and kana apart as well

_HAN = r"\p{Han}"
_KANA = r"[\p{Hiragana}\p{Katakana}]"
_SOUTHEAST = r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_LETTERS = r"[\p{L}\p{M}]"
_PIECES = r"[^\s\x{A0}\x{3000}\x{200B}]+"  # what spaces set apart
_BY_SPACES = ("13a", "intl", "none")
_LONG = 8  # characters: where spaces set words apart, these scripts' words are shorter on average
_JAPANESE = 10  # more than one in ten of Han and kana


@dataclass(frozen=True, slots=True)
class Script:
    """Numbers of characters in texts, by script, and of the pieces that spaces set apart."""

    letters: int
    han: int
    kana: int
    southeast: int
    pieces: int

    @property
    def unspaced(self) -> int:
        """Characters of scripts that are written without spaces between words."""
        return self.han + self.kana + self.southeast

    @property
    def name(self) -> str:
        """The script in words, of a text that is mostly written without spaces."""
        if self.southeast > self.han + self.kana:
            return "a script of Southeast Asia or Tibet"
        return "Japanese" if self.japanese else "Han characters"

    @property
    def japanese(self) -> bool:
        """Whether a text of Han and kana is Japanese: Chinese quotes a kana at most."""
        return _JAPANESE * self.kana > self.han + self.kana

    @property
    def mostly_unspaced(self) -> bool:
        """Whether more than half of the letters belong to scripts without spaces."""
        return 2 * self.unspaced > self.letters


def script(batches: Iterable[pa.StringArray]) -> Script:
    """The script of all texts of the batches together."""
    totals = [0, 0, 0, 0, 0]
    for texts in batches:
        for number, pattern in enumerate((_LETTERS, _HAN, _KANA, _SOUTHEAST, _PIECES)):
            totals[number] += pc.sum(pc.count_substring_regex(texts, pattern)).as_py() or 0
    return Script(*totals)


def references(tokens: Path) -> Script:
    """The script of the references in a folder of the tokenize stage: of its splits train, valid and test."""
    found = (tokens / f"{split}.parquet" for split in SPLITS)
    files = [path for path in found if path.exists()]
    batches = (batch for path in files for batch in tables.batches(path, tables.TOKENS_PAIR, columns=["target"]))
    return script(batch["target"] for batch in batches)


def choose(found: Script) -> Tokenizer:
    """The tokenizer of `auto`, as the module's docstring says."""
    if not found.mostly_unspaced:
        return "13a"
    if found.southeast > found.han + found.kana:
        return "char"
    if found.japanese:
        return "ja-mecab" if installed("ja-mecab") else "char"
    return "zh"


def resolve(asked: str, found: Script, where: str) -> tuple[Tokenizer, str]:
    """The tokenizer for the key `where`, and a warning if the one asked for does not fit the script, else nothing."""
    if asked == AUTO:
        return choose(found), ""
    tokenizer: Tokenizer = asked  # type: ignore[assignment]  # checked when the params file was loaded
    require(tokenizer, where)
    return tokenizer, _misfit(tokenizer, found, where)


@cache
def installed(tokenizer: str) -> bool:
    """Whether the tokenizer's library is here; all but `ja-mecab` need none."""
    if tokenizer != "ja-mecab":
        return True
    from sacrebleu.metrics import BLEU

    try:
        BLEU(tokenize=tokenizer)
    except RuntimeError:  # sacreBLEU's word for a library that is missing
        return False
    return True


def require(tokenizer: str, where: str) -> None:
    """UserError if the tokenizer's library is not installed."""
    if not installed(tokenizer):
        todo = "Install mecab-python3 and ipadic, or use char."
        raise refuse(where, f"{tokenizer}, whose library is not installed", "a tokenizer that works here", todo)


def _misfit(tokenizer: Tokenizer, found: Script, where: str) -> str:
    fitting = choose(found)
    without_spaces = found.mostly_unspaced and found.unspaced > _LONG * max(found.pieces, 1)
    if tokenizer in _BY_SPACES and without_spaces:
        return (
            f"{where} is {tokenizer}, which needs spaces between words, but the references are written without them "
            f"({found.name}): BLEU counts whole phrases as words; auto would choose {fitting}"
        )
    if tokenizer == "ja-mecab" and not (found.mostly_unspaced and found.japanese):
        return f"{where} is ja-mecab, but the references are not Japanese; auto would choose {fitting}"
    return ""
