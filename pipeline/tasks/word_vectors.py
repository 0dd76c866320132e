"""Word vectors by skip-gram or CBOW with negative sampling (Mikolov et al. 2013b, equation 4; d2l
15.1 to 15.4), or from counts of pairs (`pipeline.nn.cooccurrence`).

Skip-gram reads a word and predicts each of its contexts. CBOW reads the mean of the contexts and
predicts the word. Contexts are the words at most `window` words away. This distance is drawn anew
for each word and epoch, and no window reaches beyond its row. Unknown words and a share of the
frequent ones (equation 5) are removed before.

The words are read in blocks. The words of a block share their noise words, so that all scores are
products of small matrices. Each noise word counts `negatives / noise_words`, which keeps the
expectation of equation 4. Hierarchical softmax needs no noise words (d2l section 15.2.2).

Shapes: G blocks of a batch, T words of a block, C = T + 2 window words with its
surroundings, K noise words, L nodes on the way to a word, D dimension, N words of an epoch, V
vocabulary."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline.contracts import GloveVectors, Loss, WordVectors
from pipeline.core import tables
from pipeline.core.errors import at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.nn.cooccurrence import PairBatch, Pairs, count_pairs, glove_loss
from pipeline.nn.hierarchical_softmax import Tree, huffman_tree
from pipeline.nn.word2vec_loss import WindowBatch, cbow, hierarchical, skip_gram
from pipeline.text.specials import SPECIALS
from pipeline.text.token_budget import Ragged

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora that it reads
SOURCE_TARGET = ("text", "text")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (WordVectors,)  # protocols of the models that it trains
# Noise words are drawn in proportion to count**POWER (Mikolov et al. 2013b, section 2.2).
POWER = 0.75


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `window`: most words between a word and its context.
    - `negatives`: k of equation 4; null, as `noise_words`, for hierarchical softmax.
    - `subsample`: t of equation 5; null keeps every word.
    - `batch_size`: words of an update, in blocks of `block_size` neighbours that share
      `noise_words` noise words.
    """

    method: Literal["skip_gram", "cbow"]
    window: int
    negatives: int | None
    subsample: float | None
    batch_size: int
    block_size: int
    noise_words: int | None

    def __post_init__(self) -> None:
        at_least_one(window=self.window, block_size=self.block_size)
        if self.negatives is not None and self.noise_words is not None:
            at_least_one(negatives=self.negatives, noise_words=self.noise_words)
        elif self.negatives != self.noise_words:
            got = f"{self.noise_words} with negatives {self.negatives}".replace("None", "null")
            expected = "two numbers, or null twice for hierarchical softmax"
            raise refuse("noise_words", got, expected)
        if self.subsample is not None and self.subsample <= 0:
            raise refuse("subsample", self.subsample, "above 0, such as 0.001, or null")
        if self.batch_size < 1 or self.batch_size % self.block_size:
            raise refuse(
                "batch_size",
                f"{self.batch_size} with block_size {self.block_size}",
                "a multiple of block_size",
            )

    @property
    def noise_weight(self) -> float:
        """What each noise word counts."""
        assert self.negatives is not None
        assert self.noise_words is not None
        return self.negatives / self.noise_words


@dataclass(frozen=True, kw_only=True, slots=True)
class GloveConfig:
    """`objective:` of a run of GloVe (Pennington et al. 2014, equations 8 and 9).

    - `window`: most words between the two of a pair.
    - `most`: x_max, the count from which on a pair has the full weight, 100 in the paper.
    - `power`: alpha, 0.75 in the paper.
    - `batch_size`: pairs of an update.
    """

    method: Literal["glove"]
    window: int
    most: float
    power: float
    batch_size: int

    def __post_init__(self) -> None:
        at_least_one(window=self.window, batch_size=self.batch_size)
        for key, value in (("most", self.most), ("power", self.power)):
            if value <= 0:
                raise refuse(key, value, "above 0")


OBJECTIVES = {GloveConfig: GloveVectors, Config: WordVectors}


class Words(NamedTuple):
    """A split's known words end to end, and the row of each."""

    ids: NDArray[np.int32]
    row: NDArray[np.int32]


class SampledText(NamedTuple):
    """Words of one epoch, padded to whole blocks and by `window` words at both ends."""

    ids: NDArray[np.int32]
    left: NDArray[np.int32]  # number of contexts on the word's left
    right: NDArray[np.int32]  # number of contexts on the word's right
    noise: NDArray[np.int32]  # K ids for each block


class BatchPlan(NamedTuple):
    """The text, and the numbers of the blocks of a batch."""

    text: SampledText
    block_G: NDArray[np.int64]


