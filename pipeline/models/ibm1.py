"""Lexical translation by IBM model 1 (Brown et al. 1993, section 4.2), read as a decoder.

Model 1 gives the probability t(word | source word) that a source word, or the empty word, is
translated by a target word. It is fitted by EM, without gradients. The decoder translates word by
word: the alignment a prefers the source position that is as far in the source as the target has got
(as in Dyer et al. 2013, equation 2, with distances in words). A bigram model of the targets joins
neighbouring words. The target's length m depends on that of the source, l, by a normal distribution
of mean c l and variance v l (Gale and Church 1993, section 3.1):

    P(y_t | y_<t, source) ~ P(m > t) / P(m >= t) lexical(y_t) bigram(y_t | y_t-1)^g
    P(EOS | y_<t, source) ~ P(m = t) / P(m >= t) bigram(EOS | y_t-1)^g, for t = 0, 1, ...
    lexical(y_t) = s sum_i a(i | t) t(y_t | x_i) + (1 - s) unigram(y_t)

s is fitted on the validation pairs, and g is a setting.

Shapes: B batch, S source positions, the empty word first, T target, N real target positions, V
target vocabulary, M and K places with an entry, H = 2 + 2 S: the last word, log P(m > t) / P(m >=
t), the source and its alignment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.nn import lexicon
from pipeline.nn.concave import mixture_share
from pipeline.nn.masks import real_BS
from pipeline.text.token_budget import Ragged

EMPTY = BOS  # id of the empty source word; BOS is in no source
_LEAST = 1e-5  # smaller probabilities of t, and of alignments, become 0
_DISCOUNT = 0.75  # taken from each count of a bigram
_BATCH = 64  # validation pairs at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    - `iterations`: of EM.
    - `tension`: how fast the probability of an alignment falls with its distance in words from the
      expected position: exp(-tension * distance). With 0 all positions are alike, as in model 1.
    - `bigram`: exponent of the bigram model; 0 leaves it out.
    """

    iterations: int
    tension: float
    bigram: float

    def __post_init__(self) -> None:
        at_least_one(iterations=self.iterations)
        for key, value in (("tension", self.tension), ("bigram", self.bigram)):
            if value < 0:
                raise refuse(key, value, "at least 0, such as 1.0")


class State(NamedTuple):
    """Empty word and source, padded, and the position of the next word."""

    source_BS: Tensor
    position_B: Tensor


class Table(nn.Module):
    """Sparse probabilities of words given a word: `word` and `prob` from start[given] to
    start[given + 1]."""

    start: Tensor
    word: Tensor
    prob: Tensor

    def __init__(self, given: int) -> None:
        super().__init__()
        self.register_buffer("start", torch.zeros(given + 1, dtype=torch.int64))
        self.register_buffer("word", torch.empty(0, dtype=torch.int32))
        self.register_buffer("prob", torch.empty(0))

    def set(
        self, given: NDArray[np.int64], word: NDArray[np.int64], prob: NDArray[np.float64]
    ) -> None:
        """Set the entries, which are sorted by `given`."""
        device = self.start.device
        start = np.searchsorted(given, np.arange(len(self.start)))
        self.start = torch.from_numpy(start).to(device)
        self.word = torch.from_numpy(word.astype(np.int32)).to(device)
        self.prob = torch.from_numpy(prob.astype(np.float32)).to(device)

    def add(self, to_NV: Tensor, given_NS: Tensor, weight_NS: Tensor) -> Tensor:
        """Add to each row of `to_NV`, in place, the probabilities given its words, weighted."""
        row_M, place_M = weight_NS.nonzero(as_tuple=True)
        given_M = given_NS[row_M, place_M]
        start_M = self.start[given_M]
        size_M = self.start[given_M + 1] - start_M

        # The entries of all words, end to end.
        entry_K = torch.repeat_interleave(torch.arange(len(size_M), device=size_M.device), size_M)
        first_M = start_M - (size_M.cumsum(0) - size_M)
        index_K = first_M[entry_K] + torch.arange(len(entry_K), device=size_M.device)
        value_K = self.prob[index_K] * weight_NS[row_M, place_M][entry_K]
        cell_K = row_M[entry_K] * to_NV.shape[1] + self.word[index_K]
        to_NV.view(-1).index_add_(0, cell_K, value_K)
        return to_NV


