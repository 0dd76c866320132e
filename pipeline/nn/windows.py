"""Attention inside the windows of a feature map, and inside shifted windows (Liu et al. 2021,
section 3.2).

Shapes: B batch, Y rows and X columns of a feature map, W windows, T positions of a window, N heads,
D width of a head, H width, R relative positions.
"""

import math

import torch
from torch import Tensor, nn

from pipeline.nn.attention_scores import masked_softmax
from pipeline.nn.transformer import BlockConfig, FeedForward, Residual


def partition(x_BYXH: Tensor, window: int) -> Tensor:
    """Divide a feature map into squares of `window` positions: x_BWTH, row by row."""
    batch, rows, columns, width = x_BYXH.shape
    # BYXH -> B, Y / w, w, X / w, w, H -> B, Y / w, X / w, w, w, H
    grid = x_BYXH.reshape(batch, rows // window, window, columns // window, window, width)
    return grid.transpose(2, 3).reshape(batch, -1, window**2, width)


def join(x_BWTH: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The feature map x_BYXH of `size` whose `partition` is x_BWTH."""
    batch, _, _, width = x_BWTH.shape
    rows, columns = (side // window for side in size)
    grid = x_BWTH.reshape(batch, rows, columns, window, window, width)
    return grid.transpose(2, 3).reshape(batch, *size, width)


def relative_positions(window: int) -> Tensor:
    """number_TT of the difference between two positions of a window: 0 to (2w - 1)^2 - 1."""
    row_T = torch.arange(window).repeat_interleave(window)
    column_T = torch.arange(window).repeat(window)
    # From -(w - 1) ... w - 1 to 0 ... 2w - 2.
    rows_TT = row_T[:, None] - row_T + window - 1
    columns_TT = column_T[:, None] - column_T + window - 1
    return rows_TT * (2 * window - 1) + columns_TT


def shifted_mask(size: tuple[int, int], window: int, shift: int) -> Tensor:
    """mask_WTT of a feature map that was rolled by -`shift`: True where two positions of a window
    were neighbours before (figure 4).

    The last windows of each direction hold positions from both ends of the map."""
    wrapped_Y, wrapped_X = (torch.arange(side) >= side - shift for side in size)
    region_YX = 2 * wrapped_Y[:, None].long() + wrapped_X
    region_WT = partition(region_YX[None, :, :, None], window)[0, :, :, 0]
    return region_WT[:, :, None] == region_WT[:, None, :]


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a learned bias for every relative position
    (equation 4)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.bias_RN = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias_RN, std=0.02)
        self.register_buffer("number_TT", relative_positions(window), persistent=False)
        self.number_TT: Tensor

    def forward(self, x_BWTH: Tensor, mask_WTT: Tensor | None) -> Tensor:
        """Attend inside each window: BWTH. `mask_WTT` is True where attention is allowed; None
        allows it everywhere."""
        # BWT, 3H -> BWT, 3, N, D -> 3, BWNTD
        batch, windows, size, width = x_BWTH.shape
        projected = self.query_key_value(x_BWTH)
        split = projected.view(batch, windows, size, 3, self.heads, width // self.heads)
        query_BWNTD, keys_BWNTD, values_BWNTD = split.permute(3, 0, 1, 4, 2, 5)

        # softmax(Q K^T / sqrt(D) + bias) V
        scores_BWNTT = query_BWNTD @ keys_BWNTD.transpose(-1, -2) / math.sqrt(width // self.heads)
        scores_BWNTT = scores_BWNTT + self.bias_RN[self.number_TT].permute(2, 0, 1)
        if mask_WTT is None:
            weights_BWNTT = scores_BWNTT.softmax(-1)
        else:
            weights_BWNTT = masked_softmax(scores_BWNTT, mask_WTT[:, None])
        heads_BWTND = (weights_BWNTT @ values_BWNTD).transpose(2, 3)
        output_BWTH: Tensor = self.output(heads_BWTND.flatten(3))
        return output_BWTH


class WindowBlock(nn.Module):
    """Attention inside the windows of a feature map, then feed-forward (equation 3).

    With a `shift` the windows begin in the middle of those of the block before, so that these are
    connected. The map is rolled, which keeps the number of windows, and masked."""

    def __init__(self, config: BlockConfig, size: tuple[int, int], window: int, shift: int) -> None:
        super().__init__()
        self.size = size
        self.window = window
        self.shift = shift
        self.residual = Residual(config)
        self.attention = WindowAttention(config.width, config.heads, window)
        self.feed_forward = FeedForward(config)
        mask_WTT = shifted_mask(size, window, shift) if shift else None
        self.register_buffer("mask_WTT", mask_WTT, persistent=False)
        self.mask_WTT: Tensor | None

    def forward(self, x_BYXH: Tensor) -> Tensor:
        rolled_BYXH = self.residual.pre_norm(x_BYXH).roll((-self.shift, -self.shift), (1, 2))
        attended_BWTH = self.attention(partition(rolled_BYXH, self.window), self.mask_WTT)
        attended_BYXH = join(attended_BWTH, self.window, self.size)
        attended_BYXH = attended_BYXH.roll((self.shift, self.shift), (1, 2))

        after_BYXH: Tensor = self.feed_forward(self.residual.add_norm(x_BYXH, attended_BYXH))
        return after_BYXH


class PatchMerging(nn.Module):
    """Halve both sides of a feature map: the four vectors of a square become one of twice the width
    (section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x_BYXH: Tensor) -> Tensor:
        batch, rows, columns, width = x_BYXH.shape
        # A square is a window of four positions.
        squares_BWH = partition(x_BYXH, 2).flatten(2)
        merged_BWH: Tensor = self.reduction(self.norm(squares_BWH))
        return merged_BWH.reshape(batch, rows // 2, columns // 2, 2 * width)
