"""Heatmaps of attention weights."""

from pathlib import Path

from pipeline.core.atomic import atomic_file
from pipeline.inference import AttentionWeights
from pipeline.predictions import attention_table
from pipeline.report.attention import heatmap


def draw(attention: AttentionWeights, out: Path) -> None:
    """Draw the weights to the PNG `out`, all of a model's heads in one figure, as the report draws
    them."""
    with atomic_file(out) as temporary:
        heatmap(attention_table([attention], [0]), 0, temporary)
