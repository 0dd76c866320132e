"""Counts of words by their two neighbours: the probability of a word given the words next to it.

With l and r the neighbours of a word w, the left and the right neighbour are first taken as
independent given the word, as naive Bayes takes them: q(w | l, r) is proportional to
p(w | l) p(w | r) / p(w). Then q is mixed with the counts of all three words. All three estimates,
p(w | l), p(w | r) and p(w | l, r), are interpolated by Witten and Bell 1991, method C, with the one
below: p(w | h) = (c(hw) + N(h) p'(w)) / (c(h) + N(h)), N(h) being the number of different words in
the context h.

Shapes: N positions, V vocabulary, C contexts, E pairs of a context and a word."""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.text.specials import BOS, EOS
from pipeline.text.token_budget import Ragged


class ContextCounts(nn.Module):
    """How often each word occurs in each context; a context is a number of int64."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        # The distinct contexts in order, and where the words of each end.
        self.register_buffer("context_C", torch.empty(0, dtype=torch.int64))
        self.register_buffer("end_C", torch.empty(0, dtype=torch.int64))
        self.register_buffer("word_E", torch.empty(0, dtype=torch.int64))
        self.register_buffer("count_E", torch.empty(0, dtype=torch.int32))

    def fit(self, context_N: Tensor, word_N: Tensor) -> None:
        """Count the words of the contexts."""
        pair_N = context_N * self.vocabulary + word_N
        pair_E, count_E = torch.unique(pair_N, return_counts=True)
        context_E = pair_E // self.vocabulary
        self.context_C, words_C = context_E.unique_consecutive(return_counts=True)
        self.end_C = words_C.cumsum(0)
        self.word_E = pair_E % self.vocabulary
        self.count_E = count_E.int()

    def mixed_with(self, below_NV: Tensor, context_N: Tensor) -> Tensor:
        """p_NV in these contexts by Witten-Bell; `below_NV` itself where a context is unknown.

        `below_NV` is overwritten."""
        row_P, word_P, count_P, different_N = self._words(context_N)
        total_N = torch.zeros_like(below_NV[:, 0]).index_add_(0, row_P, count_P)

        # (N(h) p' + c(hw)) / (c(h) + N(h)); an unknown context has no counts.
        is_known_N = different_N > 0
        below_NV *= torch.where(is_known_N, different_N, 1.0)[:, None]
        below_NV.index_put_((row_P, word_P), count_P, accumulate=True)
        below_NV /= torch.where(is_known_N, total_N + different_N, 1.0)[:, None]
        return below_NV

    def _words(self, context_N: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The words of the contexts end to end: the number of the position, the word and its count;
        and how many words each context has."""
        if not len(self.context_C):
            none = context_N[:0]
            return none, none, none.double(), torch.zeros(len(context_N)).to(context_N).double()

        # The place of each context among the known ones.
        place_N = torch.searchsorted(self.context_C, context_N.contiguous())
        place_N = place_N.clamp(max=len(self.context_C) - 1)
        is_known_N = self.context_C[place_N] == context_N
        begin_C = torch.cat([self.end_C.new_zeros(1), self.end_C[:-1]])
        begin_N = begin_C[place_N]
        words_N = torch.where(is_known_N, self.end_C[place_N] - begin_N, 0)

        # All of their words.
        row_P = torch.repeat_interleave(words_N)
        first_N = words_N.cumsum(0) - words_N
        element_P = torch.arange(len(row_P), device=row_P.device) - first_N[row_P] + begin_N[row_P]
        return row_P, self.word_E[element_P], self.count_E[element_P].double(), words_N.double()


class NeighbourCounts(nn.Module):
    """p(word | left neighbour, right neighbour)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.alone, self.left, self.right, self.both = (ContextCounts(vocabulary) for _ in range(4))

    def fit(self, left_N: Tensor, word_N: Tensor, right_N: Tensor) -> None:
        """Count the words and their neighbours."""
        self.alone.fit(torch.zeros_like(word_N), word_N)
        self.left.fit(left_N, word_N)
        self.right.fit(right_N, word_N)
        self.both.fit(left_N * self.vocabulary + right_N, word_N)

    def log_probs(self, left_N: Tensor, right_N: Tensor) -> Tensor:
        """log p_NV (float64). A negative neighbour is unknown, and says nothing of the word."""
        shape = (len(left_N), self.vocabulary)
        uniform_NV = torch.full(
            shape, 1 / self.vocabulary, dtype=torch.float64, device=left_N.device
        )
        alone_NV = self.alone.mixed_with(uniform_NV, torch.zeros_like(left_N))
        given_left_NV = self.left.mixed_with(alone_NV.clone(), left_N)
        given_right_NV = self.right.mixed_with(alone_NV.clone(), right_N)

        # Bayes' rule, with neighbours that are independent given the word.
        product_NV = given_left_NV.mul_(given_right_NV).div_(alone_NV)
        product_NV /= product_NV.sum(1, keepdim=True)

        is_complete_N = (left_N >= 0) & (right_N >= 0)
        context_N = torch.where(is_complete_N, left_N * self.vocabulary + right_N, -1)
        return self.both.mixed_with(product_NV, context_N).log_()


def of_rows(rows: Ragged) -> tuple[Tensor, Tensor, Tensor]:
    """left_N, word_N and right_N of all words of the rows; BOS is before a row and EOS after it."""
    words = int(rows.length.sum())
    first = int(rows.start[0]) if len(rows.start) else 0
    word_N = rows.values[first : first + words].astype(np.int64)

    filled = rows.length[rows.length > 0]
    end = filled.cumsum()
    left_N, right_N = np.roll(word_N, 1), np.roll(word_N, -1)
    left_N[end - filled] = BOS
    right_N[end - 1] = EOS
    return torch.from_numpy(left_N), torch.from_numpy(word_N), torch.from_numpy(right_N)
