"""Speed of batched beam search against one sentence at a time, in one process on one thread.

    python -m benchmarks.beam [--sentences 192] [--width 4] [--batch 64] [--max-length 24] [--rounds
    3]

The model is a small Transformer with random weights, so that nearly every sentence runs to the
limit. Prints the best of the rounds. These alternate, so that a busy machine affects both. Stops if
the hypotheses differ."""

import argparse
import time
from collections.abc import Callable

import torch

from pipeline.contracts import PAD, Prompt, Sizes
from pipeline.decoding import Hypothesis, beam
from pipeline.decoding.rules.constraints import Constraints
from pipeline.decoding.rules.penalty import Penalty
from pipeline.models import transformer

VOCABULARY = 300
MODEL = transformer.Config(
    width=128,
    heads=4,
    feed_forward=256,
    encoder_layers=2,
    decoder_layers=2,
    dropout=0.0,
    norm="layer",
    norm_first=True,
    learned_positions=None,
    tied="output",
    variants=(),
    implementation="fused",
)


def sentences(count: int) -> Prompt:
    """Random sources of 6 to 14 tokens."""
    generator = torch.Generator().manual_seed(1)
    length_B = torch.randint(6, 15, (count,), generator=generator)
    ids_BS = torch.randint(4, VOCABULARY, (count, 14), generator=generator)
    return Prompt(ids_BS.masked_fill(torch.arange(14) >= length_B[:, None], PAD), length_B)


def search_in_batches(
    size: int, prompt: Prompt, model: transformer.Model, config: beam.Config
) -> list[list[Hypothesis]]:
    """Search the prompt in batches of `size`, each as wide as its longest sentence."""
    hypotheses: list[list[Hypothesis]] = []
    for ids_BS, length_B in zip(
        prompt.ids_BS.split(size), prompt.length_B.split(size), strict=True
    ):
        batch = Prompt(ids_BS[:, : int(length_B.max())], length_B)
        hypotheses += beam.search(model, batch, config, torch.Generator())
    return hypotheses


def timed_search(
    work: Callable[[], list[list[Hypothesis]]],
) -> tuple[float, list[list[Hypothesis]]]:
    start = time.perf_counter()
    hypotheses = work()
    return time.perf_counter() - start, hypotheses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, value in (
        ("sentences", 192),
        ("width", 4),
        ("batch", 64),
        ("max-length", 24),
        ("rounds", 3),
    ):
        parser.add_argument(f"--{option}", type=int, default=value)
    a = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = transformer.Model(MODEL, Sizes(VOCABULARY, VOCABULARY, False)).eval()
    prompt = sentences(a.sentences)
    config = beam.Config(
        method="beam",
        width=a.width,
        n_best=1,
        max_length=a.max_length,
        penalty=Penalty(length="book", alpha=0.75, coverage=0.0),
        constraints=Constraints(min_length=1, no_repeat_ngram=None),
    )

    batched: list[float] = []
    single: list[float] = []
    for _ in range(a.rounds):
        seconds, batch_results = timed_search(
            lambda: search_in_batches(a.batch, prompt, model, config)
        )
        batched.append(seconds)
        seconds, single_results = timed_search(lambda: search_in_batches(1, prompt, model, config))
        single.append(seconds)
        assert [h.ids for [h] in batch_results] == [h.ids for [h] in single_results], (
            "the batch changed a result"
        )

    print(
        f"batches of {a.batch}: {min(batched):.2f} s, {a.sentences / min(batched):.0f} sentences/s"
    )
    print(f"one at a time: {min(single):.2f} s, {a.sentences / min(single):.0f} sentences/s")
    print(f"ratio: {min(single) / min(batched):.1f}")


if __name__ == "__main__":
    main()
