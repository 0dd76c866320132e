"""Convolutional encoder-decoder with attention in every decoder layer (Gehring et al. 2017).

Every layer is a convolution with a gated linear unit and a residual connection. A decoder layer
attends to the encoder's output; the values are these outputs plus the source's embeddings. Sums of
two terms are multiplied by sqrt(0.5), which keeps their variance (section 3.4). Without weight
normalization.

Shapes: B batch, S source, T target, P positions before a step, E embedding, H hidden, V
vocabulary."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn.attention_scores import masked_softmax
from pipeline.nn.dropout import Dropout
from pipeline.nn.embedding import source_and_target_tables
from pipeline.nn.masks import real_BS
from pipeline.nn.positional import positions
from pipeline.nn.transformer import Stack

SQRT_HALF = math.sqrt(0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `kernel`: positions that a convolution reads. `learned_positions`: their number, as in the
    paper, or null for sinusoidal ones."""

    embedding: int
    hidden: int
    kernel: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    learned_positions: int | None

    def __post_init__(self) -> None:
        at_least_one(embedding=self.embedding, hidden=self.hidden)
        at_least_one(encoder_layers=self.encoder_layers, decoder_layers=self.decoder_layers)
        share(dropout=self.dropout)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise refuse(
                "kernel", self.kernel, "an odd number, with as many positions on each side"
            )


