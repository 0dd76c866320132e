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

    from pipeline.inference import Session
    from seqline import trained


_NEIGHBOURS = 5


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
    these three axes. The tokens end in <eos>. `text` is the translation."""

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
        from pipeline.cli.translate import draw
        from pipeline.inference import AttentionWeights

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
        self.abilities: tuple[str, ...]

        self._part: Any
        if run.uses_search:
            self._part = run.open_session()
            self.abilities = _abilities_of_search(self._part)
        elif hasattr(run.predictions, "open_classifier"):
            self._part = run.open_classifier()
            self.abilities = ("classify",)
        elif hasattr(run.predictions, "vectors"):
            self._part = run.open_vectors()
            self.abilities = ("neighbours", "vectors")
        else:
            self._part = run.open_predictor()
            self.abilities = ("forecast",) if run.forecasts else ("fill",)

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
        texts = check_texts(texts, "texts")
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
        texts: list[str] = session.generate(check_texts(prefixes, "prefixes"), seed)
        return texts

    def classify(
        self, texts: Texts | Sequence[os.PathLike[str]] | Sequence[tuple[str, str]]
    ) -> list[Label]:
        """The likeliest label of each text; for a model of pictures, of each PNG file; for a model
        of pairs, of each (premise, hypothesis)."""
        classify = self._require("classify")
        inputs = [_classifier_input(item) for item in items(texts, "texts")]
        predictions = classify(check_texts(inputs, "texts"))
        return [Label(item.text, math.exp(item.log_prob)) for item in predictions]

    def fill(self, texts: Texts) -> list[str]:
        """Fill each blank, written ___, with its likeliest word."""
        predictor = self._require("fill")
        return [row["text"] for row in predictor(check_texts(texts, "texts"), {})]

    def forecast(self, inputs: Sequence[Sequence[float]], *, steps: int = 1) -> list[float]:
        """The value that comes `steps` after the last number of each list of numbers."""
        predictor = self._require("forecast")
        texts = [
            " ".join(str(float(number)) for number in items(numbers, f"inputs[{i}]"))
            for i, numbers in enumerate(items(inputs, "inputs"))
        ]
        return [row["value"] for row in predictor(texts, {"steps": steps})]

    def neighbours(self, words: Texts, *, n: int = _NEIGHBOURS) -> list[list[Neighbour]]:
        """The `n` words with the nearest vectors by cosine, for each word.

        UserError for a word that has no vector."""
        vectors = self._require("neighbours")
        return [
            [Neighbour(*pair) for pair in vectors.nearest(word, n, f"words[{i}]")]
            for i, word in enumerate(check_texts(words, "words"))
        ]

    def vectors(self, words: Texts) -> NDArray[np.float32]:
        """The vectors of the words, as an array of one row of D numbers for each.

        UserError for a word that has no vector."""
        vectors = self._require("vectors")
        rows = [
            vectors.of(word, f"words[{i}]") for i, word in enumerate(check_texts(words, "words"))
        ]
        return np.stack(rows) if rows else np.empty((0, vectors.dimension), np.float32)

    def __repr__(self) -> str:
        abilities = ", ".join(self.abilities)
        return f"<{self.name}: {self.family}, {self.task} on {self.corpus}; {abilities}>"

    def _translations(self, texts: Texts, n: int, prefixes: Texts | None) -> list[list[Hypothesis]]:
        session = self._require("translate")
        texts = check_texts(texts, "texts")
        lists = session.translate(texts, n, _check_prefixes(prefixes, texts))
        return [[Hypothesis(item.text, item.log_prob) for item in best[:n]] for best in lists]

    def _require(self, ability: str) -> Any:
        """The part that answers the method; UserError if the model has no such method."""
        if ability not in self.abilities:
            *others, last = self.abilities
            expected = " or ".join(filter(None, [", ".join(others), last]))
            todo = "See `seqline.runs()`, and load another run."
            raise refuse(self.name, ability, f"{expected}, as it is a model of {self.task}", todo)
        return self._part


def load(name: str, root: Root = None, *, device: str | None = None) -> Model:
    """Load a trained run of the project `root`.

    `name` is a run (`transformer-2`); a setting, which stands for its first run (`transformer`); or
    the champion: `@champion` if there is only one, else `translation-toy_en_fr@champion`.

    `device`: cpu, cuda, cuda:N, mps or auto; that of params.yaml if it is left out.

    UserError if there is no such run, or if it is not trained."""
    if not isinstance(name, str):
        raise TypeError(f"name: got {type(name).__name__}; expected the name of a run.")
    from seqline import trained

    return Model(trained.find(project_root(root), name, device))


def _abilities_of_search(session: Session) -> tuple[str, ...]:
    if session.continues_prompt:
        return ("generate",)
    attention = ("attention",) if hasattr(session.model, "attention") else ()
    return ("translate", "n_best", *attention)


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
