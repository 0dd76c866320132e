"""Decomposable attention (Parikh et al. 2016; d2l section 16.5): attend, compare, aggregate. Word
order is lost.

The EOS of each text serves as the paper's NULL: words without a counterpart can be aligned with
it.

Shapes: B batch, P positions of the premise, H of the hypothesis, E embedding, K hidden, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn import embedding
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS

# word2vec's `dimension` must equal this family's `embedding`.
INIT_FROM = {"word2vec": {"dimension": "embedding"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `hidden`: width of the networks F, G and H, of two layers each."""

    embedding: int
    hidden: int
    dropout: float

    def __post_init__(self) -> None:
        at_least_one(embedding=self.embedding, hidden=self.hidden)
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(label | premise, hypothesis)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        # From N(0, 1): with small vectors all scores begin near 0, and alignment is learned slowly.
        self.embedding = nn.Embedding(sizes.source, c.embedding)
        self.attend = two_layers(c.embedding, c.hidden, c.dropout)  # F
        self.compare = two_layers(2 * c.embedding, c.hidden, c.dropout)  # G
        self.aggregate = two_layers(2 * c.hidden, c.hidden, c.dropout)  # H
        self.output = nn.Linear(c.hidden, sizes.target)

    def classify_pair(self, premise: Prompt, hypothesis: Prompt) -> Tensor:
        """logits_BC."""
        a_BPE = self.embedding(premise.ids_BS)
        b_BHE = self.embedding(hypothesis.ids_BS)
        real_BP1 = real_BS(premise.length_B, a_BPE.shape[1])[:, :, None]
        real_BH1 = real_BS(hypothesis.length_B, b_BHE.shape[1])[:, :, None]

        # Attend (equation 16.5.2): align each word with the words of the other text.
        score_BPH = self.attend(a_BPE) @ self.attend(b_BHE).mT
        beta_BPE = align(score_BPH, real_BH1, b_BHE)
        alpha_BHE = align(score_BPH.mT, real_BP1, a_BPE)

        # Compare (equation 16.5.5): each word with what it is aligned with.
        compared_BPK = self.compare(torch.cat([a_BPE, beta_BPE], -1))
        compared_BHK = self.compare(torch.cat([b_BHE, alpha_BHE], -1))

        # Aggregate (equations 16.5.6 and 16.5.7): sum over the real words of each text.
        sums_BK = [
            compared_BSK.masked_fill(~real_BS1, 0.0).sum(1)
            for compared_BSK, real_BS1 in ((compared_BPK, real_BP1), (compared_BHK, real_BH1))
        ]
        logits_BC: Tensor = self.output(self.aggregate(torch.cat(sums_BK, -1)))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load word vectors into the embedding; all other weights stay random."""
        embedding.load_pretrained(self.embedding, tensors)


def align(score_BST: Tensor, real_BT1: Tensor, other_BTE: Tensor) -> Tensor:
    """aligned_BSE: for each position of a text the mean of the other text's vectors, weighted by
    the softmax of the scores over its real positions (equations 16.5.3 and 16.5.4)."""
    weight_BST = score_BST.masked_fill(~real_BT1.mT, -torch.inf).softmax(-1)
    return weight_BST @ other_BTE


def two_layers(inputs: int, hidden: int, dropout: float) -> nn.Sequential:
    """Feed-forward network of two ReLU layers, with dropout before each (d2l section 16.5.1.1)."""
    return nn.Sequential(
        Dropout(dropout),
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
    )
