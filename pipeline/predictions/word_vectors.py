"""Results of word vectors' training: the vectors, as a table and in word2vec's text format, and
words' neighbours."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import params, tables
from pipeline.inference import check_sizes
from pipeline.predictions import PredictionRequest
from pipeline.tasks import word_vectors
from pipeline.text.encode import SPACE, Codec
from pipeline.text.specials import SPECIALS
from pipeline.training import checkpoint

_NEIGHBOURS, _TELLING = 5, 3  # neighbours shown of a word, and words shown of a sample: its rarest


def predict(asked: PredictionRequest, out: Path) -> None:
    """Write `vectors.parquet`, `vectors.txt` and `samples.parquet`."""
    table = vectors(asked)
    tables.write(out / "vectors.parquet", table)
    (out / "vectors.txt").write_text(text_format(table), encoding="utf-8")
    tables.write(
        out / "samples.parquet", samples(asked.samples, table, Codec.load(asked.vocab, "text"))
    )


def vectors(asked: PredictionRequest) -> pa.Table:
    """`tables.VECTORS` of the run; UserError if its vocabulary is not the one that it was trained
    with."""
    check_sizes(asked.model, asked.vocab, word_vectors.SOURCE_TARGET)
    known = tables.read(asked.vocab / "text.parquet", tables.VOCAB)
    weights, _ = checkpoint.load(asked.model / "model.safetensors")
    vector_VD = weights["input.weight"].numpy()[len(SPECIALS) :]
    ends = np.arange(len(vector_VD) + 1, dtype=np.int32) * vector_VD.shape[1]
    column = pa.ListArray.from_arrays(ends, pa.array(vector_VD.ravel()))
    words = known.slice(len(SPECIALS)).combine_chunks()
    return pa.table([words["token"], words["id"], words["count"], column], schema=tables.VECTORS)


def text_format(table: pa.Table) -> str:
    """The authors' format: `words dimension`, then a line per word with its numbers, here the
    shortest that tell them.

    A token's spaces are written as ▁, since a space ends it.
    """
    vector = table["vector"].combine_chunks()
    numbers = pa.ListArray.from_arrays(vector.offsets, pc.cast(vector.values, pa.string()))
    tokens = pc.replace_substring(table["token"].combine_chunks(), " ", SPACE)
    lines = pc.binary_join_element_wise(tokens, pc.binary_join(numbers, " "), " ")
    dimension = len(vector.values) // max(len(vector), 1)
    return "\n".join([f"{len(table)} {dimension}", *lines.to_pylist()]) + "\n"


def samples(asked: tuple[params.Sample, ...], table: pa.Table, codec: Codec) -> pa.Table:
    """`tables.SAMPLES`: of each sample the rarest words, each with its nearest neighbours by
    cosine."""
    tokens = table["token"].to_pylist()
    vector_VD = np.asarray(table["vector"].combine_chunks().values).reshape(len(tokens), -1)
    unit_VD = vector_VD / np.maximum(np.linalg.norm(vector_VD, axis=1, keepdims=True), 1e-12)
    rows = []
    for number, sample in enumerate(asked):
        ids = codec.encode(pa.array([sample.prompt], pa.string())).to_pylist()[0]
        # ids go by count, downwards
        telling = sorted({i - len(SPECIALS) for i in ids if i >= len(SPECIALS)})[-_TELLING:]
        shown = "; ".join(
            f"{tokens[word]}: {', '.join(tokens[i] for i in _nearest(unit_VD, word))}"
            for word in telling
        )
        rows.append(
            {"row": number, "prompt": sample.prompt, "reference": sample.reference, "text": shown}
        )
    return pa.Table.from_pylist(rows, tables.SAMPLES)


def _nearest(unit_VD: NDArray[np.float32], word: int) -> list[int]:
    cosine_V = unit_VD @ unit_VD[word]
    order = np.argsort(-cosine_V, kind="stable")
    return [int(i) for i in order[order != word][:_NEIGHBOURS]]
