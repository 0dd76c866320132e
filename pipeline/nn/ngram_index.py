"""Numbers of the n-grams of a training text, for classifiers that count n-grams.

Shapes: B batch, S positions, N longest n-gram, T words of a text end to end, P occurrences of
n-grams, F distinct n-grams."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.text.token_budget import Ragged


class Occurrences(NamedTuple):
    """The n-grams of a table of texts: the row of each occurrence, and the n-gram's number."""

    row_P: NDArray[np.int64]
    feature_P: NDArray[np.int64]


class NgramIndex(nn.Module):
    """The distinct n-grams of 1 to `orders` words of a training text, numbered from 0 on.

    The buffer `keys_<n>` has the n-grams of n words as sorted keys: the place of the first n - 1
    words in `keys_<n-1>`, times the vocabulary's size, plus the last word's id. Longer n-grams have
    higher numbers."""

    def __init__(self, orders: int, vocabulary: int) -> None:
        super().__init__()
        self.orders = orders
        self.vocabulary = vocabulary
        for order in range(1, orders + 1):
            self.register_buffer(f"keys_{order}", torch.empty(0, dtype=torch.int64))

    def fit(self, texts: Ragged) -> Occurrences:
        """Number the n-grams of the texts; return all of their occurrences."""
        word_T, row_T, left_T = _flat(texts)
        rows = []
        features = []
        count = 0
        place_T = np.zeros(len(word_T), np.int64)  # of the n-gram that begins here

        for order in range(1, self.orders + 1):
            # Extend each n-gram by the word behind it, if its row has one.
            begin_P = np.flatnonzero(left_T >= order)
            key_P = place_T[begin_P] * self.vocabulary + word_T[begin_P + order - 1]
            keys, place_P = np.unique(key_P, return_inverse=True)
            place_T[begin_P] = place_P

            rows.append(row_T[begin_P])
            features.append(place_P + count)
            count += len(keys)
            device = self.get_buffer(f"keys_{order}").device
            self.register_buffer(f"keys_{order}", torch.from_numpy(keys).to(device))
        return Occurrences(np.concatenate(rows), np.concatenate(features))

    def __len__(self) -> int:
        """Number of distinct n-grams, F."""
        return sum(len(self.get_buffer(f"keys_{order}")) for order in range(1, self.orders + 1))

    def forward(self, ids_BS: Tensor) -> Tensor:
        """Numbers feature_BP of all n-grams of the rows, P being S + (S - 1) + ...; F for an n-gram
        that the training text lacks, such as one with padding."""
        size = len(self)
        place_BS = torch.zeros_like(ids_BS)
        found_BS = torch.ones_like(ids_BS, dtype=torch.bool)
        features = []
        first = 0

        for order in range(1, min(self.orders, ids_BS.shape[1]) + 1):
            keys = self.get_buffer(f"keys_{order}")
            width = ids_BS.shape[1] - order + 1
            key_BS = place_BS[:, :width] * self.vocabulary + ids_BS[:, order - 1 :]
            # Of the keys and one beyond, so that a place exists even if there are none.
            place_BS = torch.searchsorted(keys, key_BS)
            padded = torch.cat([keys, keys.new_full((1,), -1)])
            found_BS = found_BS[:, :width] & (padded[place_BS] == key_BS)
            features.append(torch.where(found_BS, place_BS + first, size))
            first += len(keys)
        return torch.cat(features, 1)


def unique_occurrences(occurrences: Occurrences, size: int) -> Occurrences:
    """Each n-gram once per row; `size` is the number F of n-grams."""
    pairs = np.unique(occurrences.row_P * size + occurrences.feature_P)
    return Occurrences(pairs // size, pairs % size)


def _flat(
    texts: Ragged,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Words of all rows end to end, the row of each, and how many words its row has from it on."""
    length = texts.length
    row_T = np.repeat(np.arange(len(length)), length)
    start = np.cumsum(length) - length
    position_T = np.arange(int(length.sum())) - start[row_T]
    word_T = texts.values[texts.start[row_T] + position_T].astype(np.int64)
    return word_T, row_T, length[row_T] - position_T
