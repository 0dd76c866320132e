"""Translation memory: the answer is the target of the training pair with the most similar source.

It is still a distribution over all targets. With probability 1/2 the target is the memory's. Else
its words are drawn independently: each from the memory's target, with a probability that is fitted
on the validation pairs, or from the words of all training targets. No other target is as likely as
the memory's, so every search finds it.

Shapes: B batch, S source, T target, M the memory's target with EOS, N training pairs or real target
positions, P postings, V vocabulary, K candidates.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, PAD, Prompt, Sizes
from pipeline.core.errors import refuse
from pipeline.nn.concave import mixture_share
from pipeline.text.token_budget import Ragged

Similarity = Literal["overlap", "tf_idf", "edit"]

_BATCH = 64  # validation pairs at a time
_BLOCK = 64  # sources whose edit distance is computed at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `similarity` of two sources:
    - `overlap`: number of words in common, over the mean length (Dice's coefficient; a word that
      occurs twice counts twice).
    - `tf_idf`: cosine of the vectors of the words' counts times log(N / pairs with the word).
    - `edit`: 1 - edit distance in words / length of the longer one ("fuzzy match score", Koehn and
      Senellart 2010, section 3.1).
    Of equally similar sources the first one of the training table is taken.
    """

    similarity: Similarity


class State(NamedTuple):
    """Number of the memory's pair; tokens before the next one; and the log odds that they are the
    memory's by intention rather than by chance (-inf if they are not its first tokens)."""

    pair_B: Tensor
    position_B: Tensor
    log_odds_B: Tensor


