"""Losses of word2vec over windows of words: negative sampling (Mikolov et al. 2013b, equation 4;
d2l section 15.2.1) and hierarchical softmax (equation 3; d2l section 15.2.2).

Shapes: G blocks of a batch, T words of a block, C words of a block with the windows on both sides,
K noise words of a block, L nodes of a way, D dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import Loss, WordVectors
from pipeline.nn.hierarchical_softmax import Tree, log_probability


class WindowBatch(NamedTuple):
    """Blocks of words, each with a window of words on both sides."""

    ids_GC: Tensor
    context_GTC: Tensor  # 1 where the word at C is a context of the word at T, else 0
    noise_GK: Tensor

    @property
    def words(self) -> slice:
        """The columns C that hold the words of the block."""
        columns, block = self.ids_GC.shape[1], self.context_GTC.shape[1]
        window = (columns - block) // 2
        return slice(window, window + block)


def skip_gram(model: WordVectors, batch: WindowBatch, noise_weight: float) -> Loss:
    """-log σ(v'_context · v_word) - k E log σ(-v'_noise · v_word) over all pairs of a word and a
    context (d2l 15.2.1)."""
    input_GTD = model.input(batch.ids_GC[:, batch.words])
    output_GCD, noise_GKD = _output_vectors(model, batch.ids_GC, batch.noise_GK)

    positive_GTC = F.logsigmoid(torch.bmm(input_GTD, output_GCD.mT)) * batch.context_GTC
    negative_GT = F.logsigmoid(-torch.bmm(input_GTD, noise_GKD.mT)).sum(-1)
    # The noise term is the same for all contexts of a word: count it once for each pair.
    pairs_GT = batch.context_GTC.sum(-1)
    total = positive_GTC.sum() + (negative_GT * pairs_GT).sum() * noise_weight
    return Loss(-total, max(int(pairs_GT.sum()), 1))


def cbow(model: WordVectors, batch: WindowBatch, noise_weight: float) -> Loss:
    """-log σ(v'_word · h) - k E log σ(-v'_noise · h), h being the mean of v over the word's
    contexts (d2l 15.2.2)."""
    input_GTD = _mean_contexts(model, batch)
    output_GTD, noise_GKD = _output_vectors(model, batch.ids_GC[:, batch.words], batch.noise_GK)

    positive_GT = F.logsigmoid((input_GTD * output_GTD).sum(-1))
    negative_GT = F.logsigmoid(-torch.bmm(input_GTD, noise_GKD.mT)).sum(-1)
    # Words without a context are not predicted.
    predicted_GT = batch.context_GTC.any(-1).float()
    total = ((positive_GT + negative_GT * noise_weight) * predicted_GT).sum()
    return Loss(-total, max(int(predicted_GT.sum()), 1))


def hierarchical(model: WordVectors, batch: WindowBatch, method: str, tree: Tree) -> Loss:
    """-log P(context | word) of skip-gram, or -log P(word | contexts) of CBOW, by hierarchical
    softmax (Mikolov et al. 2013b, equation 3; d2l 15.2.2)."""
    if method == "skip_gram":
        input_GTD = model.input(batch.ids_GC[:, batch.words])
        node_GCLD = model.output(tree.node_VL[batch.ids_GC])
        score_GTCL = torch.einsum("gtd,gcld->gtcl", input_GTD, node_GCLD)
        log_GTC = log_probability(tree, batch.ids_GC[:, None, :], score_GTCL)
        total = (log_GTC * batch.context_GTC).sum()
        return Loss(-total, max(int(batch.context_GTC.sum()), 1))

    node_GTLD = model.output(tree.node_VL[batch.ids_GC[:, batch.words]])
    score_GTL = torch.einsum("gtd,gtld->gtl", _mean_contexts(model, batch), node_GTLD)
    predicted_GT = batch.context_GTC.any(-1).float()
    total = (log_probability(tree, batch.ids_GC[:, batch.words], score_GTL) * predicted_GT).sum()
    return Loss(-total, max(int(predicted_GT.sum()), 1))


def _mean_contexts(model: WordVectors, batch: WindowBatch) -> Tensor:
    """The mean of v over each word's contexts, GTD."""
    contexts_GT = batch.context_GTC.sum(-1)
    sum_GTD = torch.bmm(batch.context_GTC, model.input(batch.ids_GC))
    mean_GTD = sum_GTD / contexts_GT.clamp(min=1)[:, :, None]
    # Each context has the gradient of h itself, not its share of it, as in Mikolov's program.
    return sum_GTD + (mean_GTD - sum_GTD).detach()


def _output_vectors(model: WordVectors, ids: Tensor, noise_GK: Tensor) -> tuple[Tensor, Tensor]:
    """Output vectors of words and of noise; one look-up, so that one sparse gradient results
    instead of two to add."""
    vectors = model.output(torch.cat([ids, noise_GK], 1))
    return vectors[:, : ids.shape[1]], vectors[:, ids.shape[1] :]
