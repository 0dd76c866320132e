"""Scores of word vectors on the benchmarks of the corpus: word classes, word similarity, analogies.

Benchmarks do not depend on a split: each is a test set as a whole. So their scores are stored with
the test split, and there is no validation score. The first benchmark ranks.

Words and pairs of words are resampled one by one, although pairs share words. That makes little of
a difference: on wikitext2's vectors the true variance of a difference is 1.07 times the estimated
one on WordSim-353, and 1.17 times on SimLex-999. On analogies it would be 2.1 times: questions with
the same answer are one unit there.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.scoring import vectors
from pipeline.scoring.blocks import by_text
from pipeline.scoring.significance import Array, Bootstrap, sum_by_block
from pipeline.scoring.tasks import Inputs, Interface, Promotion, Scoring

_MAIN = "agreement"
_COLUMNS = (
    ("neighbours of same class", "classes.score", "{:.3f}"),
    ("by chance", "classes.chance", "{:.3f}"),
    ("WordSim-353", "wordsim353.score", "{:.3f}"),
    ("pairs", "wordsim353.items", "{:,}"),
    ("SimLex-999", "simlex999.score", "{:.3f}"),
    ("analogies", "analogies.score", "{:.1%}"),
)
_MEANING = (
    "Agreement is the score on the first benchmark of the corpus. "
    "If a grammar wrote the text, the benchmark is its word classes: the share of a word's nearest "
    "neighbours that are of its class. "
    "As many neighbours count as the class has other words, at most ten. "
    "`by chance` is the share that random neighbours would have. "
    "On natural text the benchmark is word similarity: Spearman's correlation between the cosine "
    "of two words and people's ratings, over the pairs with two known words. "
    "An analogy counts as solved if the word nearest to b - a + c is the expected one, the three "
    "words of the question excluded."
)

# Tables of the benchmarks; all others are word similarity.
_SCHEMAS = {"classes": tables.BENCHMARK_CLASSES, "analogies": tables.BENCHMARK_ANALOGIES}


class WordVectors:
    """Vectors of length 1, with their words."""

    def __init__(self, table: pa.Table) -> None:
        self.tokens = table["token"].combine_chunks()
        numbers = table["vector"].combine_chunks().values.to_numpy().astype(np.float64)
        self.unit_VD = vectors.unit_length(numbers.reshape(len(table), -1))

    def indices(self, words: pa.ChunkedArray) -> pa.Array:
        """Index of each word's vector; null for a word without one."""
        return pc.index_in(words.combine_chunks(), self.tokens)


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of benchmarks, which are normalized as the text is: it does not depend on
    case."""
    return Scoring(
        schema=tables.SCORES_VECTORS,
        rows=rows,
        summary=summary,
        by_length=by_length,
        sums=sums,
        units=units,
        score=score,
        higher_is_better=True,
        difference="agreement",
        main=_MAIN,
        main_score=score,
        main_title="agreement",
        main_name="agreement",
        scale=(0.0, 1.0),
        decimals=3,
        columns=_COLUMNS,
        further=(),
        title="Word vectors",
        length="tokens",
        unit="pair",
        meaning=_MEANING,
        d2l_bleu=False,
    )


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Rows of each benchmark, in order; none for splits other than test. UserError if the corpus
    has no benchmark."""
    if split != "test":
        return tables.SCORES_VECTORS.empty_table()

    # Files are named <number>_<name>.parquet.
    folder = inputs.tokens / "benchmarks"
    files = sorted(folder.glob("*.parquet"), key=lambda file: int(file.stem.partition("_")[0]))
    if not files:
        raise refuse(
            str(folder),
            "no benchmark",
            "at least one benchmark of word vectors",
            "Add one under the corpus's read.benchmarks.",
        )

    path = inputs.predictions / "vectors.parquet"
    table = tables.read(path, tables.VECTORS)
    if not len(table):
        raise refuse(str(path), "no vectors", "one for each word", "Delete it and run `dvc repro`.")
    word_vectors = WordVectors(table)

    parts = []
    for file in files:
        name = file.stem.partition("_")[2]
        evaluate = {"classes": _classes, "analogies": _analogies}.get(name, _similarity)
        benchmark = tables.read(file, _SCHEMAS.get(name, tables.BENCHMARK_SIMILARITY))
        columns = evaluate(word_vectors, benchmark)
        parts.append({"benchmark": [name] * len(columns["item"]), **columns})
    if not parts[0]["benchmark"]:
        raise refuse(
            str(files[0]),
            "no word with a vector",
            "some",
            "Lower vocab.min_count, or name another benchmark.",
        )

    joined = {
        field.name: [value for part in parts for value in part[field.name]]
        for field in list(tables.SCORES_VECTORS)[1:]
    }
    return pa.table(
        {"row": range(len(joined["benchmark"])), **joined}, schema=tables.SCORES_VECTORS
    )


def units(table: pa.Table) -> Array:
    """Units of the first benchmark: units_U2 [1, share], or units_U6 for `vectors.correlation`."""
    return _units(_first_benchmark(table))


def sums(table: pa.Table) -> Array:
    """The same sums for each row of the first benchmark."""
    return _sums(_first_benchmark(table))


def _first_benchmark(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["benchmark"], table["benchmark"][0]))


