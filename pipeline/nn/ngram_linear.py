"""Linear classifier of the n-grams of a text, with calibrated probabilities: the model of naive
Bayes and of NBSVM.

Shapes: B batch, S positions, P n-grams of a text, F distinct n-grams, C classes, N texts."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Prompt
from pipeline.core.errors import refuse
from pipeline.nn.concave import concave_maximum
from pipeline.nn.ngram_index import NgramIndex, Occurrences, unique_occurrences
from pipeline.nn.prompts import padded_prompt
from pipeline.text import labels
from pipeline.text.token_budget import Ragged, batches_by_length

_BATCH = 128  # texts that are scored at a time
_LARGEST_SCALE = 100.0  # of logits, where validation texts alone would ask for infinity


class NgramLinear(nn.Module):
    """logits_C = scale * (bias_C + the sum of weight_FC over the text's n-grams).

    `binary` counts each n-gram of a text once (Wang and Manning 2012, section 2.3)."""

    index: NgramIndex
    weight_FC: Tensor
    bias_C: Tensor
    scale: Tensor

    def __init__(self, orders: int, binary: bool, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.binary = binary
        self.index = NgramIndex(orders, vocabulary)
        self.register_buffer("weight_FC", torch.empty(0, 0))
        self.register_buffer("bias_C", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(()))

    def number(self, texts: Ragged, label_N: NDArray[np.int64]) -> Occurrences:
        """Number the n-grams of the training texts, and return them as they are counted.

        UserError for a label without a text, or texts without a word."""
        labels.rows_of_each(label_N, len(self.bias_C))
        occurrences = self.index.fit(texts)
        if not len(occurrences.row_P):
            raise refuse("corpus", "training texts without a word", "words to count")
        return unique_occurrences(occurrences, len(self.index)) if self.binary else occurrences

    def set_weights(self, weight_FC: NDArray[np.float64], bias_C: NDArray[np.float64]) -> None:
        """Set the weights, and a scale of 1."""
        # Softmax does not depend on what all classes share: without it, sums are more exact.
        weight_FC = weight_FC - weight_FC.mean(1, keepdims=True)
        bias_C = bias_C - bias_C.mean()
        device = self.bias_C.device
        self.weight_FC = torch.from_numpy(weight_FC).to(device, torch.float32)
        self.bias_C = torch.from_numpy(bias_C).to(device, torch.float32)
        self.scale = torch.ones((), device=device)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC, float64; PAD, EOS and unknown n-grams count nothing."""
        feature_BP = self.index(text.ids_BS)
        if self.binary:
            # Leave out all but the first of equal numbers.
            feature_BP = feature_BP.sort(1).values
            again_BP = F.pad(feature_BP[:, 1:] == feature_BP[:, :-1], (1, 0))
            feature_BP = feature_BP.masked_fill(again_BP, len(self.index))

        known_BP = feature_BP < len(self.index)
        weight_BPC = self.weight_FC[feature_BP.masked_fill(~known_BP, 0)].double()
        sum_BC = (weight_BPC * known_BP[:, :, None]).sum(1)
        logits_BC: Tensor = self.scale * (self.bias_C + sum_BC)
        return logits_BC

    def logits(self, texts: Ragged) -> NDArray[np.float64]:
        """logits_NC of all texts, in order."""
        logits_NC = np.zeros((len(texts.length), len(self.bias_C)))
        for rows in batches_by_length(texts.length, _BATCH):
            text = padded_prompt(texts, rows, self.bias_C.device)
            logits_NC[rows] = self.classify(text).cpu().numpy()
        return logits_NC

    def finish(
        self, valid: Ragged, label_N: NDArray[np.int64], calibrate: bool
    ) -> dict[str, float]:
        """Calibrate on the validation texts, if asked to; return their loss in nats per text, and
        accuracy."""
        logits_NC = self.logits(valid)
        if calibrate:
            scale = fitted_scale(logits_NC, label_N)
            self.scale = torch.full_like(self.scale, scale)
            logits_NC = logits_NC * scale
        return metrics(logits_NC, label_N)


def metrics(logits_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> dict[str, float]:
    """Loss in nats per text, and accuracy, of the logits."""
    accuracy = float((logits_NC.argmax(1) == label_N).mean())
    return {"loss": nats(logits_NC, label_N) / len(label_N), "accuracy": accuracy}


def nats(logits_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> float:
    """Sum of -log P(label) in nats."""
    logits = torch.from_numpy(logits_NC)
    return float(F.cross_entropy(logits, torch.from_numpy(label_N), reduction="sum"))


def fitted_scale(logits_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> float:
    """The factor of the logits that gives the labels the highest likelihood: 1 / T of temperature
    scaling (Guo et al. 2017, equation 9), from 0 to 100.

    It changes no text's most likely label, unless it is 0: the logits say nothing about the
    labels."""
    label_logit_N = logits_NC[np.arange(len(label_N)), label_N]

    def slope(scale: float) -> float:
        """Derivative of the log-likelihood by the scale; it falls as the scale grows."""
        scaled_NC = scale * logits_NC
        share_NC = np.exp(scaled_NC - scaled_NC.max(1, keepdims=True))
        share_NC /= share_NC.sum(1, keepdims=True)
        return float((label_logit_N - (share_NC * logits_NC).sum(1)).sum())

    return concave_maximum(slope, 0.0, _LARGEST_SCALE)
