"""Scores of word vectors by the judges that come with the corpus: classes of words, similarity of
pairs, analogies.

Judges say nothing of a split; what they found stands with the test split. The first one ranks.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.scoring import vectors
from pipeline.scoring.significance import Array, Bootstrap
from pipeline.scoring.tasks import Inputs, Scoring

_MAIN = "judged"
_COLUMNS = (
    ("neighbours of same class", "classes.score", "{:.3f}"),
    ("by chance", "classes.chance", "{:.3f}"),
    ("WordSim-353", "wordsim353.score", "{:.3f}"),
    ("pairs", "wordsim353.covered", "{:,}"),
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

# all others are scored pairs
_JUDGES = {"classes": tables.JUDGE_CLASSES, "analogies": tables.JUDGE_ANALOGIES}


class WordVectors:
    """The vectors at length 1, and each word's place among them."""

    def __init__(self, table: pa.Table) -> None:
        self.tokens = table["token"].combine_chunks()
        numbers = table["vector"].combine_chunks().values.to_numpy().astype(np.float64)
        self.unit_VD = vectors.unit_length(numbers.reshape(len(table), -1))

    def indices(self, words: pa.ChunkedArray) -> pa.Array:
        """Null for a word that has no vector."""
        return pc.index_in(words.combine_chunks(), self.tokens)


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The same whatever the case: judges are normalised as the text is."""
    return Scoring(
        schema=tables.SCORES_VECTORS,
        rows=rows,
        summary=summary,
        by_length=by_length,
        units=units,
        score=score,
        higher_is_better=True,
        difference="agreement",
        main=_MAIN,
        main_title="agreement",
        main_name="agreement",
        scale=(0.0, 1.0),
        columns=_COLUMNS,
        further=(),
        title="Word vectors",
        length="tokens",
        unit="pair",
        meaning=_MEANING,
        book_bleu=False,
    )


def rows(inputs: Inputs, split: str) -> pa.Table:
    """Rows of each benchmark, one after the other; none for a split but test. UserError if the
    corpus has no judge."""
    if split != "test":
        return tables.SCORES_VECTORS.empty_table()
    folder = inputs.tokens / "judges"
    judges = sorted(folder.glob("*.parquet"), key=lambda file: int(file.stem.partition("_")[0]))
    if not judges:
        raise refuse(
            str(folder),
            "no judge",
            "what word vectors are to be judged by",
            "Add it to the corpus.",
        )
    path = inputs.predictions / "vectors.parquet"
    table = tables.read(path, tables.VECTORS)
    if not len(table):
        raise refuse(str(path), "no vectors", "one for each word", "Delete it and run `dvc repro`.")
    known = WordVectors(table)
    found = []
    for file in judges:
        name = file.stem.partition("_")[2]
        judge = {"classes": _classes, "analogies": _analogies}.get(name, _similarity)
        columns = judge(known, tables.read(file, _JUDGES.get(name, tables.JUDGE_SIMILARITY)))
        found.append({"judge": [name] * len(columns["item"]), **columns})
    if not found[0]["judge"]:
        raise refuse(
            str(judges[0]),
            "no word with a vector",
            "some",
            "Lower vocab.min_count, or name another judge.",
        )
    joined = {
        field.name: [value for one in found for value in one[field.name]]
        for field in list(tables.SCORES_VECTORS)[1:]
    }
    return pa.table({"row": range(len(joined["judge"])), **joined}, schema=tables.SCORES_VECTORS)


def units(table: pa.Table) -> Array:
    """Of the first judge: units_N2 [1, share], or units_N6 as `vectors.correlation` needs them."""
    return _units(table.filter(pc.equal(table["judge"], table["judge"][0])))


def score(sums_RK: Array) -> Array:
    """The mean of shares, or the correlation of ranks, by what was summed.

    Ranks are those among all pairs: a resample does not rank anew.
    """
    if sums_RK.shape[1] == 2:
        mean: Array = sums_RK[:, 1] / np.maximum(sums_RK[:, 0], 1)
        return mean
    return vectors.correlation(sums_RK)


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """Every judge's score with its interval and the number of words, pairs or questions covered;
    `judged`: the first's."""
    if not len(table):
        return {}
    found: dict[str, Any] = {}
    for name in pc.unique(table["judge"]).to_pylist():
        own = table.filter(pc.equal(table["judge"], name))
        found[name] = bootstrap.estimate(_units(own), score) | {"covered": len(own)}
        if name == "classes":
            found[name]["chance"] = pc.mean(own["wanted"]).as_py()
        if name == "analogies":
            found[name]["sections"] = _sections(own)
    return {_MAIN: found[table["judge"][0].as_py()], **found}


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Nothing: words have no length that matters here."""
    return []


def _sections(own: pa.Table) -> dict[str, dict[str, Any]]:
    sections = (
        own.group_by("section").aggregate([("found", "mean"), ("found", "count")]).to_pylist()
    )
    return {
        found["section"]: {"score": found["found_mean"], "covered": found["found_count"]}
        for found in sections
    }


def _units(own: pa.Table) -> Array:
    x = own["found"].to_numpy()
    if own["judge"][0].as_py() in _JUDGES:
        return np.stack([np.ones(len(x)), x], 1)
    y = own["wanted"].to_numpy()
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], 1)


def _classes(known: WordVectors, judge: pa.Table) -> dict[str, Any]:
    place = known.indices(judge["token"])
    there = judge.filter(pc.is_valid(place))
    numbers = (
        there["class"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    )
    found, chance = vectors.neighbour_purity(
        known.unit_VD, place.drop_null().to_numpy().astype(np.int64), numbers
    )
    return {
        "section": there["class"].to_pylist(),
        "item": there["token"].to_pylist(),
        "found": found,
        "wanted": chance,
    }


def _similarity(known: WordVectors, judge: pa.Table) -> dict[str, Any]:
    """A pair's cosine and its human score, each as its rank among the pairs covered."""
    judge, place_N2 = _covered(known, judge, ("first", "second"))
    cosine_N = (known.unit_VD[place_N2[:, 0]] * known.unit_VD[place_N2[:, 1]]).sum(1)
    item = [
        f"{one} {other}"
        for one, other in zip(judge["first"].to_pylist(), judge["second"].to_pylist(), strict=True)
    ]
    found, wanted = vectors.ranks(cosine_N), vectors.ranks(judge["score"].to_numpy())
    return {"section": [None] * len(item), "item": item, "found": found, "wanted": wanted}


def _analogies(known: WordVectors, judge: pa.Table) -> dict[str, Any]:
    judge, place_N4 = _covered(known, judge, ("first", "second", "third", "fourth"))
    right_N = vectors.solve_analogies(known.unit_VD, place_N4[:, :3]) == place_N4[:, 3]
    item = [
        " ".join(row[name] for name in ("first", "second", "third", "fourth"))
        for row in judge.to_pylist()
    ]
    none = [None] * len(item)
    return {
        "section": judge["section"].to_pylist(),
        "item": item,
        "found": right_N.astype(np.float64),
        "wanted": none,
    }


def _covered(known: WordVectors, judge: pa.Table, columns: tuple[str, ...]) -> tuple[pa.Table, Any]:
    """The rows whose words all have vectors, and their places."""
    places = [known.indices(judge[name]) for name in columns]
    there = np.logical_and.reduce(
        [pc.is_valid(place).to_numpy(zero_copy_only=False) for place in places]
    )
    chosen = [place.filter(pa.array(there)).to_numpy().astype(np.int64) for place in places]
    return judge.filter(pa.array(there)), np.stack(chosen, 1)
