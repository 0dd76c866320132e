"""Word vectors by skip-gram or CBOW with negative sampling (Mikolov et al. 2013b, equation 4; d2l
15.1 to 15.4).

Skip-gram reads a word and predicts each word near it; CBOW reads the mean of the words near and
predicts the word. A word predicts, or is predicted from, those at most `window` words away, the
distance being drawn anew for each word and epoch; no window reaches beyond its row. Unknown words
and a share of the frequent ones (equation 5) are taken out before.

The words are read in blocks, each of which shares its noise words, so that all scores are products
of small matrices; each noise word counts `negatives / noise`, which leaves equation 4's expectation
as it is. Shapes: G blocks of a batch, T words of a block, C = T + 2 window words with its
surroundings, K noise words, D dimension, N words of an epoch, V vocabulary."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import Loss, WordVectors
from pipeline.core import tables
from pipeline.core.errors import at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.ragged import Ragged
from pipeline.text.specials import SPECIALS

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora that it reads
SOURCE_TARGET = ("text", "text")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
# of a word's count, in proportion to which it serves as noise (Mikolov et al. 2013b, section 2.2)
POWER = 0.75


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run. `negatives`: equation 4's k. `subsample`: equation 5's t, null to keep
    every word.

    `batch_size` words make an update, in blocks of `block` neighbours that share `noise` noise
    words."""

    method: Literal["skip_gram", "cbow"]
    window: int
    negatives: int
    subsample: float | None
    batch_size: int
    block: int
    noise: int

    def __post_init__(self) -> None:
        at_least_one(
            window=self.window, negatives=self.negatives, block=self.block, noise=self.noise
        )
        if self.subsample is not None and self.subsample <= 0:
            raise refuse("subsample", self.subsample, "above 0, such as 0.001, or null")
        if self.batch_size < 1 or self.batch_size % self.block:
            raise refuse(
                "batch_size", f"{self.batch_size} with block {self.block}", "a multiple of block"
            )


class Words(NamedTuple):
    """A split's known words end to end, and the row that each stands in."""

    ids: NDArray[np.int32]
    row: NDArray[np.int32]


class SampledText(NamedTuple):
    """Words of one pass: those kept, padded to whole blocks and by `window` words at both ends.

    `left` and `right`: how many words on either side are a word's contexts. `noise`: K ids for each
    block."""

    ids: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    noise: NDArray[np.int32]


class BatchPlan(NamedTuple):
    """The numbers of the blocks that make a batch."""

    drawn: SampledText
    block_G: NDArray[np.int64]


class Batch(NamedTuple):
    """`context_GTC`: 1 where the word at C is a context of the word at T, else 0. A block begins at
    ids_GC[:, window]."""

    ids_GC: Tensor
    context_GTC: Tensor
    noise_GK: Tensor


def known_words(table: pa.Table) -> Words:
    """The table's words without specials."""
    rows = Ragged(table["ids"])
    first = int(rows.start[0]) if len(rows.start) else 0
    ids = rows.values[first : first + int(rows.length.sum())]
    known = ids >= len(SPECIALS)
    return Words(
        ids[known], np.repeat(np.arange(len(rows.length), dtype=np.int32), rows.length)[known]
    )


def keep_probability(count_V: NDArray[np.int64], subsample: float | None) -> NDArray[np.float32]:
    """The probability with which a word is kept: sqrt(t / f), f being its share of the text
    (equation 5)."""
    if subsample is None:
        return np.ones(len(count_V), np.float32)
    frequency_V = np.maximum(count_V, 1) / max(int(count_V.sum()), 1)
    return np.minimum(1.0, np.sqrt(subsample / frequency_V)).astype(np.float32)


