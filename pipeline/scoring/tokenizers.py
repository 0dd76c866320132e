"""Selection of BLEU's tokenizer by the script of a corpus's references.

`auto` counts the letters of all references (train, valid and test; outputs play no part):
- `13a` unless more than half of the letters belong to a script that is written without spaces
  between words;
- of those scripts, `char` if Thai, Lao, Khmer, Burmese or Tibetan are the majority;
- else Japanese if more than a tenth of the Han and kana characters are kana: `ja-mecab` if its
  library is installed, else `char`;
- else `zh`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.core.params import AUTO, Tokenizer

SPLITS = ("train", "valid", "test")
# With these tokenizers, TER splits Han and kana into characters too.
ASIAN = ("zh", "ja-mecab", "char")

_HAN = r"\p{Han}"
_KANA = r"[\p{Hiragana}\p{Katakana}]"
_SOUTHEAST = r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_LETTERS = r"[\p{L}\p{M}]"
_PIECES = r"[^\s\x{A0}\x{3000}\x{200B}]+"  # runs of characters between spaces
_BY_SPACES = ("13a", "intl", "none")
_LONG = 8  # characters per piece: if spaces separate words, these scripts have shorter words
_JAPANESE = 10  # Japanese has more than one kana in ten characters of Han and kana


@dataclass(frozen=True, slots=True)
class Script:
    """Numbers of characters in texts, by script, and of pieces between spaces."""

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
        """Name in messages for the script of a text that is mostly written without spaces."""
        if self.southeast > self.han + self.kana:
            return "a script of Southeast Asia or Tibet"
        return "Japanese" if self.japanese else "Han characters"

    @property
    def japanese(self) -> bool:
        """True if a text of Han and kana is Japanese: Chinese texts quote a few kana at most."""
        return _JAPANESE * self.kana > self.han + self.kana

    @property
    def mostly_unspaced(self) -> bool:
        """True if more than half of the letters belong to scripts without spaces."""
        return 2 * self.unspaced > self.letters


def script(batches: Iterable[pa.StringArray]) -> Script:
    """Script of all texts of the batches together."""
    totals = [0, 0, 0, 0, 0]
    for texts in batches:
        for number, pattern in enumerate((_LETTERS, _HAN, _KANA, _SOUTHEAST, _PIECES)):
            totals[number] += pc.sum(pc.count_substring_regex(texts, pattern)).as_py() or 0
    return Script(*totals)


def references(tokens: Path) -> Script:
    """Script of the references in a folder of the tokenize stage, over train, valid and test."""
    readers = (
        tables.batches(file, tables.TOKENS_PAIR, columns=["target"])
        for file in [tokens / f"{split}.parquet" for split in SPLITS]
        if file.exists()
    )
    batches = (batch for reader in readers for batch in reader)
    return script(batch["target"] for batch in batches)


def choose(counts: Script) -> Tokenizer:
    """The tokenizer of `auto`, see the module's docstring."""
    if not counts.mostly_unspaced:
        return "13a"
    if counts.southeast > counts.han + counts.kana:
        return "char"
    if counts.japanese:
        return "ja-mecab" if installed("ja-mecab") else "char"
    return "zh"


def resolve(
    setting: Literal["auto", Tokenizer], counts: Script, where: str
) -> tuple[Tokenizer, str]:
    """The tokenizer for the setting under the key `where`, and a warning if it does not fit the
    script, else ""."""
    if setting == AUTO:
        return choose(counts), ""
    require(setting, where)
    return setting, _misfit(setting, counts, where)


@cache
def installed(tokenizer: str) -> bool:
    """Return whether the tokenizer's library is installed; only `ja-mecab` needs one."""
    if tokenizer != "ja-mecab":
        return True
    from sacrebleu.metrics import BLEU

    try:
        BLEU(tokenize=tokenizer)
    except RuntimeError:  # from sacreBLEU, for a missing library
        return False
    return True


def require(tokenizer: str, where: str) -> None:
    """UserError if the tokenizer's library is not installed."""
    if not installed(tokenizer):
        raise refuse(
            where,
            f"{tokenizer}, whose library is not installed",
            "a tokenizer that works here",
            "Install mecab-python3 and ipadic, or use char.",
        )


def _misfit(tokenizer: Tokenizer, counts: Script, where: str) -> str:
    """A warning if the tokenizer does not fit the script, else ""."""
    suggestion = f"auto would choose {choose(counts)}"
    without_spaces = counts.mostly_unspaced and counts.unspaced > _LONG * max(counts.pieces, 1)
    if tokenizer in _BY_SPACES and without_spaces:
        return (
            f"{where} is {tokenizer}, which needs spaces between words, but the references are "
            f"written without them ({counts.name}): BLEU counts whole phrases as words; "
            f"{suggestion}"
        )
    if tokenizer == "ja-mecab" and not (counts.mostly_unspaced and counts.japanese):
        return f"{where} is ja-mecab, but the references are not Japanese; {suggestion}"
    return ""
