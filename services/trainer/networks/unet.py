"""The padded UNet (Ronneberger et al. 2015) with batch normalisation (Ioffe and Szegedy 2015)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair
from services.trainer.networks.decoder_level import DecoderLevel


class UNet(nn.Module):
    """Logits for every pixel, at the size of the input.

    Unlike the original, every convolution is padded, so that input and output have the same size; what the padding
    spoils stays within `halo` px of the border. One class gives one plane of logits (sigmoid), more classes a plane
    each (softmax, background first).
    """

    def __init__(self, widths: Sequence[int], *, channels: int, classes: int) -> None:
        """`widths` are the channels per level, the deepest last; each level halves the resolution."""
        super().__init__()
        self.channels = channels
        self.classes = classes
        self.depth = len(widths) - 1
        self.encoder = nn.ModuleList(ConvolutionPair(before, after) for before, after in pairwise([channels, *widths]))
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.decoder = nn.ModuleList(DecoderLevel(below, above) for below, above in pairwise(reversed(widths)))
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)

    @property
    def grid(self) -> int:
        """Sides and origins of what the network reads are multiples of this, px: 2^depth."""
        return int(2**self.depth)

    @property
    def halo(self) -> int:
        """How far a cut at the border may spoil the answer, px, rounded up to the grid.

        A 3×3 convolution carries the damage one pixel further. On the way down, pooling halves it and two convolutions
        add 2, so it never exceeds 4 px of the bottom; every level up doubles it and adds 2: 4, 10, 22, 46, 94, which
        is 6·2^depth − 2.
        """
        reach = 6 * self.grid - 2
        return -(-reach // self.grid) * self.grid

    def forward(self, image: Tensor) -> Tensor:
        """(N, channels, H, W) of 0 … 1 to logits (N, classes, H, W).

        Raises:
            ValueError: H or W is no multiple of the grid.
        """
        refuse_off_grid(image, self.grid)
        skipped: list[Tensor] = []
        features = image
        for level in self.encoder:
            if skipped:
                features = self.pool(features)
            features = level(features)
            skipped.append(features)
        skipped.pop()  # the bottom is not skipped to, it is where the way up begins
        for level in self.decoder:
            features = level(features, skipped.pop())
        logits: Tensor = self.head(features)
        return logits


def refuse_off_grid(image: Tensor, grid: int) -> None:
    """Raise ValueError unless both sides of `image` (N, C, H, W) are multiples of `grid` px."""
    height, width = image.shape[-2:]
    if height % grid or width % grid:
        raise ValueError(f"both sides must be multiples of {grid} px, got {height} × {width}; pad by mirroring")
