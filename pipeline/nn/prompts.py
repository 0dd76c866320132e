"""Rows of ids as prompts.

Shapes: B batch, S positions."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.contracts import EOS, Prompt
from pipeline.text.token_budget import Ragged


def padded_prompt(texts: Ragged, rows: NDArray[np.int64], device: torch.device) -> Prompt:
    """The texts of these rows, each with its EOS, on the device."""
    ids_BS = torch.from_numpy(texts.padded(rows, before=None, after=EOS)).to(device)
    return Prompt(ids_BS, torch.from_numpy(texts.length[rows] + 1).to(device))
