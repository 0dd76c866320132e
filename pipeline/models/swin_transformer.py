"""Swin Transformer: attention inside windows of a picture that are shifted from block to block, on
feature maps whose sides are halved from stage to stage (Liu et al. 2021).

Shapes: B batch, Y rows and X columns of pixels or of a feature map, H width, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.core.images import check_size
from pipeline.nn import images, transformer
from pipeline.nn.dropout import Dropout
from pipeline.nn.transformer import BlockConfig
from pipeline.nn.windows import PatchMerging, WindowBlock


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    - `patch`: pixels of a patch's side; a patch is a position of the first feature map.
    - `layers` and `heads`: their numbers in each stage. After a stage the map has half the sides
      and twice the width.
    - `window`: positions of a window's side. Every second block shifts its windows by half of it,
      unless one window is as large as the map.
    - `width`: of the first stage. `expansion`: width of the feed-forward layer, in widths of its
      stage.
    """

    image_height: int
    image_width: int
    patch: int
    width: int
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    expansion: int
    dropout: float

    def __post_init__(self) -> None:
        check_size(self)
        images.check_patch(self)
        at_least_one(width=self.width, window=self.window, expansion=self.expansion)
        share(dropout=self.dropout)
        if not self.layers or len(self.heads) != len(self.layers):
            got = f"{len(self.heads)} numbers with {len(self.layers)} in layers"
            raise refuse("heads", got, "one number for each stage in both", "Change either.")
        at_least_one(layers=min(self.layers), heads=min(self.heads))
        for stage in range(len(self.layers)):
            _check_stage(self, stage)

    def size(self, stage: int) -> tuple[int, int]:
        """Rows and columns of the feature map of a stage, which are numbered from 0."""
        divisor = self.patch * 2**stage
        return self.image_height // divisor, self.image_width // divisor


def _check_stage(config: Config, stage: int) -> None:
    """Refuse a stage whose map cannot be divided into windows, halved, or divided among heads."""
    rows, columns = config.size(stage)
    of_stage = f"with a feature map of {rows} x {columns} in stage {stage + 1}"
    if config.window > min(rows, columns):
        expected = f"at most {min(rows, columns)}"
        todo = "Use smaller windows or patches, or fewer stages."
        raise refuse("window", f"{config.window} {of_stage}", expected, todo)
    if rows % config.window or columns % config.window:
        raise refuse("window", f"{config.window} {of_stage}", "a divisor of both sides")
    is_last = stage == len(config.layers) - 1
    if not is_last and (rows % 2 or columns % 2):
        got = f"{len(config.layers)} stages {of_stage}"
        raise refuse("layers", got, "even sides before each further stage", "Use fewer stages.")
    width = config.width * 2**stage
    if width % config.heads[stage]:
        got = f"{config.heads[stage]} in stage {stage + 1} with width {width}"
        raise refuse("heads", got, "a divisor of width", "Change either.")


class Model(nn.Module):
    """p(label | picture)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.image_size = (config.image_height, config.image_width)
        self.patch = config.patch
        self.map_size = config.size(0)
        self.embedding = nn.Linear(config.patch**2, config.width)
        self.embedding_norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

        blocks: list[nn.Module] = []
        width = config.width
        for stage, layers in enumerate(config.layers):
            if stage:
                blocks.append(PatchMerging(width))
                width *= 2
            block = BlockConfig(
                width=width,
                heads=config.heads[stage],
                feed_forward=config.expansion * width,
                dropout=config.dropout,
                norm="layer",
                norm_first=True,
                activation="gelu",
                implementation="equations",
                variants=(),
            )
            size = config.size(stage)
            shift = config.window // 2 if config.window < min(size) else 0
            for layer in range(layers):
                # Whole windows, shifted ones, whole ones, ...
                blocks.append(WindowBlock(block, size, config.window, shift * (layer % 2)))
        self.stages = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, sizes.target)
        transformer.initialise(self, config.width)

    def classify(self, image_BYX: Tensor) -> Tensor:
        """logits_BC."""
        images.refuse_other_size(image_BYX, self.image_size)
        x_BPH = self.embedding_norm(self.embedding(images.patches(image_BYX, self.patch)))
        x_BYXH = self.stages(self.dropout(x_BPH).unflatten(1, self.map_size))

        # The mean over the last feature map.
        logits_BC: Tensor = self.output(self.norm(x_BYXH).mean((1, 2)))
        return logits_BC