class GatedConvolution(nn.Module):
    """Convolution to twice the width, then a gated linear unit: A * sigmoid(B) (section 3.2)."""

    def __init__(self, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.convolution = nn.Conv1d(hidden, 2 * hidden, kernel)

    def forward(self, x_BTH: Tensor) -> Tensor:
        """BTH to as many positions fewer as the kernel reads besides the first."""
        convolved = self.convolution(self.dropout(x_BTH).transpose(1, 2))
        return F.glu(convolved, 1).transpose(1, 2)


class Source(NamedTuple):
    """Encoded source: the encoder's outputs (keys), with the embeddings added (values), and the
    padding mask."""

    keys_BSE: Tensor
    values_BSE: Tensor
    real_BS: Tensor


class DecoderBlock(nn.Module):
    """Gated convolution over the target so far, then attention to the source (section 3.3)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gated = GatedConvolution(config.hidden, config.kernel, config.dropout)
        self.query = nn.Linear(config.hidden, config.embedding)
        self.context = nn.Linear(config.embedding, config.hidden)

    def forward(
        self, x_BTH: Tensor, before_BPH: Tensor, embedded_BTE: Tensor, source: Source
    ) -> tuple[Tensor, Tensor]:
        """Output BTH of the block and weights_BTS; `before` are the inputs at the kernel's other
        positions."""
        gated_BTH = self.gated(torch.cat([before_BPH, x_BTH], 1))

        # d_i = W h_i + b + g_i, a_ij = softmax(d_i . z_j) (equation 1).
        query_BTE = (self.query(gated_BTH) + embedded_BTE) * SQRT_HALF
        scores_BTS = query_BTE @ source.keys_BSE.transpose(1, 2)
        weights_BTS = masked_softmax(scores_BTS, source.real_BS[:, None, :])

        # c_i = sum of a_ij (z_j + e_j) (equation 2). The mean of m vectors has 1/m of their
        # variance, which m sqrt(1/m) restores (section 3.4).
        length_B11 = source.real_BS.sum(1)[:, None, None]
        context_BTE = weights_BTS @ source.values_BSE * length_B11.to(query_BTE.dtype).sqrt()
        attended_BTH = (gated_BTH + self.context(context_BTE)) * SQRT_HALF
        return (x_BTH + attended_BTH) * SQRT_HALF, weights_BTS


class State(NamedTuple):
    """The source, which no step changes; each decoder block's last inputs BPH, as many as its next
    convolution reads; and the number of ids read."""

    source: Source
    before: tuple[Tensor, ...]
    first: int


class Model(nn.Module):
    """p(target | source)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.kernel = c.kernel
        self.hidden_size = c.hidden
        self.source, self.target = source_and_target_tables(sizes, c.embedding)
        self.source_positions = positions(c.learned_positions, c.embedding)
        self.target_positions = positions(c.learned_positions, c.embedding)
        self.dropout = Dropout(c.dropout)

        # Linear maps between the widths of embeddings and of convolutions (section 3.3).
        self.encoder_input = nn.Linear(c.embedding, c.hidden)
        self.encoder = Stack[GatedConvolution](
            GatedConvolution(c.hidden, c.kernel, c.dropout) for _ in range(c.encoder_layers)
        )
        self.encoder_output = nn.Linear(c.hidden, c.embedding)
        self.decoder_input = nn.Linear(c.embedding, c.hidden)
        self.decoder = Stack[DecoderBlock](DecoderBlock(c) for _ in range(c.decoder_layers))
        self.output = nn.Linear(c.hidden, sizes.target)
        self.initialise(1 - c.dropout)

    def initialise(self, kept: float) -> None:
        """Keep the variance of activations and gradients: N(0, 4p/n) before a gated linear unit, p
        being the share that dropout keeps, and N(0, 1/n) elsewhere (section 3.5)."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                inputs = module.weight[0].numel()
                variance = 4 * kept if isinstance(module, nn.Conv1d) else 1.0
                nn.init.normal_(module.weight, std=math.sqrt(variance / inputs))
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)

    def encode(self, prompt: Prompt) -> State:
        """Encode the source; the caches begin with the zeros that stand before the first id."""
        size = prompt.ids_BS.shape[1]
        mask_BS = real_BS(prompt.length_B, size)
        embedded_BSE = self.dropout(self.source(prompt.ids_BS) + self.source_positions(0, size))

        x_BSH = self.encoder_input(embedded_BSE)
        side = self.kernel // 2
        for gated in self.encoder:
            # Padding is zero like the positions beyond both ends.
            x_BSH = x_BSH.masked_fill(~mask_BS[:, :, None], 0.0)
            x_BSH = (x_BSH + gated(F.pad(x_BSH, (0, 0, side, side)))) * SQRT_HALF
        keys_BSE = self.encoder_output(x_BSH)

        # The gradients of all attentions meet in the encoder: divide by their number (section
        # 3.4). The embeddings that are added to the values are excepted.
        if keys_BSE.requires_grad:
            attentions = len(self.decoder)
            keys_BSE.register_hook(lambda gradient: gradient / attentions)
        source = Source(keys_BSE, (keys_BSE + embedded_BSE) * SQRT_HALF, mask_BS)
        before_BPH = x_BSH.new_zeros(len(x_BSH), self.kernel - 1, self.hidden_size)
        return State(source, (before_BPH,) * len(self.decoder), 0)

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State, list[Tensor]]:
        """hidden_BTH after target_BT, which follows the ids read; the state after; and weights_BTS
        of each block."""
        size = target_BT.shape[1]
        position_TE = self.target_positions(state.first, state.first + size)
        embedded_BTE = self.dropout(self.target(target_BT) + position_TE)

        x_BTH = self.decoder_input(embedded_BTE)
        before, weights = [], []
        for block, before_BPH in zip(self.decoder, state.before, strict=True):
            # The next convolution reads the last P of these inputs.
            before.append(torch.cat([before_BPH, x_BTH], 1)[:, size:])
            x_BTH, weights_BTS = block(x_BTH, before_BPH, embedded_BTE, state.source)
            weights.append(weights_BTS)
        after = State(state.source, tuple(before), state.first + size)
        return self.dropout(x_BTH), after, weights

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        return self.decode(target_BT, self.encode(prompt))[0]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def attention(self, prompt: Prompt, target_BT: Tensor) -> dict[str, Tensor]:
        """Attention weights BTS of every decoder block."""
        _, _, weights = self.decode(target_BT, self.encode(prompt))
        return {f"decoder layer {i + 1}": weights_BTS for i, weights_BTS in enumerate(weights)}

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        return self.encode(prompt), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        log_probs_BV, after, _ = self.step_with_attention(state, last_B)
        return log_probs_BV, after

    def step_with_attention(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        """As `step`, with weights_BS: the mean over the decoder's blocks."""
        hidden_B1H, after, weights = self.decode(last_B[:, None], state)
        log_probs_BV = self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1)
        return log_probs_BV, after, torch.stack(weights).mean(0).squeeze(1)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        # The batch is dimension 0 of every tensor.
        source = Source(*(part.index_select(0, rows_B) for part in state.source))
        return State(source, tuple(x.index_select(0, rows_B) for x in state.before), state.first)
