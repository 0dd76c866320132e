"""Words per second of our skip-gram and CBOW, and of gensim's if installed, on the same text and
settings.

    python -m benchmarks.word2vec [--text FILE] [--words 400000] [--dimension 100] [--threads 1]
    [--rounds 2]

Without a text, words are sampled by Zipf's law, in lines of 20. Both process every word once:
windows of 5, 5 negatives, words with at least 5 occurrences, subsampling at 0.001. Prints the best
round of each by wall and by CPU time, without the time to count the vocabulary. The rounds
alternate, so that a busy machine affects all."""

import argparse
import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch

from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.models import word2vec
from pipeline.tasks import word_vectors
from pipeline.text.specials import SPECIALS, UNK
from pipeline.training import devices, loop, optim

MIN_COUNT = 5
WINDOW = 5
NEGATIVES = 5
SUBSAMPLE = 0.001
METHODS = ("skip_gram", "cbow")


def lines(text: Path | None, words: int) -> list[list[str]]:
    """Read the beginning of the text, or sample a vocabulary of 20,000 by Zipf's law."""
    if text is None:
        ranks = np.arange(1, 20001)
        sample = np.random.default_rng(1).choice(ranks, words, p=1 / ranks / (1 / ranks).sum())
        return [
            [str(word) for word in row]
            for row in sample[: words // 20 * 20].reshape(-1, 20).tolist()
        ]

    lines = []
    total = 0
    for line in text.read_text(encoding="utf-8").lower().splitlines():
        if total < words and line.split():
            lines.append(line.split())
            total += len(lines[-1])
    return lines


def encode_lines(text: list[list[str]]) -> tuple[pa.Table, int]:
    """Encode the lines as the encode stage does; return the table and the number of ids."""
    counts = Counter(word for line in text for word in line)
    vocabulary = [word for word, count in counts.most_common() if count >= MIN_COUNT]
    number = {word: i for i, word in enumerate(vocabulary, len(SPECIALS))}
    ids = [[number.get(word, UNK) for word in line] for line in text]
    table = pa.table(
        {"row": range(len(ids)), "ids": ids, "paragraph": [0] * len(ids)},
        schema=tables.ENCODED_TEXT,
    )
    return table, len(vocabulary) + len(SPECIALS)


def seqline_epoch(
    table: pa.Table, ids: int, method: str, dimension: int, threads: int
) -> Callable[[], None]:
    """Return one epoch of the project's own loop, with the settings of the preset wikitext2."""
    devices.prepare(threads)
    objective = word_vectors.Config(
        method="cbow" if method == "cbow" else "skip_gram",
        window=WINDOW,
        negatives=NEGATIVES,
        subsample=SUBSAMPLE,
        batch_size=4096,
        block_size=16,
        noise_words=16,
    )
    task = word_vectors.Task(table, table.slice(0, 50), objective, 1, torch.device("cpu"))
    rate = optim.Plain(
        name="adagrad",
        learning_rate=0.1,
        weight_decay=0.0,
        clip_norm=None,
        schedule=optim.Cosine(name="cosine", warmup_steps=0),
    )
    steps = loop.Config(
        max_epochs=1,
        patience=None,
        accumulate=1,
        average=None,
        precision="float32",
        threads=threads,
    )
    model = word2vec.Model(word2vec.Config(dimension=dimension), Sizes(ids, ids, True))

    def work() -> None:
        with TemporaryDirectory() as folder:
            loop.Loop(model, task, rate, steps, seed=1, work=Path(folder), log=lambda *_: None).run(
                lambda *_: None
            )

    return work


def gensim_epoch(
    text: list[list[str]], method: str, dimension: int, threads: int
) -> Callable[[], None]:
    """Return one epoch of gensim."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        vector_size=dimension,
        window=WINDOW,
        min_count=MIN_COUNT,
        sample=SUBSAMPLE,
        negative=NEGATIVES,
        sg=int(method == "skip_gram"),
        workers=threads,
        seed=1,
        epochs=1,
    )
    model.build_vocab(text)
    return lambda: model.train(text, total_examples=len(text), epochs=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path)
    for option, value in (("words", 400_000), ("dimension", 100), ("threads", 1), ("rounds", 2)):
        parser.add_argument(f"--{option}", type=int, default=value)
    a = parser.parse_args()
    text = lines(a.text, a.words)
    table, ids = encode_lines(text)
    words = sum(len(line) for line in text)
    works = {
        f"ours, {method}": seqline_epoch(table, ids, method, a.dimension, a.threads)
        for method in METHODS
    }
    if importlib.util.find_spec("gensim") is None:
        print("gensim is not installed: only our models are timed")
    else:
        works |= {
            f"gensim, {method}": gensim_epoch(text, method, a.dimension, a.threads)
            for method in METHODS
        }

    best: dict[str, tuple[float, float]] = {}
    for _ in range(a.rounds):
        for name, work in works.items():
            wall = time.perf_counter()
            cpu = time.process_time()
            work()
            seconds = (time.perf_counter() - wall, time.process_time() - cpu)
            best[name] = tuple(map(min, best.get(name, seconds), seconds))  # type: ignore[assignment]

    print(f"{words:,} words, {ids:,} ids, threads {a.threads}")
    for name, (wall_s, cpu_s) in best.items():
        print(f"{name}: {words / wall_s:,.0f} words/s, {words / cpu_s:,.0f} words per CPU second")


if __name__ == "__main__":
    main()