def known_words(table: pa.Table) -> Words:
    """The table's words without specials."""
    rows = Ragged(table["ids"])
    first = int(rows.start[0]) if len(rows.start) else 0
    ids = rows.values[first : first + int(rows.length.sum())]
    row = np.repeat(np.arange(len(rows.length), dtype=np.int32), rows.length)
    is_known = ids >= len(SPECIALS)
    return Words(ids[is_known], row[is_known])


def keep_probability(count_V: NDArray[np.int64], subsample: float | None) -> NDArray[np.float32]:
    """The probability of keeping a word: sqrt(t / f), f being its share of the text (equation
    5)."""
    if subsample is None:
        return np.ones(len(count_V), np.float32)
    frequency_V = np.maximum(count_V, 1) / max(int(count_V.sum()), 1)
    return np.minimum(1.0, np.sqrt(subsample / frequency_V)).astype(np.float32)


def noise_probability(count_V: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability of drawing a word as noise."""
    weight_V = count_V.astype(np.float64) ** POWER
    share: NDArray[np.float64] = weight_V / weight_V.sum()
    return share


def context_sizes(
    row_N: NDArray[np.int32], radius_N: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number of context words on each word's left and right: `radius`, or what its row has."""
    position = np.arange(len(row_N), dtype=np.int32)
    first = np.flatnonzero(np.diff(row_N, prepend=-1)).astype(np.int32)  # first word of each row
    length = np.diff(first, append=len(row_N))
    start = np.repeat(first, length)
    end = np.repeat(first + length - 1, length)
    left = np.minimum(radius_N, position - start)
    right = np.minimum(radius_N, end - position).astype(np.int32)
    return left, right


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.train = known_words(train)
        valid_words = known_words(valid)
        if not len(self.train.ids):
            raise refuse(
                "corpus", "a training text without a known word", "words", "Lower vocab.min_count."
            )

        vocabulary = int(max(self.train.ids.max(), valid_words.ids.max(initial=0))) + 1
        count_V = np.bincount(self.train.ids, minlength=vocabulary)
        self.keep_V = keep_probability(count_V, config.subsample)
        self.noise_V = noise_probability(count_V)
        self.tree: Tree | None = None
        if config.negatives is None:
            self.tree = Tree(*(part.to(device) for part in huffman_tree(count_V)))

        self.valid = self.draw(valid_words, "validation")
        if not self.valid.left.any():
            raise refuse(
                "corpus",
                "a validation text without two known words in a row",
                "some",
                "Lower vocab.min_count.",
            )

        # Positions of a block's window words, and their distances from the words of the block.
        self.position_C = np.arange(config.block_size + 2 * config.window)
        centre_T = np.arange(config.block_size) + config.window
        distance_TC = (self.position_C - centre_T[:, None]).astype(np.int32)
        self.distance_TC = torch.from_numpy(distance_TC)

    def draw(self, text: Words, use: str) -> SampledText:
        """Draw the words to keep, their windows and their noise.

        A function of the run's seed and of `use`.
        """
        config = self.config
        rng = np.random.default_rng(derive(self.seed, f"words of {use}"))

        # Subsample frequent words, and draw the radius of each window.
        keep = rng.random(len(text.ids), dtype=np.float32) < self.keep_V[text.ids]
        kept = np.flatnonzero(keep)
        radius = rng.integers(1, config.window + 1, len(kept), dtype=np.int32)
        left, right = context_sizes(text.row[kept], radius)

        # Noise: all words are drawn at once, by a multinomial and a shuffle.
        blocks = -(-len(kept) // config.block_size)
        noise_words = config.noise_words or 0
        times_V = rng.multinomial(blocks * noise_words, self.noise_V)
        noise = rng.permutation(np.repeat(np.arange(len(times_V), dtype=np.int32), times_V))

        # Pad to whole blocks, with a window on both sides.
        padding = (config.window, config.window + blocks * config.block_size - len(kept))
        ids, left, right = (np.pad(array, padding) for array in (text.ids[kept], left, right))
        return SampledText(ids, left, right, noise.reshape(blocks, noise_words))

    def plan(self, epoch: int) -> list[BatchPlan]:
        """The epoch's blocks in random order.

        Neighbouring blocks would repeat their words within an update.
        """
        text = self.draw(self.train, f"epoch {epoch}")
        rng = np.random.default_rng(derive(self.seed, f"order of epoch {epoch}"))
        return self.batches(text, rng.permutation(len(text.noise)))

    def batches(self, text: SampledText, blocks: NDArray[np.int64]) -> list[BatchPlan]:
        """The blocks, in this order, in batches."""
        size = self.config.batch_size // self.config.block_size
        return [
            BatchPlan(text, blocks[start : start + size]) for start in range(0, len(blocks), size)
        ]

    def batch(self, planned: BatchPlan) -> WindowBatch:
        text = planned.text
        block = self.config.block_size
        window = self.config.window
        position_GC = planned.block_G[:, None] * block + self.position_C
        ids_GC = torch.from_numpy(text.ids[position_GC].astype(np.int64))
        noise_GK = torch.from_numpy(text.noise[planned.block_G].astype(np.int64))

        # A word at distance d is a context if -left <= d <= right, and d is not 0.
        centre_GT = position_GC[:, window : window + block]
        left_GT1 = torch.from_numpy(text.left[centre_GT])[:, :, None]
        right_GT1 = torch.from_numpy(text.right[centre_GT])[:, :, None]
        distance_TC = self.distance_TC
        context_GTC = (distance_TC >= -left_GT1) & (distance_TC <= right_GT1) & (distance_TC != 0)

        return WindowBatch(
            ids_GC.to(self.device),
            context_GTC.to(self.device, torch.float32),
            noise_GK.to(self.device),
        )

    def loss(self, model: WordVectors, batch: WindowBatch, hidden_state: Any) -> tuple[Loss, Any]:
        """Equation 4's negative, or -log P of hierarchical softmax, summed over the pairs of
        skip-gram, or over the predicted words of CBOW."""
        if self.tree is not None:
            return hierarchical(model, batch, self.config.method, self.tree), None
        objective = skip_gram if self.config.method == "skip_gram" else cbow
        return objective(model, batch, self.config.noise_weight), None

    @torch.inference_mode()
    def validate(self, model: WordVectors) -> tuple[Loss, dict[str, float]]:
        """The same loss on the validation text; its windows and noise stay the same."""
        plan = self.batches(self.valid, np.arange(len(self.valid.noise)))
        losses = [self.loss(model, self.batch(planned), None)[0] for planned in plan]
        total = torch.stack([loss.total.double() for loss in losses]).sum()
        return Loss(total, sum(loss.tokens for loss in losses)), {}

    def describe(self, planned: BatchPlan) -> str:
        size = self.config.block_size
        starts = ", ".join(str(number * size) for number in planned.block_G[:10])
        more = ", ..." if len(planned.block_G) > 10 else ""
        return f"blocks of {size} words from words {starts}{more}"


class GloveTask:
    """The objective over the pairs of a training and a validation text. Validation counts are
    scaled to the size of the training text."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: GloveConfig, seed: int, device: torch.device
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.train = self._pairs(train, "training")
        valid_pairs = self._pairs(valid, "validation")
        scale = self.train.count_P.sum() / valid_pairs.count_P.sum()
        self.valid = valid_pairs._replace(count_P=valid_pairs.count_P * scale)

    def _pairs(self, table: pa.Table, use: str) -> Pairs:
        pairs = count_pairs(*known_words(table), self.config.window)
        if not len(pairs.count_P):
            problem = f"a {use} text without two known words in a row"
            raise refuse("corpus", problem, "some", "Lower vocab.min_count.")
        return pairs

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The numbers of all pairs, in random order, in batches."""
        rng = np.random.default_rng(derive(self.seed, f"pairs of epoch {epoch}"))
        count = len(self.train.count_P)
        size = self.config.batch_size
        return np.split(rng.permutation(count), range(size, count, size))

    def batch(self, planned: NDArray[np.int64]) -> PairBatch:
        return self._batch(self.train, planned)

    def _batch(self, pairs: Pairs, planned: Any) -> PairBatch:
        word_B, context_B, count_B = (torch.from_numpy(column[planned]) for column in pairs)
        count_B = count_B.float()
        return PairBatch(*(column.to(self.device) for column in (word_B, context_B, count_B)))

    def loss(self, model: GloveVectors, batch: PairBatch, hidden_state: Any) -> tuple[Loss, Any]:
        """Equation 8, summed over the pairs of the batch."""
        return glove_loss(model, batch, self.config.most, self.config.power), None

    @torch.inference_mode()
    def validate(self, model: GloveVectors) -> tuple[Loss, dict[str, float]]:
        batch = self._batch(self.valid, slice(None))
        return self.loss(model, batch, None)[0], {}

    def describe(self, planned: NDArray[np.int64]) -> str:
        return f"{len(planned)} pairs of words, the first one number {planned[0]}"


def build(
    train: pa.Table, valid: pa.Table, config: Any, seed: int, device: torch.device
) -> Task | GloveTask:
    """The objective that the config is of."""
    kind: Any = GloveTask if isinstance(config, GloveConfig) else Task
    task: Task | GloveTask = kind(train, valid, config, seed, device)
    return task
