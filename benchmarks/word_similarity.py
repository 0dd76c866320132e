"""Our word vectors and gensim's, both tuned on one benchmark of word similarity and compared on
another.

    python -m benchmarks.word_similarity RUN [--rates 0.025 0.05 0.1] [--epochs 5 10 15]
    [--seeds 1 2 3] [--tuned simlex999] [--reported wordsim353] [--systems ours gensim]

RUN is of the family word2vec, in params.yaml; its corpus is encoded. Each learning rate is trained
with each number of epochs and the first seed, all else as the run's setting has it. Both systems
read the same words and have the same dimension, window, negatives and subsampling. Prints the
correlations on the first benchmark, and for the best of each system the mean over seeds on the
second one, with standard errors over pairs (bootstrap)."""

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline.contracts import Sizes
from pipeline.core import config, params, tables
from pipeline.core.errors import exit_with, refuse
from pipeline.core.seeding import derive
from pipeline.models import word2vec
from pipeline.scoring import vectors
from pipeline.tasks import word_vectors
from pipeline.training import devices, loop, optim

Vectors = NDArray[np.float64]
Train = Callable[[float, int, int], Vectors]  # learning rate, epochs and seed to vectors
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Pairs of words of the vocabulary, and people's scores of them."""

    first_N: NDArray[np.int64]
    second_N: NDArray[np.int64]
    score_N: NDArray[np.float64]

    def ranks(self, vector_VD: Vectors) -> NDArray[np.float64]:
        """Ranks of the cosines of the pairs."""
        unit_VD = vectors.unit_length(vector_VD)
        return vectors.ranks((unit_VD[self.first_N] * unit_VD[self.second_N]).sum(1))

    def correlation(self, vector_VD: Vectors) -> float:
        """Spearman's correlation of cosines and scores."""
        return float(np.corrcoef(self.ranks(vector_VD), vectors.ranks(self.score_N))[0, 1])


def benchmark(root: Path, corpus: str, name: str) -> Benchmark:
    """The corpus's benchmark, without pairs of unknown words; UserError if it has none."""
    [*files] = (root / f"data/tokens/{corpus}/benchmarks").glob(f"*_{name}.parquet")
    if not files:
        raise refuse(name, "no such benchmark", f"one of the corpus {corpus}")
    table = tables.read(files[0], tables.BENCHMARK_SIMILARITY)
    vocabulary = tables.read(root / f"data/vocab/{corpus}/text.parquet", tables.VOCAB)
    tokens = vocabulary["token"].combine_chunks()
    index = [pc.index_in(table[name].combine_chunks(), tokens) for name in ("first", "second")]
    is_known = pc.and_(pc.is_valid(index[0]), pc.is_valid(index[1]))
    first_N, second_N = (part.filter(is_known).to_numpy().astype(np.int64) for part in index)
    return Benchmark(first_N, second_N, table["score"].filter(is_known).to_numpy())


def ours(root: Path, run: params.Run, words: int) -> Train:
    """Training as the train stage does it."""
    folder = root / f"data/encoded/{run.corpus}"
    train, valid = (
        tables.read(folder / f"{split}.parquet", tables.ENCODED_TEXT)
        for split in ("train", "valid")
    )
    where = f"settings.{run.setting}"
    objective = config.load(word_vectors.Config, run.objective, f"{where}.objective")
    model_config = config.load(word2vec.Config, run.model, f"{where}.model")
    rate_config = optim.load(run.optim, f"{where}.optim")
    loop_config = config.load(loop.Config, run.training, f"{where}.training")
    devices.prepare(loop_config.threads)

    def fit(rate: float, epochs: int, seed: int) -> Vectors:
        torch.manual_seed(derive(seed, "init"))
        model = word2vec.Model(model_config, Sizes(words, words, True))
        task = word_vectors.Task(train, valid, objective, derive(seed, "data"), torch.device("cpu"))
        with TemporaryDirectory() as work:
            loop.Loop(
                model,
                task,
                dataclasses.replace(rate_config, learning_rate=rate),
                dataclasses.replace(loop_config, max_epochs=epochs),
                seed=derive(seed, "dropout"),
                work=Path(work),
                log=lambda *_: None,
            ).run(lambda *_: None)
        vector_VD: Vectors = model.input.weight.detach().double().numpy()
        return vector_VD

    return fit


