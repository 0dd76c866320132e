"""A trained run as an object: texts in, texts, labels, words or attention weights out.

Shapes: H heads, T output tokens, S input tokens, D dimensions."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.core.errors import refuse
from seqline.arguments import Root, Texts, check_texts, items, project_root

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

    from seqline import trained


_NEIGHBOURS = 5
_SEARCHES = ("translate", "generate")
# Methods by the command that the run answers; None for numbers.
_ABILITIES: dict[str | None, tuple[str, ...]] = {
    "translate": ("translate", "n_best"),
    "generate": ("generate",),
    "classify": ("classify",),
    "fill": ("fill", "fill_n_best"),
    "neighbours": ("neighbours", "analogy"),
    None: ("forecast",),
}


class Hypothesis(NamedTuple):
    """An output of a search: its text and its natural log-probability."""

    text: str
    log_prob: float


class Label(NamedTuple):
    """The likeliest label of a text and its probability; "" and 0.0 for a text without words."""

    label: str
    probability: float


class Neighbour(NamedTuple):
    """A word near another one, and the cosine of the angle between their vectors."""

    word: str
    cosine: float


@dataclasses.dataclass(frozen=True, slots=True)
class Attention:
    """Attention weights of one translation.

    `weights` is an array of H x T x S float32: for each head, a row for each output token and a
    column for each input token; each row sums to 1. `heads`, `target` and `source` are the names of
    these three axes. The tokens end in `<eos>`, and `house (unk)` is a word that the model does not
    know. `text` is the translation."""

    text: str
    source: list[str]
    target: list[str]
    heads: list[str]
    weights: NDArray[np.float32]

    def frame(self, head: int = 0) -> pd.DataFrame:
        """The weights T x S of one head, with the output tokens as index and the input tokens as
        columns."""
        import pandas as pd

        return pd.DataFrame(self.weights[head], index=self.target, columns=self.source)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Draw all heads to a PNG file."""
        from pipeline.inference import AttentionWeights
        from pipeline.runs.heatmap import draw

        out = Path(file).expanduser()
        if out.suffix != ".png":
            raise refuse("file", str(file), "a name that ends in .png")
        by_name = dict(zip(self.heads, self.weights, strict=True))
        draw(AttentionWeights(self.source, self.target, by_name), out)

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows for a cell's last value."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save(picture := Path(folder) / "attention.png")
            return picture.read_bytes()