class Model(nn.Module):
    """p(target | source), word by word."""

    unigram_V: Tensor
    backoff_V: Tensor
    ratio: Tensor
    variance: Tensor
    share: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.translations = Table(sizes.source)
        self.bigrams = Table(sizes.target)
        self.register_buffer("unigram_V", torch.zeros(sizes.target))
        # What the bigrams of a word leave to unigrams.
        self.register_buffer("backoff_V", torch.zeros(sizes.target))
        # c, v and s of the equations.
        self.register_buffer("ratio", torch.ones(()))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("share", torch.zeros(()))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Fit model 1 by EM, count bigrams, and fit s; `seed` is not used."""
        sources = Ragged(train["source"])
        targets = Ragged(train["target"])
        if not len(sources.length):
            raise refuse("corpus", "no training pairs", "pairs of sentences")
        self._fit_lengths(sources.length, targets.length)
        *_, last = lexicon.expectation_maximization(
            sources, targets, EMPTY, len(self.unigram_V), self.config.iterations
        )
        self.translations.set(*_pruned(last))
        self._count_words(targets)

        self.share = torch.full_like(self.share, self._fitted_share(valid))
        nats = 0.0
        words = 0
        for prompt, input_BT, label_BT in self._batches(valid):
            real_BT = label_BT != PAD
            logits_NV = self.project(self.hidden(prompt, input_BT)[real_BT])
            nats += float(F.cross_entropy(logits_NV, label_BT[real_BT], reduction="none").sum())
            words += int(real_BT.sum())
        return {"loss": nats / words}

    def _fit_lengths(self, source_N: NDArray[np.int64], target_N: NDArray[np.int64]) -> None:
        """Fit the ratio c of the lengths, and the variance v for each source word."""
        ratio = target_N.sum() / source_N.sum()
        squares_N = (target_N - ratio * source_N) ** 2 / source_N
        # Lengths are whole numbers: where all agree, the variance is that of rounding.
        variance = max(squares_N.mean(), 1 / 12)
        self.ratio = torch.full_like(self.ratio, float(ratio))
        self.variance = torch.full_like(self.variance, float(variance))

    def _count_words(self, targets: Ragged) -> None:
        """Fit unigrams (add one) and bigrams (absolute discounting, Ney et al. 1994)."""
        ids, _ = lexicon.flat(targets, before=BOS, after=EOS)
        vocabulary = len(self.unigram_V)
        count_V = np.bincount(ids, minlength=vocabulary) + 1.0
        count_V[[PAD, BOS]] = 0  # these are never predicted
        unigram_V = count_V / count_V.sum()

        is_history = ids[:-1] != EOS
        history, word = ids[:-1][is_history], ids[1:][is_history]
        cell, count = np.unique(history * vocabulary + word, return_counts=True)
        given = cell // vocabulary
        total_V = np.bincount(given, count, minlength=vocabulary)
        kinds_V = np.bincount(given, minlength=vocabulary)
        self.bigrams.set(given, cell % vocabulary, (count - _DISCOUNT) / total_V[given])

        # A word that is never followed by one leaves everything.
        backoff_V = np.where(total_V > 0, _DISCOUNT * kinds_V / np.maximum(total_V, 1), 1.0)
        device = self.ratio.device
        self.unigram_V = torch.from_numpy(unigram_V).to(device, torch.float32)
        self.backoff_V = torch.from_numpy(backoff_V).to(device, torch.float32)

    def _fitted_share(self, valid: pa.Table) -> float:
        """The share s that makes the validation words likeliest without the bigram model."""
        unigrams = []
        lexical = []
        for prompt, input_BT, label_BT in self._batches(valid):
            is_word_BT = (label_BT != PAD) & (label_BT != EOS)
            lexical_NV = self._lexical(self.hidden(prompt, input_BT)[is_word_BT])
            label_N = label_BT[is_word_BT]
            unigrams.append(self.unigram_V[label_N].double().cpu().numpy())
            lexical.append(lexical_NV.gather(1, label_N[:, None])[:, 0].double().cpu().numpy())
        return mixture_share(np.concatenate(unigrams), np.concatenate(lexical))

    def _batches(self, table: pa.Table) -> Iterator[tuple[Prompt, Tensor, Tensor]]:
        """The pairs of a table: prompt, input_BT from BOS on, and label_BT to EOS."""
        sources = Ragged(table["source"])
        targets = Ragged(table["target"])
        device = self.ratio.device
        for start in range(0, len(sources.length), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(sources.length)))
            ids_BS = torch.from_numpy(sources.padded(rows, before=None, after=EOS)).to(device)
            length_B = torch.from_numpy(sources.length[rows] + 1).to(device)
            target_BT = torch.from_numpy(targets.padded(rows, before=BOS, after=EOS)).to(device)
            yield Prompt(ids_BS, length_B), target_BT[:, :-1], target_BT[:, 1:]

    def _alignment(self, length_B: Tensor, position_BT: Tensor, width: int) -> Tensor:
        """a(i | t), BTS of `width` positions, the first of which is the empty word."""
        last_B1 = (length_B - 1)[:, None]
        expected_BT = torch.minimum(position_BT / self.ratio, last_B1)
        place_S = torch.arange(width - 1, device=length_B.device)
        score_BTS = -self.config.tension * (place_S - expected_BT[:, :, None]).abs()
        is_real_B1S = real_BS(length_B, width - 1)[:, None, :]
        weight_BTS = score_BTS.masked_fill(~is_real_B1S, -torch.inf).softmax(-1)
        weight_BTS = weight_BTS.masked_fill(weight_BTS < _LEAST, 0.0)
        weight_BTS = weight_BTS / weight_BTS.sum(-1, keepdim=True)

        # The empty word has the share that it has in model 1: one of l + 1 positions.
        empty_BT1 = (1 / (length_B + 1))[:, None, None].expand(-1, position_BT.shape[1], 1)
        return torch.cat([empty_BT1, (1 - empty_BT1) * weight_BTS], -1)

    def _log_goes_on(self, length_B: Tensor, position_BT: Tensor) -> Tensor:
        """log P(m > t) / P(m >= t), m being the length of the target."""
        mean_B1 = (self.ratio * length_B)[:, None]
        deviation_B1 = (self.variance * length_B).sqrt()[:, None]
        # The normal distribution's tails from half a word before t and behind it, in float64.
        score_BT = (position_BT.double() - mean_B1) / deviation_B1
        half_B1 = 0.5 / deviation_B1
        before_BT = torch.special.log_ndtr(-(score_BT - half_B1))
        behind_BT = torch.special.log_ndtr(-(score_BT + half_B1))
        # At t = 0 all lengths are still possible.
        log_goes_on_BT: Tensor = behind_BT - before_BT.masked_fill(position_BT == 0, 0.0)
        return log_goes_on_BT

    def _describe(self, source_BS: Tensor, position_BT: Tensor, last_BT: Tensor) -> Tensor:
        """hidden_BTH, from which `project` computes the next word's distribution."""
        # A source without words is read as one unknown word.
        length_B = (source_BS != PAD).sum(1).sub(1).clamp(min=1)
        weight_BTS = self._alignment(length_B, position_BT, source_BS.shape[1])
        parts = [
            last_BT[:, :, None],
            self._log_goes_on(length_B, position_BT)[:, :, None],
            source_BS[:, None, :].expand_as(weight_BTS),
            weight_BTS,
        ]
        return torch.cat([part.double() for part in parts], -1)

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        position_BT = torch.arange(target_BT.shape[1], device=target_BT.device).expand_as(target_BT)
        return self._describe(_words(prompt), position_BT, target_BT)

    def _lexical(self, hidden_NH: Tensor) -> Tensor:
        """sum_i a(i | t) t(y | x_i) for all words y, NV."""
        source_NS, weight_NS = hidden_NH[:, 2:].chunk(2, 1)
        lexical_NV = self.unigram_V.new_zeros(len(hidden_NH), len(self.unigram_V))
        return self.translations.add(lexical_NV, source_NS.long(), weight_NS.float())

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV; PAD and BOS have probability 0."""
        lexical_NV = self._lexical(hidden_NH)
        logits_NV = torch.lerp(self.unigram_V.expand_as(lexical_NV), lexical_NV, self.share).log()

        # The end: by the length alone, as if it were a word.
        log_goes_on_N = hidden_NH[:, 1]
        logits_NV += log_goes_on_N[:, None].float()
        ends_N = -torch.expm1(log_goes_on_N)
        logits_NV[:, EOS] = ends_N.clamp(min=torch.finfo(torch.float64).tiny).log().float()
        if self.config.bigram == 0:
            return logits_NV

        last_N = hidden_NH[:, 0].long()
        bigram_NV = self.backoff_V[last_N][:, None] * self.unigram_V
        self.bigrams.add(bigram_NV, last_N[:, None], torch.ones_like(bigram_NV[:, :1]))
        return logits_NV + self.config.bigram * bigram_NV.log()

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        state = State(_words(prompt), torch.zeros_like(prompt.length_B))
        return state, torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        source_BS, position_B = state
        hidden_B1H = self._describe(source_BS, position_B[:, None], last_B[:, None])
        log_probs_BV = self.project(hidden_B1H[:, 0]).log_softmax(-1)
        return log_probs_BV, State(source_BS, position_B + 1)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        return State(*(part.index_select(0, rows_B) for part in state))


def _pruned(
    pairs: lexicon.Lexicon,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The lexicon without tiny probabilities; the others of a word sum to 1 again."""
    is_kept = pairs.prob >= _LEAST
    given = pairs.given[is_kept]
    prob = pairs.prob[is_kept]
    return given, pairs.word[is_kept], prob / np.bincount(given, prob)[given]


def _words(prompt: Prompt) -> Tensor:
    """The sources with the empty word in front, and without their end."""
    words_BS = prompt.ids_BS.masked_fill(prompt.ids_BS == EOS, PAD)
    return F.pad(words_BS, (1, 0), value=EMPTY)
