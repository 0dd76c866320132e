"""Predictions of word vectors: the vectors, as a table and in word2vec's text format, and the
nearest neighbours of sample words. A family that reads letters has vectors of unknown words too."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts import ComposedVectors, Spelled
from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.predictions import PredictionRequest, Predictor, Row, TrainedRun
from pipeline.text.encode import SPACE, Codec
from pipeline.text.input_codec import input_codec
from pipeline.text.specials import SPECIALS

_NEIGHBOURS = 5  # per word
_WORDS = 3  # per sample: its rarest words


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `vectors.parquet`, `vectors.txt` and `samples.parquet`."""
    model, table = vectors(request)
    tables.write(out / "vectors.parquet", table)
    (out / "vectors.txt").write_text(text_format(table), encoding="utf-8")
    codec = input_codec(request.vocab, "text")
    tables.write(out / "samples.parquet", samples(request.samples, table, codec, model))


def vectors(request: PredictionRequest) -> tuple[Any, pa.Table]:
    """The model and `tables.VECTORS` of the run; UserError if the vocabulary is not that of its
    training."""
    model: Any = request.network()
    vocab = tables.read(request.vocab / "text.parquet", tables.VOCAB)

    # Leave out the special tokens, which have the first ids.
    composed = model.vectors() if isinstance(model, ComposedVectors) else model.input.weight
    vector_VD = composed.detach().cpu().numpy()[len(SPECIALS) :]
    words = vocab.slice(len(SPECIALS)).combine_chunks()
    offsets = np.arange(len(vector_VD) + 1, dtype=np.int32) * vector_VD.shape[1]
    column = pa.ListArray.from_arrays(offsets, pa.array(vector_VD.ravel()))
    columns = [words["token"], words["id"], words["count"], column]
    return model, pa.table(columns, schema=tables.VECTORS)


def text_format(table: pa.Table) -> str:
    """The format of word2vec: a line `words dimension`, then a line per word with its vector.

    Numbers are the shortest that give the same float32. Spaces in a token are written as ▁, since
    a space ends the token.
    """
    vector = table["vector"].combine_chunks()
    numbers = pa.ListArray.from_arrays(vector.offsets, pc.cast(vector.values, pa.string()))
    tokens = pc.replace_substring(table["token"].combine_chunks(), " ", SPACE)
    lines = pc.binary_join_element_wise(tokens, pc.binary_join(numbers, " "), " ")
    dimension = len(vector.values) // max(len(vector), 1)
    return "\n".join([f"{len(table)} {dimension}", *lines.to_pylist()]) + "\n"


def samples(
    queries: Sequence[params.Sample], table: pa.Table, codec: Codec, model: Any
) -> pa.Table:
    """`tables.SAMPLES`: the rarest words of each sample, and unknown ones that the model can spell,
    with their nearest neighbours by cosine."""
    tokens = table["token"].to_pylist()
    unit_VD = _unit_length(table)
    rows = []
    for number, sample in enumerate(queries):
        ids = codec.encode(pa.array([sample.prompt], pa.string())).to_pylist()[0]
        # The rarest words have the highest ids: the vocabulary is sorted by count.
        rarest = sorted({i - len(SPECIALS) for i in ids if i >= len(SPECIALS)})[-_WORDS:]
        near = {
            tokens[word]: _nearest(unit_VD @ unit_VD[word], {word}, _NEIGHBOURS) for word in rarest
        }
        if isinstance(model, Spelled):
            near |= _nearest_unknown(sample.prompt, codec, model, unit_VD)
        text = "; ".join(
            f"{word}: {', '.join(tokens[i] for i in neighbours)}"
            for word, neighbours in near.items()
        )
        rows.append(
            {"row": number, "prompt": sample.prompt, "reference": sample.reference, "text": text}
        )
    return pa.Table.from_pylist(rows, tables.SAMPLES)


