"""Ensemble of models: the mean of their probabilities of the next token (`pipeline.nn.mixture`)."""

import torch
from torch import Tensor

from pipeline.decoding.rules.penalty import require_attention
from pipeline.nn.mixture import Mixture, States, mix


class Ensemble(Mixture):
    """A mixture that has attention weights if all its models have."""

    def step_with_attention(self, state: States, last_B: Tensor) -> tuple[Tensor, States, Tensor]:
        """As `step`. The attention weights are the models' mean; UserError if a model has none."""
        steps = [
            require_attention(model).step_with_attention(model_state, last_B)
            for model, model_state in zip(self.models, state, strict=True)
        ]
        log_probs, states, weights = zip(*steps, strict=True)
        return mix(log_probs, self.weights), states, torch.stack(weights).mean(0)