class Model(nn.Module):
    """p(target | source) around the target of the most similar source."""

    target_ids: Tensor
    target_start: Tensor
    unigram_V: Tensor
    share: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.vocabulary = sizes.target
        self.sources = SourceIndex(config.similarity, sizes.source)
        # Targets with EOS, end to end.
        self.register_buffer("target_ids", torch.empty(0, dtype=torch.int32))
        self.register_buffer("target_start", torch.empty(0, dtype=torch.int64))
        # Frequency of the words of all targets, and the share of the words that are the memory's.
        self.register_buffer("unigram_V", torch.zeros(sizes.target))
        self.register_buffer("share", torch.zeros(()))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Store the training pairs, and fit the distribution's parameters; `seed` is not used."""
        device = self.share.device
        self.sources.fit(Ragged(train["source"]))

        targets = Ragged(train["target"])
        ids = [
            np.append(targets.values[start : start + length], EOS)
            for start, length in zip(targets.start, targets.length, strict=True)
        ]
        flat = np.concatenate(ids)
        self.target_ids = torch.from_numpy(flat.astype(np.int32)).to(device)
        start = np.concatenate([[0], np.cumsum(targets.length + 1)])
        self.target_start = torch.from_numpy(start).to(device)

        # Add one to each count: every word is possible, but PAD and BOS are no words.
        count_V = np.bincount(flat, minlength=self.vocabulary) + 1.0
        count_V[[PAD, BOS]] = 0
        self.unigram_V = torch.from_numpy(count_V / count_V.sum()).to(device, torch.float32)
        return self._fit_share(valid)

    def _fit_share(self, valid: pa.Table) -> dict[str, float]:
        """Fit `share` on the validation pairs; return their loss in nats per token."""
        sources = Ragged(valid["source"])
        targets = Ragged(valid["target"])
        is_equal = []
        common = []
        copied = []
        for start in range(0, len(sources.length), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(sources.length)))
            ids_BS = torch.from_numpy(sources.padded(rows, before=None, after=EOS))
            target_BT = torch.from_numpy(targets.padded(rows, before=None, after=EOS))
            pair_B = self.sources.nearest(ids_BS.to(self.share.device))
            unigram_BT, copied_BT = self._word_probs(target_BT.to(self.share.device), pair_B)

            real_BT = (target_BT != PAD).to(self.share.device)
            memory_BM = self._memory(pair_B)
            width = max(memory_BM.shape[1], target_BT.shape[1])
            same_BM = _pad_to(memory_BM, width) == _pad_to(target_BT.to(memory_BM.device), width)
            is_equal += same_BM.all(1).tolist()
            common.append(unigram_BT[real_BT].double().cpu().numpy())
            copied.append(copied_BT[real_BT].double().cpu().numpy())

        unigram_N = np.concatenate(common)
        copied_N = np.concatenate(copied)
        share = mixture_share(unigram_N, copied_N)
        self.share = torch.full_like(self.share, share)

        # -log (1/2 [target is the memory's] + 1/2 product of the words' probabilities)
        log_prob_N = np.log((1 - share) * unigram_N + share * copied_N)
        ends = np.cumsum(targets.length + 1)
        log_prob_R = np.diff(np.cumsum(log_prob_N)[ends - 1], prepend=0.0)
        mixed_R = np.logaddexp(log_prob_R, np.where(is_equal, 0.0, -np.inf)) - math.log(2)
        return {"loss": -float(mixed_R.sum()) / len(log_prob_N)}

    def _memory(self, pair_B: Tensor) -> Tensor:
        """Targets of the pairs with EOS, memory_BM, padded with PAD."""
        start_B = self.target_start[pair_B]
        length_B = self.target_start[pair_B + 1] - start_B
        position_M = torch.arange(int(length_B.max()), device=pair_B.device)
        real_BM = position_M < length_B[:, None]
        index_BM = (start_B[:, None] + position_M).masked_fill(~real_BM, 0)
        return self.target_ids[index_BM].long().masked_fill(~real_BM, PAD)

    def _word_probs(self, target_BT: Tensor, pair_B: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of each token among the words of all targets, and among the memory's, BT."""
        memory_BM = self._memory(pair_B)
        length_B = (memory_BM != PAD).sum(1)
        times_BT = (target_BT[:, :, None] == memory_BM[:, None, :]).sum(2)
        return self.unigram_V[target_BT], times_BT / length_B[:, None]

    def _log_chance(self, target_BT: Tensor, pair_B: Tensor) -> Tensor:
        """log P of each token if the target's words are drawn independently, BT."""
        unigram_BT, copied_BT = self._word_probs(target_BT, pair_B)
        return ((1 - self.share) * unigram_BT + self.share * copied_BT).double().log()

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        """hidden_BT3, float64: number of the memory's pair, position, and log odds."""
        pair_B = self.sources.nearest(prompt.ids_BS)
        steps = target_BT.shape[1]
        position_T = torch.arange(steps, device=target_BT.device)

        # Log odds before each position: what the tokens before would cost if drawn by chance.
        before_BT = target_BT[:, 1:]  # behind BOS
        chance_BT = self._log_chance(before_BT, pair_B)
        follows_BT = before_BT == _pad_to(self._memory(pair_B), steps)[:, : steps - 1]
        follows_BT = follows_BT.long().cumprod(1).bool()
        odds_BT = (-chance_BT).cumsum(1).masked_fill(~follows_BT, -math.inf)
        odds_BT = F.pad(odds_BT, (1, 0))
        return torch.stack(
            [
                pair_B[:, None].expand(-1, steps).double(),
                position_T.expand(len(pair_B), -1).double(),
                odds_BT,
            ],
            -1,
        )

    def project(self, hidden_NH: Tensor) -> Tensor:
        """logits_NV, which are log-probabilities; PAD and BOS have probability 0."""
        pair_N, position_N, log_odds_N = hidden_NH.unbind(1)
        memory_NM = self._memory(pair_N.long())
        real_NM = memory_NM != PAD

        # Drawn independently.
        weight_NM = self.share * real_NM / real_NM.sum(1, keepdim=True)
        chance_NV = ((1 - self.share) * self.unigram_V).repeat(len(pair_N), 1)
        chance_NV.scatter_add_(1, memory_NM, weight_NM)
        logits_NV = chance_NV.log() + F.logsigmoid(-log_odds_N)[:, None].float()

        # The memory's next token. Where its target is left or at its end, it has none.
        is_next_N = torch.isfinite(log_odds_N)
        next_N = _pad_to(memory_NM, int(position_N.max()) + 1).gather(1, position_N[:, None].long())
        own_N1 = (
            F.logsigmoid(log_odds_N).float()[:, None].masked_fill(~is_next_N[:, None], -math.inf)
        )
        both_N1 = torch.logaddexp(logits_NV.gather(1, next_N), own_N1)
        return logits_NV.scatter_(1, next_N, both_N1)

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        pair_B = self.sources.nearest(prompt.ids_BS)
        zero_B = torch.zeros_like(pair_B)
        return State(pair_B, zero_B, zero_B.double()), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        pair_B, position_B, log_odds_B = state
        if int(position_B.max()) > 0:
            # The last token: has it been the memory's?
            memory_BM = self._memory(pair_B)
            place_B1 = (position_B - 1).clamp(max=memory_BM.shape[1] - 1)[:, None]
            follows_B = memory_BM.gather(1, place_B1)[:, 0] == last_B
            chance_B = self._log_chance(last_B[:, None], pair_B)[:, 0]
            log_odds_B = (log_odds_B - chance_B).masked_fill(~follows_B, -math.inf)

        hidden_B3 = torch.stack([pair_B.double(), position_B.double(), log_odds_B], 1)
        return self.project(hidden_B3), State(pair_B, position_B + 1, log_odds_B)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        return State(*(part.index_select(0, rows_B) for part in state))


class SourceIndex(nn.Module):
    """The training sources as an inverted index: for each word, the rows that have it."""

    source_ids: Tensor
    source_start: Tensor
    posting_row: Tensor
    posting_number: Tensor
    posting_start: Tensor
    rarity_V: Tensor
    norm_N: Tensor

    def __init__(self, similarity: Similarity, vocabulary: int) -> None:
        super().__init__()
        self.similarity = similarity
        self.vocabulary = vocabulary
        self.register_buffer("source_ids", torch.empty(0, dtype=torch.int32))
        self.register_buffer("source_start", torch.empty(0, dtype=torch.int64))
        # The rows with the word v: posting_start[v] to posting_start[v + 1]. A row with the word
        # several times is there as often; its occurrences are numbered from 0. They are sorted by
        # number, then by row.
        self.register_buffer("posting_row", torch.empty(0, dtype=torch.int32))
        self.register_buffer("posting_number", torch.empty(0, dtype=torch.int32))
        self.register_buffer("posting_start", torch.zeros(vocabulary + 1, dtype=torch.int64))
        # For tf_idf: weight of each word, and length of each row's vector.
        self.register_buffer("rarity_V", torch.zeros(vocabulary, dtype=torch.float64))
        self.register_buffer("norm_N", torch.empty(0, dtype=torch.float64))

    def fit(self, sources: Ragged) -> None:
        """Build the index of the rows. UserError if there is none."""
        rows = len(sources.length)
        if not rows:
            raise refuse("corpus", "no training pairs", "pairs to remember")
        row_P = np.repeat(np.arange(rows), sources.length)
        start = np.concatenate([[0], np.cumsum(sources.length)])
        word_P = sources.values[sources.start[row_P] + np.arange(len(row_P)) - start[row_P]]

        # Number a word's occurrences in a row; then sort by word, number and row.
        order = np.lexsort((row_P, word_P))
        cell_P = word_P[order].astype(np.int64) * rows + row_P[order]
        first = np.flatnonzero(np.diff(cell_P, prepend=-1))
        times = np.diff(first, append=len(cell_P))
        number_P = np.arange(len(cell_P)) - np.repeat(first, times)
        sorted_P = np.lexsort((cell_P % rows, number_P, cell_P // rows))
        word_start = np.searchsorted(cell_P // rows, np.arange(self.vocabulary + 1))

        # log(N / rows with the word), and the length of each row's vector of counts times it.
        word = cell_P[first] // rows
        rows_V = np.bincount(word, minlength=self.vocabulary)
        rarity_V = np.log(rows / np.maximum(rows_V, 1))
        squares = (times * rarity_V[word]) ** 2
        norm_N = np.sqrt(np.bincount(cell_P[first] % rows, squares, minlength=rows))

        self._set("source_ids", word_P.astype(np.int32))
        self._set("source_start", start)
        self._set("posting_row", (cell_P % rows)[sorted_P].astype(np.int32))
        self._set("posting_number", number_P[sorted_P].astype(np.int32))
        self._set("posting_start", word_start)
        self._set("rarity_V", rarity_V)
        self._set("norm_N", norm_N)

    def _set(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values).to(self.posting_start.device))

    def nearest(self, ids_BS: Tensor) -> Tensor:
        """Number of the most similar training row for each source; PAD and EOS are no words."""
        return torch.stack([self._nearest(row[(row != PAD) & (row != EOS)]) for row in ids_BS])

    def _nearest(self, ids_S: Tensor) -> Tensor:
        words, counts = (part.tolist() for part in torch.unique(ids_S, return_counts=True))
        if self.similarity == "tf_idf":
            weights = [
                count * rarity**2
                for count, rarity in zip(counts, self.rarity_V[words].tolist(), strict=True)
            ]
            # The length of the query's own vector changes no order.
            product_N = self._sums(words, weights, None)
            return _first_best(product_N / self.norm_N.clamp(min=1e-12))

        length_N = self.source_start.diff()
        common_N = self._sums(words, [1.0] * len(words), counts)
        if self.similarity == "overlap":
            return _first_best(2 * common_N / (length_N + len(ids_S)).clamp(min=1))

        # The edit distance is at least the longer length less the words in common.
        return self._nearest_by_edits(ids_S, common_N / length_N.clamp(min=max(len(ids_S), 1)))

    def _sums(self, words: list[int], weights: list[float], most: list[int] | None) -> Tensor:
        """For each row the sum of the weights of its words, each word as often as it occurs, but
        at most as often as `most` says."""
        sum_N = torch.zeros_like(self.norm_N)
        one_N = torch.ones_like(self.norm_N)
        starts = self.posting_start[words].tolist()
        ends = self.posting_start[[word + 1 for word in words]].tolist()
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            rows = self.posting_row[start:end]
            if most is not None:
                count = int(torch.searchsorted(self.posting_number[start:end], most[place]))
                rows = rows[:count]
            # In parts without a row twice.
            for part in torch.split(rows, len(one_N)):
                sum_N.index_add_(0, part, one_N[: len(part)], alpha=weights[place])
        return sum_N

    def _nearest_by_edits(self, ids_S: Tensor, bound_N: Tensor) -> Tensor:
        """The row of the highest fuzzy match score, which is nowhere above `bound_N`."""
        # The most promising rows give a score; then only rows that may reach it are compared.
        likely = bound_N.topk(min(_BLOCK, len(bound_N))).indices
        best = self._match_scores(ids_S, likely).max()
        row_K = (bound_N >= best).nonzero()[:, 0]
        scores = [self._match_scores(ids_S, block) for block in torch.split(row_K, _BLOCK)]
        return row_K[_first_best(torch.cat(scores))]

    def _match_scores(self, ids_S: Tensor, row_K: Tensor) -> Tensor:
        """1 - edit distance / length of the longer source."""
        length_K = self.source_start[row_K + 1] - self.source_start[row_K]
        longer_K = length_K.clamp(min=max(len(ids_S), 1))
        return (longer_K - self._edit_distance(ids_S, row_K, length_K)) / longer_K.double()

    def _edit_distance(self, ids_S: Tensor, row_K: Tensor, length_K: Tensor) -> Tensor:
        """Words to insert, delete or replace between the source and each row (Levenshtein)."""
        position_M = torch.arange(int(length_K.max()), device=row_K.device)
        index_KM = self.source_start[row_K][:, None] + position_M
        word_KM = self.source_ids[index_KM.clamp(max=len(self.source_ids) - 1)]

        # distance_KM: from the words of ids_S read so far to the first m words of each row.
        column_M = torch.arange(len(position_M) + 1, device=row_K.device)
        distance_KM = column_M.repeat(len(row_K), 1)
        for word in ids_S:
            replaced_KM = distance_KM[:, :-1] + (word_KM != word)
            deleted_KM = distance_KM + 1
            deleted_KM[:, 1:] = torch.minimum(deleted_KM[:, 1:], replaced_KM)
            # Insertions: distance_m = min over k <= m of deleted_k + m - k.
            distance_KM = (deleted_KM - column_M).cummin(1).values + column_M
        return distance_KM.gather(1, length_K[:, None])[:, 0]


def _first_best(score_N: Tensor) -> Tensor:
    """Index of the highest score, of equal ones the lowest."""
    return (score_N == score_N.max()).nonzero()[0, 0]


def _pad_to(ids_BM: Tensor, width: int) -> Tensor:
    return F.pad(ids_BM, (0, max(width - ids_BM.shape[1], 0)), value=PAD)