class Model:
    """A trained run, which `load` returns.

    `name`: the run. `setting`, `family`, `task`, `corpus` and `seed`: as in params.yaml.
    `abilities`: the methods that it answers; the others raise UserError."""

    def __init__(self, run: trained.Run) -> None:
        """Load the weights; used by `load`."""
        self.name = run.name
        self.setting: str = run.block.setting
        self.family: str = run.block.family
        self.task: str = run.block.task
        self.corpus: str = run.block.corpus
        self.seed: int = run.block.seed
        self._run = run
        self._part = run.open()
        self._ranking: Any = None
        self.abilities: tuple[str, ...] = _ABILITIES[run.command]
        if run.command in _SEARCHES and hasattr(self._part.model, "attention"):
            self.abilities += ("attention",)
        if run.command == "classify" and run.ranks_labels:
            self.abilities += ("rank",)

    def network(self) -> nn.Module:
        """A new copy of the trained torch module, in evaluation mode. `pipeline/contracts.py` has
        its interface."""
        return self._run.network()

    def translate(self, texts: Texts, *, prefixes: Texts | None = None) -> list[str]:
        """Translate each text with the run's search; "" for a text without words.

        With `prefixes`, one per text, each translation begins with its prefix."""
        best = self._translations(texts, 1, prefixes)
        return [hypotheses[0].text for hypotheses in best]

    def n_best(
        self, texts: Texts, n: int, *, prefixes: Texts | None = None
    ) -> list[list[Hypothesis]]:
        """The `n` best translations of each text, best first, in a beam of at least that width.

        A text without words has one, which is empty."""
        return self._translations(texts, n, prefixes)

    def attention(self, texts: Texts, *, prefixes: Texts | None = None) -> list[Attention]:
        """The best translation of each text with its attention weights.

        UserError for a model without attention, or a text without words."""
        session = self._require("attention")
        texts = self._checked(texts, "texts")
        pairs = session.attention(texts, _check_prefixes(prefixes, texts))
        return [
            Attention(
                prediction.text,
                weights.columns,
                weights.rows,
                list(weights.weights),
                np.stack(list(weights.weights.values())),
            )
            for prediction, weights in pairs
        ]

    def generate(self, prefixes: Texts, *, seed: int | None = None) -> list[str]:
        """Continue each prefix with the language model; "" begins a new text.

        `seed` replaces the run's own for a search that samples: another one gives other texts."""
        session = self._require("generate")
        texts: list[str] = session.generate(self._checked(prefixes, "prefixes"), seed)
        return texts

    def classify(
        self, texts: Texts | Sequence[os.PathLike[str]] | Sequence[tuple[str, str]]
    ) -> list[Label]:
        """The likeliest label of each text; for a model of pictures, of each PNG file; for a model
        of pairs, of each (premise, hypothesis)."""
        classify = self._require("classify")
        return [_label(item) for item in classify(self._classifier_inputs(texts))]

    def rank(self, texts: Texts | Sequence[tuple[str, str]]) -> list[list[Label]]:
        """All labels of each text or pair, the likeliest first; none for a text without words."""
        self._require("rank")
        if self._ranking is None:
            self._ranking = self._run.open_ranking()
        ranked = self._ranking(self._classifier_inputs(texts))
        return [[_label(item) for item in row] for row in ranked]

    def fill(self, texts: Texts) -> list[str]:
        """Fill each blank, written ___, with its likeliest word; "" for a text without words."""
        filler = self._require("fill")
        return [row["text"] for row in filler.predict(self._checked(texts, "texts"), {})]

    def fill_n_best(self, texts: Texts, n: int) -> list[list[list[Hypothesis]]]:
        """The `n` likeliest words of each blank of each text, with their log-probabilities."""
        filler = self._require("fill_n_best")
        texts = self._checked(texts, "texts")
        _check_count(n)
        return [
            [[Hypothesis(item.text, item.log_prob) for item in best] for best in blanks]
            for blanks in (
                filler.words(text, n) if has_tokens else []
                for text, has_tokens in zip(texts, filler.has_tokens(texts), strict=True)
            )
        ]

    def neighbours(self, words: Texts, *, n: int = _NEIGHBOURS) -> list[list[Neighbour]]:
        """The `n` words with the nearest vectors by cosine, for each word.

        UserError for a word that has no vector."""
        vectors = self._require("neighbours")
        _check_count(n)
        return [
            [Neighbour(*pair) for pair in vectors.neighbours(word, n)]
            for word in check_texts(words, "words")
        ]

    def analogy(self, a: str, b: str, c: str, *, n: int = _NEIGHBOURS) -> list[Neighbour]:
        """The `n` words that are to `c` as `b` is to `a`: nearest to b - a + c.

        UserError for a word that has no vector."""
        vectors = self._require("analogy")
        _check_count(n)
        return [Neighbour(*pair) for pair in vectors.analogy(*check_texts([a, b, c], "words"), n)]

    def forecast(self, inputs: Sequence[Sequence[float]], *, steps: int = 1) -> list[float]:
        """The value that comes `steps` after the last number of each list of numbers."""
        predictor = self._require("forecast")
        texts = [
            " ".join(str(float(number)) for number in items(numbers, f"inputs[{i}]"))
            for i, numbers in enumerate(items(inputs, "inputs"))
        ]
        return [row["value"] for row in predictor(texts, {"steps": steps})]

    def unknown_words(self, texts: Texts) -> list[list[str]]:
        """The words of each text that the model's vocabulary lacks; it reads them as `<unk>`.

        The methods warn of them (UserWarning)."""
        return self._run.unknown_words(check_texts(texts, "texts"))

    def __repr__(self) -> str:
        abilities = ", ".join(self.abilities)
        return f"<{self.name}: {self.family}, {self.task} on {self.corpus}; {abilities}>"

    def _translations(self, texts: Texts, n: int, prefixes: Texts | None) -> list[list[Hypothesis]]:
        session = self._require("translate")
        texts = self._checked(texts, "texts", 3)
        lists = session.translate(texts, n, _check_prefixes(prefixes, texts))
        return [[Hypothesis(item.text, item.log_prob) for item in best[:n]] for best in lists]

    def _checked(self, texts: Any, where: str, frames: int = 2) -> list[str]:
        """The texts as a list, after a warning of words that the model does not know, as if at the
        call `frames` calls above."""
        checked = check_texts(texts, where)
        self._run.warn_of_unknown_words(checked, frames + 1)
        return checked

    def _classifier_inputs(self, inputs: Any) -> list[str]:
        texts = [_classifier_input(item) for item in items(inputs, "texts")]
        return self._checked(texts, "texts", 3)

    def _require(self, ability: str) -> Any:
        """The part that answers the method; UserError if the model has no such method."""
        if ability not in self.abilities:
            *first, last = self.abilities
            expected = " or ".join(filter(None, [", ".join(first), last]))
            todo = "See `seqline.runs()`, and load another run."
            raise refuse(self.name, ability, f"{expected}, as it is a model of {self.task}", todo)
        return self._part


def load(name: str, root: Root = None, *, device: str | None = None) -> Model:
    """Load a trained run of the project `root`.

    `name` is a run (`transformer-2`); a setting, which stands for its first run (`transformer`); or
    a registered version by its alias (`translation-toy_en_fr@champion`). `@champion` is the only
    champion.

    `device`: cpu, cuda, cuda:N, mps or auto; that of params.yaml if it is left out.

    UserError if there is no such run, or if it is not trained."""
    if not isinstance(name, str):
        raise TypeError(f"name: got {type(name).__name__}; expected the name of a run.")
    from seqline import trained

    return Model(trained.find(project_root(root), name, device))


def _label(item: Any) -> Label:
    return Label(item.text, math.exp(item.log_prob))


def _check_count(n: int) -> None:
    if n < 1:
        raise refuse("n", n, "at least 1")


def _classifier_input(item: Any) -> Any:
    """A picture's name, or a pair, as the text that a classifier takes."""
    if isinstance(item, os.PathLike):
        return os.fspath(item)
    if isinstance(item, tuple) and all(isinstance(side, str) for side in item):
        return "\t".join(item)
    return item


def _check_prefixes(prefixes: Any, texts: Sequence[str]) -> list[str] | None:
    if prefixes is None:
        return None
    checked = check_texts(prefixes, "prefixes")
    if len(checked) != len(texts):
        raise refuse("prefixes", f"{len(checked)} texts", f"{len(texts)}, one for each text")
    return checked
