"""BERT's two objectives: guess masked words, and whether the second sentence follows the first
(Devlin et al. 2019, section 3.1; d2l section 15.9).

A pair of sentences is read as BOS first EOS second EOS. Half of the second sentences follow the
first; half are of another paragraph. Of the words 15 % are chosen: 80 % of these become MASK, 10 %
a random word, and 10 % stay. All is drawn anew each epoch.

Shapes: B batch, S positions, N chosen positions, H width, V vocabulary, P pairs."""

import math
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, MASK, PAD, Loss, MaskedLanguageModel, Prompt
from pipeline.core import tables
from pipeline.core.errors import at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.text.specials import SPECIALS
from pipeline.text.token_budget import Ragged, batches_by_length, round_up_to_bucket

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora that it reads
SOURCE_TARGET = ("text", "text")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (MaskedLanguageModel,)  # protocols of the models that it trains
SCORES_BY_OBJECTIVE = True  # pairs are scored as cut to `objective.max_length`
CHOSEN = 0.15  # share of the words
MASKED = 0.8  # share of the chosen words
RANDOM = 0.1  # share of the chosen words
SCORING_BATCH = 64  # pairs per batch when scoring
# Seed of the pairs and masks for scoring: the same for every run, so that runs can be compared.
SCORING_SEED = 0

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `max_length`: longer pairs, <cls> and <sep> counted, lose the ends of their sentences.
    - `max_train_pairs`: pairs of an epoch (the book trains on 50 batches of 512); null for all.
    """

    batch_size: int
    max_length: int
    max_train_pairs: int | None

    def __post_init__(self) -> None:
        at_least_one(batch_size=self.batch_size)
        if self.max_length < 5:
            raise refuse(
                "max_length",
                self.max_length,
                "at least 5: <cls>, two sentences of one word, two <sep>",
            )
        if self.max_train_pairs is not None and self.max_train_pairs < 1:
            raise refuse("max_train_pairs", self.max_train_pairs, "at least 1, or null for all")


class Batch(NamedTuple):
    """Masked pairs of sentences."""

    text: Prompt
    segment_BS: Tensor
    label_BS: Tensor  # the word at chosen positions, PAD elsewhere
    follows_B: Tensor  # 1 where the second sentence follows the first


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Pairs of sentences: the rows of both, and whether the second follows the first."""

    first_P: Ids
    second_P: Ids
    follows_P: NDArray[np.bool_]

    def take(self, pairs: Ids) -> "SentencePairs":
        """The pairs of these numbers."""
        return SentencePairs(self.first_P[pairs], self.second_P[pairs], self.follows_P[pairs])


class BatchPlan(NamedTuple):
    """A batch before masking: its pairs, and the seed of its masks."""

    pairs: SentencePairs
    seed: int