def score(sums_RK: Array) -> Array:
    """The mean share of sums_R2, or the correlation of ranks of sums_R6.

    Ranks are those among all pairs: they are not computed again for each resample.
    """
    if sums_RK.shape[1] == 2:
        mean: Array = sums_RK[:, 1] / np.maximum(sums_RK[:, 0], 1)
        return mean
    return vectors.correlation(sums_RK)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Each benchmark's score with its interval and the number of words, pairs or questions covered;
    `agreement` is the first benchmark's."""
    if not len(table):
        return {}
    metrics: dict[str, Any] = {}

    for name in pc.unique(table["benchmark"]).to_pylist():
        rows = table.filter(pc.equal(table["benchmark"], name))
        metrics[name] = bootstrap.estimate(_units(rows), score) | {"items": len(rows)}
        if name == "classes":
            metrics[name]["chance"] = pc.mean(rows["expected"]).as_py()
        if name == "analogies":
            metrics[name]["sections"] = _sections(rows)
    return {_MAIN: metrics[table["benchmark"][0].as_py()], **metrics}


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """No rows: the length of words does not matter here."""
    return []


def _sections(rows: pa.Table) -> dict[str, dict[str, Any]]:
    """Share of solved analogies and their number, by section."""
    sections = rows.group_by("section").aggregate([("predicted", "mean"), ("predicted", "count")])
    return {
        row["section"]: {"score": row["predicted_mean"], "items": row["predicted_count"]}
        for row in sections.to_pylist()
    }


def _units(rows: pa.Table) -> Array:
    return sum_by_block(_sums(rows), rows["block"].to_numpy())


def _sums(rows: pa.Table) -> Array:
    # A share per row, or the sums of Pearson's correlation.
    x = rows["predicted"].to_numpy()
    if rows["benchmark"][0].as_py() in _SCHEMAS:
        return np.stack([np.ones(len(x)), x], 1)
    y = rows["expected"].to_numpy()
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], 1)


def _classes(word_vectors: WordVectors, benchmark: pa.Table) -> dict[str, Any]:
    """For each word the share of neighbours of its class, and the share expected by chance."""
    # Leave out words without a vector.
    index = word_vectors.indices(benchmark["token"])
    is_covered = pc.is_valid(index)
    covered = benchmark.filter(is_covered)
    classes = covered["class"].combine_chunks().dictionary_encode()

    purity_N, chance_N = vectors.neighbour_purity(
        word_vectors.unit_VD,
        index.drop_null().to_numpy().astype(np.int64),
        classes.indices.to_numpy().astype(np.int64),
    )
    return {
        "block": np.flatnonzero(is_covered.to_numpy(zero_copy_only=False)),
        "section": covered["class"].to_pylist(),
        "item": covered["token"].to_pylist(),
        "predicted": purity_N,
        "expected": chance_N,
    }


def _similarity(word_vectors: WordVectors, benchmark: pa.Table) -> dict[str, Any]:
    """For each pair the cosine and the human rating, as ranks among the covered pairs."""
    # Spearman's correlation is Pearson's correlation of the ranks.
    covered, block_N, index_N2 = _covered(word_vectors, benchmark, ("first", "second"))
    unit_VD = word_vectors.unit_VD
    cosine_N = (unit_VD[index_N2[:, 0]] * unit_VD[index_N2[:, 1]]).sum(1)
    items = [f"{row['first']} {row['second']}" for row in covered.to_pylist()]
    return {
        "block": block_N,
        "section": [None] * len(items),
        "item": items,
        "predicted": vectors.ranks(cosine_N),
        "expected": vectors.ranks(covered["score"].to_numpy()),
    }


def _analogies(word_vectors: WordVectors, benchmark: pa.Table) -> dict[str, Any]:
    """For each question 1.0 if it is solved, else 0.0."""
    columns = ("first", "second", "third", "fourth")
    covered, block_N, index_N4 = _covered(word_vectors, benchmark, columns)
    solution_N = vectors.solve_analogies(word_vectors.unit_VD, index_N4[:, :3])
    items = [" ".join(row[name] for name in columns) for row in covered.to_pylist()]
    # The answer is found by the same two vectors in all questions that ask for it.
    answers = pc.binary_join_element_wise(benchmark["third"], benchmark["fourth"], " ")
    return {
        "block": by_text(answers)[block_N],
        "section": covered["section"].to_pylist(),
        "item": items,
        "predicted": (solution_N == index_N4[:, 3]).astype(np.float64),
        "expected": [None] * len(items),
    }


def _covered(
    word_vectors: WordVectors, benchmark: pa.Table, columns: tuple[str, ...]
) -> tuple[pa.Table, Any, Any]:
    """The rows whose words all have vectors, their positions in the benchmark, and the indices of
    the vectors, one column per word."""
    indices = [word_vectors.indices(benchmark[name]) for name in columns]
    is_covered = np.logical_and.reduce(
        [pc.is_valid(index).to_numpy(zero_copy_only=False) for index in indices]
    )
    mask = pa.array(is_covered)
    chosen = [index.filter(mask).to_numpy().astype(np.int64) for index in indices]
    return benchmark.filter(mask), np.flatnonzero(is_covered), np.stack(chosen, 1)


PROMOTION = Promotion(
    guards=("score", "coverage"),
    validation=None,
    likelihood_text=None,
    same_normalization=False,
    same_vocabulary=False,
    selection=None,
    has_splits=False,
    outputs=None,
)
INTERFACE = Interface(
    outputs={"text": "string"},
    params={},
    example="king",
    command="neighbours",
)
