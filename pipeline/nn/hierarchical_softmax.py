"""Hierarchical softmax: a word's probability as a product of decisions on its way from the root of
a binary tree (Morin & Bengio 2005; Mikolov et al. 2013b, section 2.1; d2l section 15.2.2).

The tree is Huffman's, so that frequent words have short ways. Each inner node has a vector.

Shapes: V vocabulary, L nodes of the longest way, D dimension."""

import heapq
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


class Tree(NamedTuple):
    """The ways from the root to the words, padded at their end.

    `node_VL`: rows of the table that has the vectors of the inner nodes. `sign_VL`: 1 if the way
    goes left at the node, -1 if it goes right, 0 for padding. Words without a count have no way."""

    node_VL: Tensor
    sign_VL: Tensor


def huffman_tree(count_V: NDArray[np.int64]) -> Tree:
    """Tree that joins the two nodes with the smallest counts again and again (Huffman 1952).

    Words that occur are its leaves. Its inner nodes, one fewer, get the first of their rows."""
    (word_N,) = count_V.nonzero()
    leaves = len(word_N)

    # Leaves are 0 to N-1, inner nodes N to 2N-2, in the order in which they are made.
    heap = [(int(count_V[word]), leaf) for leaf, word in enumerate(word_N)]
    heapq.heapify(heap)
    parent = np.zeros(2 * leaves - 1, np.int64)
    sign = np.zeros(2 * leaves - 1)
    for inner in range(leaves, 2 * leaves - 1):
        total = 0
        for side in (1, -1):
            count, child = heapq.heappop(heap)
            parent[child], sign[child] = inner, side
            total += count
        heapq.heappush(heap, (total, inner))

    # Ways of all nodes, from the root, which was made last, down.
    ways: dict[int, list[tuple[int, float]]] = {2 * leaves - 2: []}
    for node in range(2 * leaves - 3, -1, -1):
        above = int(parent[node])
        ways[node] = [*ways[above], (int(word_N[above - leaves]), float(sign[node]))]

    longest = max(len(ways[leaf]) for leaf in range(leaves))
    node_VL = torch.zeros(len(count_V), longest, dtype=torch.int64)
    sign_VL = torch.zeros(len(count_V), longest)
    for leaf, word in enumerate(word_N):
        for place, (row, direction) in enumerate(ways[leaf]):
            node_VL[word, place] = row
            sign_VL[word, place] = direction
    return Tree(node_VL, sign_VL)


def log_probability(tree: Tree, ids: Tensor, score_L: Tensor) -> Tensor:
    """log P of the ids: the sum of log sigma(sign * score) over their ways, one dimension fewer
    than `score_L`, the products with the nodes' vectors (Mikolov et al. 2013b, equation 3)."""
    sign_L = tree.sign_VL[ids]
    return (F.logsigmoid(sign_L * score_L) * sign_L.abs()).sum(-1)
