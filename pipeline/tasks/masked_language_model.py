"""BERT's two objectives (Devlin et al. 2019, section 3.1; d2l section 15.9): words that were masked
are guessed, and whether a sentence follows another.

A pair of sentences is read as BOS first EOS second EOS. Half of the seconds are those that follow,
half stand elsewhere. Of the words 15 % are chosen: 80 % of these become MASK, 10 % a random word,
10 % stay. All is drawn anew each epoch. Shapes: B batch, S positions, N chosen positions, H width,
V vocabulary, P pairs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

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
from pipeline.ragged import Ragged, round_up_to_bucket
from pipeline.text.specials import SPECIALS

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora it reads
SOURCE_TARGET = ("text", "text")  # what is read, and what is answered
USES_SEARCH = False  # whether the answer is found by a search
CHOSEN, MASKED, RANDOM = 0.15, 0.8, 0.1  # shares: of the words, and of the chosen ones
SCORING_BATCH = 64  # pairs per batch when scoring
# of the pairs and masks that are scored: the same for every run, so that runs can be compared
SCORING_SEED = 0

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run. Pairs longer than `max_length`, <cls> and <sep> included, lose the
    ends of their sentences. `max_train_pairs` ends an epoch after so many (the book trains on 50
    batches of 512); null reads all."""

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
    """Masked pairs; label_BS holds the chosen positions' words and PAD elsewhere; follows_B whether
    the second follows."""

    text: Prompt
    segment_BS: Tensor
    label_BS: Tensor
    follows_B: Tensor


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Pairs of sentences: the rows of both, and whether the second follows the first."""

    first_P: Ids
    second_P: Ids
    follows_P: NDArray[np.bool_]

    def take(self, pairs: Ids) -> "Chosen":
        """Some of the pairs."""
        return SentencePairs(self.first_P[pairs], self.second_P[pairs], self.follows_P[pairs])


class BatchPlan(NamedTuple):
    """A batch to be made: its pairs, and the seed of its masks."""

    chosen: SentencePairs
    seed: int


class Pairs:
    """An encoded table as masked pairs of sentences."""

    def __init__(self, table: pa.Table, max_length: int, device: torch.device) -> None:
        self.ids, self.max_length, self.device = Ragged(table["ids"]), max_length, device
        paragraph, length = table["paragraph"].to_numpy(), self.ids.length
        self.first = np.flatnonzero(
            (paragraph[1:] == paragraph[:-1]) & (length[1:] > 0) & (length[:-1] > 0)
        )
        own = paragraph[self.first]
        if not len(own) or (own == own[0]).all():
            raise refuse(
                "corpus",
                "no two paragraphs of two sentences",
                "some to pair sentences of",
                "Name another corpus.",
            )
        # where the paragraph's first pair stands among all pairs
        self.start = np.searchsorted(own, own, side="left")
        self.size = np.searchsorted(own, own, side="right") - self.start

    def draw(self, rng: np.random.Generator) -> SentencePairs:
        """Every first sentence with the one that follows, or, one in two, with one that follows in
        another paragraph."""
        count = len(self.first)
        follows = rng.random(count) < 0.5
        other = rng.integers(0, count - self.size)
        other += np.where(other >= self.start, self.size, 0)
        return SentencePairs(
            self.first, self.first[np.where(follows, np.arange(count), other)] + 1, follows
        )

    def kept(self, chosen: SentencePairs) -> tuple[Ids, Ids]:
        """Number of words read of each sentence: the longer one loses its end until both fit."""
        room = self.max_length - 3
        first, second = self.ids.length[chosen.first_P], self.ids.length[chosen.second_P]
        first = np.minimum(first, np.maximum(room - second, room - room // 2))
        return first, np.minimum(second, room - first)

    def length(self, chosen: SentencePairs) -> Ids:
        """Number of words read of each pair."""
        first, second = self.kept(chosen)
        return first + second

    def joined(self, chosen: SentencePairs) -> tuple[Ids, Ids]:
        """ids (pairs, width), BOS first EOS second EOS and PAD to a width of whole buckets;
        segments likewise."""
        first, second = self.kept(chosen)
        length = first + second + 3
        width = min(round_up_to_bucket(int(length.max())), self.max_length)
        column, gap, end = np.arange(width), (first + 1)[:, None], (length - 1)[:, None]
        ids = np.full((len(first), width), PAD, dtype=np.int64)
        for rows, words, lead in ((chosen.first_P, first, 1), (chosen.second_P, second, first + 2)):
            begin = np.broadcast_to(lead, len(first))[:, None]
            inside = (column >= begin) & (column < begin + words[:, None])
            ids[inside] = self.ids.values[(self.ids.start[rows, None] + column - begin)[inside]]
        ids[:, 0] = BOS
        ids[(column == gap) | (column == end)] = EOS
        return ids, ((column > gap) & (column <= end)).astype(np.int64)

    def batch(self, chosen: SentencePairs, words: Ids, rng: np.random.Generator) -> Batch:
        """The pairs with their words masked by `rng`; a random word is one of `vocabulary_ids`."""
        ids, segment = self.joined(chosen)
        length = (ids != PAD).sum(1)
        read, label = mask_words(ids, words, rng)
        ids_BS, segment_BS, label_BS, length_B, follows_B = (
            torch.from_numpy(part).to(self.device)
            for part in (read, segment, label, length, chosen.follows_P)
        )
        return Batch(Prompt(ids_BS, length_B), segment_BS, label_BS, follows_B.long())


def mask_words(ids: Ids, words: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Mask `ids`: the input and, at the chosen positions, the targets (PAD elsewhere).

    Of each row 15 % of the words are chosen, rounded, but at least one; never PAD, BOS or EOS.
    """
    is_word = ~np.isin(ids, (PAD, BOS, EOS))
    key = np.where(is_word, rng.random(ids.shape), 2.0)
    rank = key.argsort(1).argsort(1)
    count = np.maximum(1, np.rint(CHOSEN * is_word.sum(1)))
    chosen = is_word & (rank < count[:, None])
    fate = rng.random(ids.shape)
    random = words[rng.integers(0, len(words), ids.shape)]
    read = np.where(fate < MASKED, MASK, np.where(fate < MASKED + RANDOM, random, ids))
    return np.where(chosen, read, ids), np.where(chosen, ids, PAD)


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.train, self.valid = Pairs(train, config.max_length, device), valid
        self.words, self.config, self.seed, self.device = (
            vocabulary_ids(train),
            config,
            seed,
            device,
        )

    def plan(self, epoch: int) -> list[BatchPlan]:
        """The epoch's batches: alike in length, shuffled within and among one another."""
        rng = np.random.default_rng(derive(self.seed, f"pairs of epoch {epoch}"))
        chosen = self.train.draw(rng)
        order = rng.permutation(len(chosen.first_P))[: self.config.max_train_pairs]
        length = self.train.length(chosen)
        order = order[np.argsort(length[order], kind="stable")]
        size = self.config.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        seeds = rng.integers(0, 2**63, len(batches))
        return [
            BatchPlan(chosen.take(batches[i]), int(seeds[i])) for i in rng.permutation(len(batches))
        ]

    def batch(self, planned: BatchPlan) -> Batch:
        return self.train.batch(planned.chosen, self.words, np.random.default_rng(planned.seed))

    def loss(self, model: MaskedLanguageModel, batch: Batch, carry: None) -> tuple[Loss, None]:
        """Mean of the words plus mean of the pairs (Devlin et al. 2019, A.2), as a sum over the
        words."""
        logits_NV, label_N, logits_B2 = logits(model, batch)
        words = summed_cross_entropy(logits_NV, label_N)
        return Loss(
            words + len(label_N) * F.cross_entropy(logits_B2, batch.follows_B), len(label_N)
        ), None

    def validate(self, model: MaskedLanguageModel) -> tuple[Loss, dict[str, float]]:
        """Beside the loss both losses and accuracies; the perplexity is that of the masked words
        alone."""
        scored = score(model, self.valid, self.config, self.device)
        words, pairs = int(scored["count"].sum()), len(scored["count"])
        figures = {
            "mlm_loss": float(scored["nats"].sum() / words),
            "mlm_accuracy": float(scored["correct"].sum() / words),
            "nsp_loss": float(scored["pair_nats"].sum() / pairs),
            "nsp_accuracy": float(scored["pair_correct"].sum() / pairs),
        }
        total = torch.tensor((figures["mlm_loss"] + figures["nsp_loss"]) * words)
        return Loss(total, words), figures | {
            "perplexity": math.exp(min(figures["mlm_loss"], 700.0))
        }

    def describe(self, planned: BatchPlan) -> str:
        first = planned.chosen.first_P
        shown = ", ".join(str(row) for row in first[:10])
        return (
            f"pairs that begin with rows {shown}{', ...' if len(first) > 10 else ''} of the "
            "training table"
        )