def gensim(root: Path, run: params.Run, words: int) -> Train:
    """gensim's training on the same words: the ids as text, without unknown words."""
    from gensim.models import Word2Vec

    objective: Any = run.objective
    path = root / f"data/encoded/{run.corpus}/train.parquet"
    known = word_vectors.known_words(tables.read(path, tables.ENCODED_TEXT))
    first = np.flatnonzero(np.diff(known.row, prepend=-1))
    lines = [[str(i) for i in row] for row in np.split(known.ids, first[1:])]

    def fit(rate: float, epochs: int, seed: int) -> Vectors:
        model = Word2Vec(
            lines,
            vector_size=run.model["dimension"],
            window=objective["window"],
            negative=objective["negatives"],
            sample=objective["subsample"] or 0,
            sg=int(objective["method"] == "skip_gram"),
            min_count=1,
            alpha=rate,
            epochs=epochs,
            seed=seed,
            workers=1,
        )
        vector_VD = np.zeros((words, model.vector_size))
        vector_VD[[int(word) for word in model.wv.index_to_key]] = model.wv.vectors
        return vector_VD

    return fit


def tune(
    name: str,
    train: Train,
    tuned: Benchmark,
    rates: Sequence[float],
    epochs: Sequence[int],
    seed: int,
) -> tuple[float, int]:
    """The learning rate and the epochs with the largest correlation."""
    scores = {}
    for count, rate in itertools.product(epochs, rates):
        scores[rate, count] = tuned.correlation(train(rate, count, seed))
        print(f"{name:8} {rate:6g} {count:6} {scores[rate, count]:11.4f}", flush=True)
    return max(scores, key=lambda key: scores[key])


def resampled(reported: Benchmark, trained: Sequence[Vectors]) -> NDArray[np.float64]:
    """The mean correlation over seeds, of the pairs and then of resamples of them. The ranks are
    those among all pairs."""
    score_N = vectors.ranks(reported.score_N)
    ranks_SN = np.stack([reported.ranks(vector_VD) for vector_VD in trained])
    rng = np.random.default_rng(1)
    pairs = len(score_N)
    draws = [np.arange(pairs), *(rng.integers(0, pairs, pairs) for _ in range(RESAMPLES))]
    return np.array(
        [
            np.mean([np.corrcoef(rank_N[draw], score_N[draw])[0, 1] for rank_N in ranks_SN])
            for draw in draws
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.025, 0.05, 0.1])
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 10, 15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tuned", default="simlex999")
    parser.add_argument("--reported", default="wordsim353")
    parser.add_argument(
        "--systems", nargs="+", choices=["ours", "gensim"], default=["ours", "gensim"]
    )
    a = parser.parse_args()
    run = params.run(a.root / "params.yaml", a.run)
    if run.family != "word2vec":
        raise refuse("RUN", f"{a.run} of the family {run.family}", "a run of word2vec")
    vocabulary = tables.read(a.root / f"data/vocab/{run.corpus}/text.parquet", tables.VOCAB)
    tuned = benchmark(a.root, run.corpus, a.tuned)
    reported = benchmark(a.root, run.corpus, a.reported)

    print(f"{'system':8} {'rate':>6} {'epochs':>6} {a.tuned:>11}")
    means = {}
    for name in a.systems:
        train = {"ours": ours, "gensim": gensim}[name](a.root, run, len(vocabulary))
        rate, epochs = tune(name, train, tuned, a.rates, a.epochs, a.seeds[0])
        trained = [train(rate, epochs, seed) for seed in a.seeds]
        means[name] = resampled(reported, trained)
        scores = [round(reported.correlation(vector_VD), 4) for vector_VD in trained]
        print(
            f"{name}, rate {rate:g}, {epochs} epochs: {a.reported} {means[name][0]:.4f}, standard "
            f"error {means[name][1:].std():.4f}, seeds {scores}",
            flush=True,
        )
    if len(means) == 2:
        first, second = means.values()
        difference = first - second
        print(f"difference {difference[0]:.4f}, standard error {difference[1:].std():.4f}")


if __name__ == "__main__":
    exit_with(main)