class Pairs:
    """An encoded table as masked pairs of sentences."""

    def __init__(self, table: pa.Table, max_length: int, device: torch.device) -> None:
        self.ids = Ragged(table["ids"])
        self.max_length = max_length
        self.device = device

        # Rows whose next row is of the same paragraph; neither is empty.
        paragraph = table["paragraph"].to_numpy()
        length = self.ids.length
        self.first = np.flatnonzero(
            (paragraph[1:] == paragraph[:-1]) & (length[1:] > 0) & (length[:-1] > 0)
        )
        paragraph_P = paragraph[self.first]
        if not len(paragraph_P) or (paragraph_P == paragraph_P[0]).all():
            raise refuse(
                "corpus",
                "no two paragraphs of two sentences",
                "some to pair sentences of",
                "Name another corpus.",
            )

        # By pair: the first pair of its paragraph, and the number of the paragraph's pairs.
        self.start = np.searchsorted(paragraph_P, paragraph_P, side="left")
        self.size = np.searchsorted(paragraph_P, paragraph_P, side="right") - self.start

    def draw(self, rng: np.random.Generator) -> SentencePairs:
        """Pair every first sentence with the next one or, with probability 1/2, with a sentence of
        another paragraph that is not its first."""
        count = len(self.first)
        follows = rng.random(count) < 0.5
        # Uniform over the pairs of other paragraphs: skip the paragraph's pairs.
        random_pair = rng.integers(0, count - self.size)
        random_pair += np.where(random_pair >= self.start, self.size, 0)
        second = self.first[np.where(follows, np.arange(count), random_pair)] + 1
        return SentencePairs(self.first, second, follows)

    def truncated_lengths(self, pairs: SentencePairs) -> tuple[Ids, Ids]:
        """Number of words read of each sentence: the longer one loses its end until both fit."""
        room = self.max_length - 3  # <cls>, <sep>, <sep>
        first = self.ids.length[pairs.first_P]
        second = self.ids.length[pairs.second_P]
        first = np.minimum(first, np.maximum(room - second, room - room // 2))
        return first, np.minimum(second, room - first)

    def length(self, pairs: SentencePairs) -> Ids:
        """Number of words read of each pair."""
        first, second = self.truncated_lengths(pairs)
        return first + second

    def concatenate(self, pairs: SentencePairs) -> tuple[Ids, Ids]:
        """Ids (pairs, width) and segments likewise: BOS first EOS second EOS, then PAD.

        The width is a multiple of `token_budget.BUCKET`, or max_length.
        """
        first, second = self.truncated_lengths(pairs)
        length = first + second + 3
        width = min(round_up_to_bucket(int(length.max())), self.max_length)
        column = np.arange(width)
        middle = (first + 1)[:, None]  # column of the EOS between the sentences
        end = (length - 1)[:, None]  # column of the last EOS

        ids = np.full((len(first), width), PAD, dtype=np.int64)
        for rows, words, start in (
            (pairs.first_P, first, 1),
            (pairs.second_P, second, first + 2),
        ):
            begin = np.broadcast_to(start, len(first))[:, None]
            inside = (column >= begin) & (column < begin + words[:, None])
            ids[inside] = self.ids.values[(self.ids.start[rows, None] + column - begin)[inside]]
        ids[:, 0] = BOS
        ids[(column == middle) | (column == end)] = EOS

        segment = ((column > middle) & (column <= end)).astype(np.int64)
        return ids, segment

    def batch(self, pairs: SentencePairs, words: Ids, rng: np.random.Generator) -> Batch:
        """The pairs with their words masked by `rng`; a random word is one of `vocabulary_ids`."""
        ids, segment = self.concatenate(pairs)
        length = (ids != PAD).sum(1)
        masked, label = mask_words(ids, words, rng)
        ids_BS, segment_BS, label_BS, length_B, follows_B = (
            torch.from_numpy(array).to(self.device)
            for array in (masked, segment, label, length, pairs.follows_P)
        )
        return Batch(Prompt(ids_BS, length_B), segment_BS, label_BS, follows_B.long())


def mask_words(ids: Ids, words: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Mask `ids`: return the input and, at the chosen positions, the labels (PAD elsewhere).

    Of each row 15 % of the words are chosen, rounded, but at least one; never PAD, BOS or EOS.
    """
    # Choose: the words with the lowest random numbers of their row.
    is_word = ~np.isin(ids, (PAD, BOS, EOS))
    key = np.where(is_word, rng.random(ids.shape), 2.0)
    rank = key.argsort(1).argsort(1)
    count = np.maximum(1, np.rint(CHOSEN * is_word.sum(1)))
    chosen = is_word & (rank < count[:, None])

    # Replace: 80 % by MASK, 10 % by a random word; 10 % stay.
    share = rng.random(ids.shape)
    random = words[rng.integers(0, len(words), ids.shape)]
    replaced = np.where(share < MASKED, MASK, np.where(share < MASKED + RANDOM, random, ids))
    return np.where(chosen, replaced, ids), np.where(chosen, ids, PAD)


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.train = Pairs(train, config.max_length, device)
        self.valid = valid
        self.words = vocabulary_ids(train)
        self.config = config
        self.seed = seed
        self.device = device

    def plan(self, epoch: int) -> list[BatchPlan]:
        """The epoch's batches: alike in length, shuffled within and among one another."""
        rng = np.random.default_rng(derive(self.seed, f"pairs of epoch {epoch}"))
        pairs = self.train.draw(rng)
        order = rng.permutation(len(pairs.first_P))[: self.config.max_train_pairs]

        # Sort by length, so that batches need little padding.
        length = self.train.length(pairs)
        order = order[np.argsort(length[order], kind="stable")]

        size = self.config.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        seeds = rng.integers(0, 2**63, len(batches))
        return [
            BatchPlan(pairs.take(batches[i]), int(seeds[i])) for i in rng.permutation(len(batches))
        ]

    def batch(self, planned: BatchPlan) -> Batch:
        return self.train.batch(planned.pairs, self.words, np.random.default_rng(planned.seed))

    def loss(
        self, model: MaskedLanguageModel, batch: Batch, hidden_state: None
    ) -> tuple[Loss, None]:
        """Mean of the words plus mean of the pairs (Devlin et al. 2019, A.2), times the number of
        words."""
        logits_NV, label_N, logits_B2 = logits(model, batch)
        word_loss = summed_cross_entropy(logits_NV, label_N)
        pair_loss = F.cross_entropy(logits_B2, batch.follows_B)
        return Loss(word_loss + len(label_N) * pair_loss, len(label_N)), None

    def validate(self, model: MaskedLanguageModel) -> tuple[Loss, dict[str, float]]:
        """The loss, and both parts and accuracies; the perplexity is of the masked words only."""
        scores = score(model, self.valid, self.config, self.device)
        words = int(scores["count"].sum())
        pairs = len(scores["count"])
        metrics = {
            "mlm_loss": float(scores["nats"].sum() / words),
            "mlm_accuracy": float(scores["correct"].sum() / words),
            "nsp_loss": float(scores["pair_nats"].sum() / pairs),
            "nsp_accuracy": float(scores["pair_correct"].sum() / pairs),
        }
        total = torch.tensor((metrics["mlm_loss"] + metrics["nsp_loss"]) * words)
        perplexity = math.exp(min(metrics["mlm_loss"], 700.0))  # exp(709.8) is the largest float
        return Loss(total, words), metrics | {"perplexity": perplexity}

    def describe(self, planned: BatchPlan) -> str:
        first = planned.pairs.first_P
        rows = ", ".join(str(row) for row in first[:10])
        more = ", ..." if len(first) > 10 else ""
        return f"pairs that begin with rows {rows}{more} of the training table"


def positions(table: pa.Table, config: Config, training: bool, padded: bool) -> int:
    """The positions of the table's longest possible pair, padding counted: any two of its sentences
    may be paired."""
    longest = np.sort(Ragged(table["ids"]).length)[-2:]
    return min(round_up_to_bucket(int(longest.sum()) + 3), config.max_length)


def vocabulary_ids(table: pa.Table) -> Ids:
    """Every word of the table, once; no specials."""
    ids: Ids = np.unique(Ragged(table["ids"]).values).astype(np.int64)
    return ids[ids >= len(SPECIALS)]


def logits(model: MaskedLanguageModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """logits_NV at the chosen positions only, label_N, and logits_B2 of the pairs."""
    hidden_BSH = model.read(batch.text, batch.segment_BS)
    # The projection on the vocabulary is the costly part: only where there is a label.
    chosen_BS = batch.label_BS != PAD
    return (
        model.project(hidden_BSH[chosen_BS]),
        batch.label_BS[chosen_BS],
        model.follows(hidden_BSH).float(),
    )


@torch.inference_mode()
def score(
    model: MaskedLanguageModel, table: pa.Table, config: Config, device: torch.device
) -> dict[str, NDArray[Any]]:
    """Score every pair of the table; pairs and masks depend on the table and `max_length` alone.

    Columns by pair: the first sentence's `row`; `length`; `nats`, `count` and `correct` guesses of
    its masked words; `pair_nats` and `pair_correct` of whether the second sentence follows; and
    `masks`, a digest of the pair's input and labels. Only scores of equal masks are comparable.
    """
    pairs = Pairs(table, config.max_length, device)
    rng = np.random.default_rng(derive(SCORING_SEED, "scored pairs"))
    drawn = pairs.draw(rng)
    words = vocabulary_ids(table)
    length = pairs.length(drawn)

    names = ("nats", "count", "correct", "pair_nats", "pair_correct")
    scores = {name: np.zeros(len(length)) for name in names}
    masks = np.zeros(len(length), np.int64)
    for index in batches_by_length(length, SCORING_BATCH):
        batch = pairs.batch(drawn.take(index), words, rng)
        masks[index] = _mask_digests(batch)
        for name, value in _score_batch(model, batch).items():
            scores[name][index] = value.double().cpu().numpy()
    rows = pairs.first.astype(np.float64)
    return {"row": rows, "length": length.astype(np.float64), **scores, "masks": masks}


def _mask_digests(batch: Batch) -> Ids:
    """A 63-bit digest of each pair's input and labels, without padding."""
    ids_BS = batch.text.ids_BS.cpu().numpy().astype("<i8")
    label_BS = batch.label_BS.cpu().numpy().astype("<i8")
    lengths = batch.text.length_B.tolist()
    digests = (
        blake2b(ids[:length].tobytes() + label[:length].tobytes(), digest_size=8).digest()
        for ids, label, length in zip(ids_BS, label_BS, lengths, strict=True)
    )
    return np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], np.int64)


def _score_batch(model: MaskedLanguageModel, batch: Batch) -> dict[str, Tensor]:
    """The scores of each pair of the batch."""
    logits_NV, label_N, logits_B2 = logits(model, batch)
    pair_N = (batch.label_BS != PAD).nonzero()[:, 0]
    zeros_B = torch.zeros(len(batch.follows_B), dtype=torch.float64, device=pair_N.device)

    def sum_by_pair(value_N: Tensor) -> Tensor:
        return zeros_B.index_add(0, pair_N, value_N.double())

    return {
        "nats": sum_by_pair(F.cross_entropy(logits_NV.float(), label_N, reduction="none")),
        "count": sum_by_pair(torch.ones_like(label_N)),
        "correct": sum_by_pair(logits_NV.argmax(1) == label_N),
        "pair_nats": F.cross_entropy(logits_B2, batch.follows_B, reduction="none"),
        "pair_correct": logits_B2.argmax(1) == batch.follows_B,
    }


def prompt(ids: pa.ListArray, device: torch.device) -> tuple[Prompt, Tensor]:
    """Sentences as a prompt of one segment, and their segments (0); MASK stands for a word to
    guess."""
    rows = Ragged(pa.chunked_array([ids]))
    padded = rows.padded(np.arange(len(rows.length)), before=BOS, after=EOS)
    ids_BS = torch.from_numpy(padded).to(device)
    length_B = torch.from_numpy(rows.length + 2).to(device)
    return Prompt(ids_BS, length_B), torch.zeros_like(ids_BS)
