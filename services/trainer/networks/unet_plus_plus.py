"""The UNet++ (Zhou et al. 2018): a UNet of every depth in one, whose skips pass through further convolutions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair
from services.trainer.networks.decoder_level import DecoderLevel
from services.trainer.networks.geometry import Geometry
from services.trainer.networks.layer_choice import LayerChoice
from services.trainer.networks.network import Network


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

    def segment(self, enriched: Tensor) -> list[Tensor]:
        self.geometry.refuse_image(enriched)
        nodes = [[features] for features in self._encode(enriched)]  # nodes[i][j] is node (i, j)
        for column in self.columns:
            newest = [row[-1] for row in nodes]
            for level, node in enumerate(column.children()):
                nodes[level].append(node(newest[level + 1], *nodes[level]))
        if not self.deep_supervision:
            return [self.head_of_level[0](nodes[0][-1])]
        heads = [head(top) for head, top in zip(self.head_of_level, nodes[0][1:], strict=True)]
        return [*heads, torch.stack(heads).mean(dim=0)]

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

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Features of every level (N, widths[i], H / 2^i, W / 2^i)."""
        levels = [self.encoder[0](image)]
        for level in list(self.encoder)[1:]:
            levels.append(level(self.pool(levels[-1])))
        return levels