def positions(table: pa.Table, config: Config, training: bool, padded: bool) -> int:
    """The positions of the table's longest pair, padding counted: any two of its sentences may
    become one."""
    longest = np.sort(Ragged(table["ids"]).length)[-2:]
    return min(round_up_to_bucket(int(longest.sum()) + 3), config.max_length)


def vocabulary_ids(table: pa.Table) -> Ids:
    """Every word of the table, once."""
    found: Ids = np.unique(Ragged(table["ids"]).values).astype(np.int64)
    return found[found >= len(SPECIALS)]


def logits(model: MaskedLanguageModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """logits_NV at the chosen positions only, label_N, and logits_B2 of the pairs."""
    hidden_BSH = model.read(batch.text, batch.segment_BS)
    chosen_BS = batch.label_BS != PAD
    return (
        model.project(hidden_BSH[chosen_BS]),
        batch.label_BS[chosen_BS],
        model.follows(hidden_BSH).float(),
    )


@torch.inference_mode()
def score(
    model: MaskedLanguageModel, table: pa.Table, config: Config, device: torch.device
) -> dict[str, NDArray[np.float64]]:
    """By pair: the first sentence's `row`, `length`, and nats, count and correct guesses of its
    masked words; `pair_nats` and `pair_correct` of whether the second follows. Pairs and masks
    depend on the table alone."""
    pairs, rng = (
        Pairs(table, config.max_length, device),
        np.random.default_rng(derive(SCORING_SEED, "scored pairs")),
    )
    chosen, known = pairs.draw(rng), vocabulary_ids(table)
    length = pairs.length(chosen)
    found = {
        name: np.zeros(len(length))
        for name in ("nats", "count", "correct", "pair_nats", "pair_correct")
    }
    for some in _by_length(length):
        for name, value in _scored(model, pairs.batch(chosen.take(some), known, rng)).items():
            found[name][some] = value.double().cpu().numpy()
    return {"row": pairs.first.astype(np.float64), "length": length.astype(np.float64), **found}


def _by_length(length: Ids) -> Iterator[Ids]:
    order = np.argsort(length, kind="stable")
    for start in range(0, len(order), SCORING_BATCH):
        yield order[start : start + SCORING_BATCH]


def _scored(model: MaskedLanguageModel, batch: Batch) -> dict[str, Tensor]:
    """Each pair's sums."""
    logits_NV, label_N, logits_B2 = logits(model, batch)
    pair_N = (batch.label_BS != PAD).nonzero()[:, 0]
    zeros_B = torch.zeros(len(batch.follows_B), dtype=torch.float64, device=pair_N.device)

    def by_pair(value_N: Tensor) -> Tensor:
        return zeros_B.index_add(0, pair_N, value_N.double())

    return {
        "nats": by_pair(F.cross_entropy(logits_NV.float(), label_N, reduction="none")),
        "count": by_pair(torch.ones_like(label_N)),
        "correct": by_pair(logits_NV.argmax(1) == label_N),
        "pair_nats": F.cross_entropy(logits_B2, batch.follows_B, reduction="none"),
        "pair_correct": logits_B2.argmax(1) == batch.follows_B,
    }


def prompt(ids: pa.ListArray, device: torch.device) -> tuple[Prompt, Tensor]:
    """Sentences, MASK where a word is to be guessed, each as a text of one segment; and the
    segments."""
    side = Ragged(pa.chunked_array([ids]))
    padded = torch.from_numpy(side.padded(np.arange(len(side.length)), before=BOS, after=EOS)).to(
        device
    )
    return Prompt(padded, torch.from_numpy(side.length + 2).to(device)), torch.zeros_like(padded)