def _unit_length(table: pa.Table) -> NDArray[np.float32]:
    """unit_VD: the vectors of the table, scaled to length 1."""
    vector_VD = np.asarray(table["vector"].combine_chunks().values).reshape(len(table), -1)
    length_V1 = np.linalg.norm(vector_VD, axis=1, keepdims=True)
    unit_VD: NDArray[np.float32] = vector_VD / np.maximum(length_V1, 1e-12)
    return unit_VD


def _nearest(cosine_V: NDArray[np.float32], without: Set[int | None], count: int) -> list[int]:
    """The `count` words with the highest cosine, except for the words `without`."""
    order = np.argsort(-cosine_V, kind="stable")[: count + len(without)]
    return [int(word) for word in order if word not in without][:count]


def _nearest_unknown(
    text: str, codec: Codec, model: Spelled, unit_VD: NDArray[np.float32]
) -> dict[str, list[int]]:
    """The nearest words of the first unknown words of the text that have n-grams."""
    words = list(dict.fromkeys(codec.unknown(text)))[:_WORDS]
    vector_UD = model.spell(words).cpu().numpy()
    return {
        word: _nearest(unit_VD @ vector_D, set(), _NEIGHBOURS)
        for word, vector_D in zip(words, vector_UD, strict=True)
        if vector_D.any()
    }


class Neighbour(NamedTuple):
    """A word, and the cosine of the angle between its vector and that of the request."""

    text: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a trained run: `tokens`, with their vectors of length 1 in the same order."""

    model: Any
    codec: Codec
    tokens: list[str]
    unit_VD: NDArray[np.float32]

    def neighbours(self, word: str, count: int) -> list[Neighbour]:
        """The `count` words whose vectors are nearest to that of `word`; UserError for an unknown
        word."""
        number, vector_D = self._find(word)
        return self._neighbours(vector_D, {number}, count)

    def analogy(self, a: str, b: str, c: str, count: int) -> list[Neighbour]:
        """The `count` words x for which `a is to b as c is to x`: those nearest to b - a + c other
        than a, b and c (Mikolov et al. 2013c, with vectors of length 1). UserError for an unknown
        word."""
        (a_number, a_D), (b_number, b_D), (c_number, c_D) = map(self._find, (a, b, c))
        target_D = b_D - a_D + c_D
        unit_D = target_D / max(float(np.linalg.norm(target_D)), 1e-12)
        return self._neighbours(unit_D, {a_number, b_number, c_number}, count)

    def _find(self, word: str) -> tuple[int | None, NDArray[np.float32]]:
        """The word's number in `tokens` (None for one that is only spelled), and its vector."""
        [ids] = self.codec.encode(pa.array([word], pa.string())).to_pylist()
        if len(ids) == 1 and ids[0] >= len(SPECIALS):
            number = ids[0] - len(SPECIALS)
            return number, self.unit_VD[number]
        if len(ids) == 1 and isinstance(self.model, Spelled):
            vector_D = self.model.spell(self.codec.unknown(word)).cpu().numpy()[0]
            if vector_D.any():
                return None, vector_D / np.linalg.norm(vector_D)
        todo = config.nearest(word.lower(), self.tokens)
        raise refuse("word", word, "one word of the vocabulary", todo)

    def _neighbours(
        self, vector_D: NDArray[np.float32], without: Set[int | None], count: int
    ) -> list[Neighbour]:
        cosine_V = self.unit_VD @ vector_D
        nearest = _nearest(cosine_V, without, count)
        return [Neighbour(self.tokens[number], float(cosine_V[number])) for number in nearest]


def open_vectors(run: TrainedRun) -> Words:
    """Open a run to look up words near others."""
    model, table = vectors(run.request())
    codec = input_codec(run.vocab, "text")
    return Words(model, codec, table["token"].to_pylist(), _unit_length(table))


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `text`: the rarest words of each text with their nearest neighbours, `king: queen,
    prince`."""
    model, table = vectors(run.request())
    codec = input_codec(run.vocab, "text")

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        queries = [params.Sample(prompt=text, reference=None) for text in texts]
        neighbours = samples(queries, table, codec, model)
        return [{"text": text} for text in neighbours["text"].to_pylist()]

    return predict


PARAMS: dict[str, tuple[int, int]] = {}
