"""The UNet++ (Zhou et al. 2018): a UNet of every depth in one, whose skips pass through further convolutions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair
from services.trainer.networks.decoder_level import DecoderLevel
from services.trainer.networks.geometry import Geometry, crop
from services.trainer.networks.layer_choice import LayerChoice
from services.trainer.networks.network import Network
from services.trainer.networks.trimming import Trimming, nested_inputs, trim
from services.trainer.networks.unet import encode


class UNetPlusPlus(Network):
    """Node (i, j) of level i joins (i, 0), … (i, j − 1) and the doubled node (i + 1, j − 1); column 0 is the encoder.

    With deep supervision each top node (0, 1 … depth) has a head, and the answer is the mean of their logits; without,
    only the last has one. No path is longer than that of the UNet of the same depth, so its halo holds.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        channels: int,
        classes: int,
        deep_supervision: bool = True,
        serve_level: int | None = None,
    ) -> None:
        """`widths` are the channels per level, the deepest last. `serve_level`: depth to which `to_serve` prunes."""
        super().__init__(Geometry(len(widths) - 1), channels=channels, classes=classes)
        self.widths, depth, choice = list(widths), len(widths) - 1, LayerChoice()
        self.deep_supervision = deep_supervision
        self.serve_level = serve_level
        self.encoder = nn.ModuleList(
            ConvolutionPair(before, after, choice) for before, after in pairwise([channels, *widths])
        )
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.columns = nn.ModuleList(
            nn.ModuleList(
                DecoderLevel(widths[level + 1], widths[level], choice, skips=column)
                for level in range(depth + 1 - column)
            )
            for column in range(1, depth + 1)
        )
        self.head_of_level = nn.ModuleList(
            nn.Conv2d(widths[0], classes, kernel_size=1) for _ in range(depth if deep_supervision else 1)
        )

    def segment(self, enriched: Tensor, spare: int = 0) -> list[Tensor]:
        self.geometry.refuse_image(enriched)
        depth = self.geometry.depth
        columns = range(1, depth + 1) if self.deep_supervision else [depth]  # whose top nodes have a head
        trimming = trim(nested_inputs(depth), {(0, column): spare for column in columns}, spoilt=self.geometry.spoilt)
        tops = self._compute_tops(enriched, trimming)
        heads = [
            crop(head(tops[column]), spare - trimming.starts[0, column])
            for head, column in zip(self.head_of_level, columns, strict=True)
        ]
        return [*heads, torch.stack(heads).mean(dim=0)] if self.deep_supervision else heads

    def to_serve(self) -> Network:
        return self if self.serve_level is None else self.pruned(self.serve_level)

    def pruned(self, level: int) -> "UNetPlusPlus":
        """A copy without anything deeper than `level`, whose answer is that of head `level`, 1 … depth.

        Faster, with a smaller grid and halo; the nodes that are left never saw those that are gone.

        Raises:
            ValueError: there is no such head.
        """
        depth = self.geometry.depth
        if not self.deep_supervision or not 1 <= level <= depth:
            raise ValueError(f"pruning needs deep supervision and a level of 1 … {depth}, got {level}")
        smaller = UNetPlusPlus(
            self.widths[: level + 1], channels=self.channels, classes=self.classes, deep_supervision=False
        )
        own, head = self.state_dict(), f"head_of_level.{level - 1}."
        smaller.load_state_dict({name: own[name.replace("head_of_level.0.", head)] for name in smaller.state_dict()})
        some = next(self.parameters())
        return smaller.to(some.device, some.dtype).train(self.training)

    def _compute_tops(self, image: Tensor, trimming: Trimming) -> list[Tensor]:
        """Features of the nodes (0, 0) … (0, depth), each (N, widths[0], H, W) less what is trimmed."""
        way_down = encode(self.encoder, self.pool, image, trimming)
        rows = [[features] for features in way_down]  # rows[i][j] is node (i, j)
        for column, nodes in enumerate(self.columns, 1):
            newest = [row[-1] for row in rows]
            for level, node in enumerate(nodes.children()):
                here = (level, column)
                deeper = crop(newest[level + 1], trimming.between((level + 1, column - 1), here))
                beside = [crop(row, trimming.between((level, at), here)) for at, row in enumerate(rows[level])]
                rows[level].append(node(deeper, *beside))
        return rows[0]