def noise_probability(count_V: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability with which a word is drawn as noise."""
    weight_V = count_V.astype(np.float64) ** POWER
    share: NDArray[np.float64] = weight_V / weight_V.sum()
    return share


def context_sizes(
    row_N: NDArray[np.int32], radius_N: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number of context words on each word's left and right: `radius`, or what its row has."""
    place = np.arange(len(row_N), dtype=np.int32)
    first = np.flatnonzero(np.diff(row_N, prepend=-1)).astype(np.int32)
    length = np.diff(first, append=len(row_N))
    start = np.repeat(first, length)
    end = np.repeat(first + length - 1, length)
    return np.minimum(radius_N, place - start), np.minimum(radius_N, end - place).astype(np.int32)


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.config, self.seed, self.device = config, seed, device
        self.train, checked = known_words(train), known_words(valid)
        if not len(self.train.ids):
            raise refuse(
                "corpus", "a training text without a known word", "words", "Lower vocab.min_count."
            )
        count_V = np.bincount(
            self.train.ids, minlength=int(max(self.train.ids.max(), checked.ids.max(initial=0))) + 1
        )
        self.kept_V, self.noise_V = (
            keep_probability(count_V, config.subsample),
            noise_probability(count_V),
        )
        self.checked = self.draw(checked, "validation")
        if not self.checked.left.any():
            raise refuse(
                "corpus",
                "a validation text without two known words in a row",
                "some",
                "Lower vocab.min_count.",
            )
        place_C = np.arange(config.block + 2 * config.window)
        self.place_C, centre_T = place_C, np.arange(config.block) + config.window
        self.distance_TC = torch.from_numpy((place_C - centre_T[:, None]).astype(np.int32))

    def draw(self, text: Words, use: str) -> SampledText:
        """Choose the words to keep, their windows and their noise; a function of the run's seed and
        the `use`."""
        c, rng = self.config, np.random.default_rng(derive(self.seed, f"words of {use}"))
        kept = np.flatnonzero(rng.random(len(text.ids), dtype=np.float32) < self.kept_V[text.ids])
        left, right = context_sizes(
            text.row[kept], rng.integers(1, c.window + 1, len(kept), dtype=np.int32)
        )
        blocks = -(-len(kept) // c.block)
        ends = (c.window, c.window + blocks * c.block - len(kept))
        times_V = rng.multinomial(blocks * c.noise, self.noise_V)
        noise = rng.permutation(np.repeat(np.arange(len(times_V), dtype=np.int32), times_V))
        ids, left, right = (np.pad(of, ends) for of in (text.ids[kept], left, right))
        return SampledText(ids, left, right, noise.reshape(blocks, c.noise))

    def plan(self, epoch: int) -> list[BatchPlan]:
        """The epoch's blocks in random order: neighbours would repeat their words within an
        update."""
        drawn = self.draw(self.train, f"epoch {epoch}")
        rng = np.random.default_rng(derive(self.seed, f"order of epoch {epoch}"))
        return self.batches(drawn, rng.permutation(len(drawn.noise)))

    def batches(self, drawn: SampledText, blocks: NDArray[np.int64]) -> list[BatchPlan]:
        """The blocks, in this order, in batches."""
        size = self.config.batch_size // self.config.block
        return [
            BatchPlan(drawn, blocks[start : start + size]) for start in range(0, len(blocks), size)
        ]

    def batch(self, planned: BatchPlan) -> Batch:
        (ids, left, right, noise), c = planned.drawn, self.config
        place_GC = planned.block_G[:, None] * c.block + self.place_C
        centre_GT = place_GC[:, c.window : c.window + c.block]
        left_GT1, right_GT1 = (torch.from_numpy(of[centre_GT])[:, :, None] for of in (left, right))
        distance_TC = self.distance_TC
        context_GTC = (distance_TC >= -left_GT1) & (distance_TC <= right_GT1) & (distance_TC != 0)
        ids_GC, noise_GK = (
            torch.from_numpy(of.astype(np.int64)) for of in (ids[place_GC], noise[planned.block_G])
        )
        return Batch(
            ids_GC.to(self.device),
            context_GTC.to(self.device, torch.float32),
            noise_GK.to(self.device),
        )

    def loss(self, model: WordVectors, batch: Batch, hidden_state: Any) -> tuple[Loss, Any]:
        """Equation 4's negative, summed over the pairs of skip-gram, or over the predicted words of
        CBOW."""
        return (skip_gram if self.config.method == "skip_gram" else cbow)(
            model, batch, self.config
        ), None

    @torch.inference_mode()
    def validate(self, model: WordVectors) -> tuple[Loss, dict[str, float]]:
        """The same loss on the validation text, with windows and noise that stay the same."""
        plan = self.batches(self.checked, np.arange(len(self.checked.noise)))
        found = [self.loss(model, self.batch(planned), None)[0] for planned in plan]
        return Loss(
            torch.stack([one.total.double() for one in found]).sum(),
            sum(one.tokens for one in found),
        ), {}

    def describe(self, planned: BatchPlan) -> str:
        shown = ", ".join(str(number * self.config.block) for number in planned.block_G[:10])
        return (
            f"blocks of {self.config.block} words from words "
            f"{shown}{', ...' if len(planned.block_G) > 10 else ''}"
        )


def skip_gram(model: WordVectors, batch: Batch, config: Config) -> Loss:
    """-log σ(v'_context · v_word) - k E log σ(-v'_noise · v_word) over all pairs of a word and a
    context (d2l 15.2.1)."""
    window, (_, block, _) = config.window, batch.context_GTC.shape
    read_GTD = model.input(batch.ids_GC[:, window : window + block])
    said_GCD, noise_GKD = _together(model, batch.ids_GC, batch.noise_GK)
    near_GTC = F.logsigmoid(torch.bmm(read_GTD, said_GCD.mT)) * batch.context_GTC
    far_GT = F.logsigmoid(-torch.bmm(read_GTD, noise_GKD.mT)).sum(-1)
    pairs_GT = batch.context_GTC.sum(-1)
    total = near_GTC.sum() + (far_GT * pairs_GT).sum() * (config.negatives / config.noise)
    return Loss(-total, max(int(pairs_GT.sum()), 1))


def cbow(model: WordVectors, batch: Batch, config: Config) -> Loss:
    """-log σ(v'_word · h) - k E log σ(-v'_noise · h), h being the mean of v over the word's
    contexts (d2l 15.2.2)."""
    window, (_, block, _) = config.window, batch.context_GTC.shape
    near_GT = batch.context_GTC.sum(-1)
    read_GTD = torch.bmm(
        batch.context_GTC / near_GT.clamp(min=1)[:, :, None], model.input(batch.ids_GC)
    )
    said_GTD, noise_GKD = _together(model, batch.ids_GC[:, window : window + block], batch.noise_GK)
    right_GT = F.logsigmoid((read_GTD * said_GTD).sum(-1))
    far_GT = F.logsigmoid(-torch.bmm(read_GTD, noise_GKD.mT)).sum(-1)
    predicted_GT = (near_GT > 0).float()
    total = ((right_GT + far_GT * (config.negatives / config.noise)) * predicted_GT).sum()
    return Loss(-total, max(int(predicted_GT.sum()), 1))


def _together(model: WordVectors, said: Tensor, noise_GK: Tensor) -> tuple[Tensor, Tensor]:
    """Both looked up at once: one sparse gradient instead of two that must be added."""
    both = model.output(torch.cat([said, noise_GK], 1))
    return both[:, : said.shape[1]], both[:, said.shape[1] :]
