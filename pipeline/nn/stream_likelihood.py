"""Log-probabilities of the tokens of a stream, by any language model.

Shapes: T time, H hidden, V vocabulary."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.contracts import LanguageModel, StreamScorer

STEPS = 512  # window; its size changes no result, as the state is carried


@torch.inference_mode()
def stream_log_probs(model: LanguageModel | StreamScorer, ids_T: Tensor) -> Tensor:
    """log P of each token of a stream but the first, given all before it: T - 1, float64, on the
    CPU. The stream is on the model's device."""
    if isinstance(model, StreamScorer):
        return model.log_probs(ids_T).cpu()

    log_probs = [torch.zeros(0, dtype=torch.float64)]
    for hidden_TH, label_T in windows(model, ids_T):
        logits_TV = model.project(hidden_TH).float()
        nats_T = torch.nn.functional.cross_entropy(logits_TV, label_T, reduction="none")
        log_probs.append(-nats_T.double().cpu())
    return torch.cat(log_probs)


def windows(model: LanguageModel, ids_T: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """hidden_TH of the model in windows of a stream, and the tokens that follow."""
    state: Any = None
    for start in range(0, len(ids_T) - 1, STEPS):
        window_T = ids_T[start : start + STEPS + 1]
        hidden_1TH, state = model.hidden(window_T[None, :-1], state)
        yield hidden_1TH[0], window_T[1:]
