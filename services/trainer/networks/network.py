"""What every network promises, so that training, checking and serving need not know which one it is."""

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn

from services.trainer.networks.geometry import Geometry, crop


class Network(nn.Module, ABC):
    """Logits for every pixel of an image: one plane for one class (sigmoid), a plane per class for more (softmax).

    Attributes:
        channels: of the image, 1 or 3.
        classes: 1, or the number of classes with the background.
        grid: origins and sides of what is read are multiples of this, px.
        halo: how far from a cut the answer may be spoilt, px; a multiple of the grid.
        margin: px that the answer of `forward` is smaller than the image on each side; 0 for padded convolutions.
        encoder: the way down, that `freeze_encoder` freezes.
    """

    encoder: nn.ModuleList
    _encoder_is_frozen = False

    def __init__(self, geometry: Geometry, *, channels: int, classes: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.channels = channels
        self.classes = classes
        self.grid = geometry.grid
        self.halo = geometry.halo
        self.margin = geometry.margin

    @property
    def tile_channels(self) -> int:
        """Channels of what tiles are cut from, and so of what `enrich` gives."""
        return self.channels

    def enrich(self, image: Tensor) -> Tensor:
        """What tiles are cut from, (N, tile_channels, H, W): the whole image, and what depends on it as a whole."""
        return image

    @abstractmethod
    def segment(self, enriched: Tensor, spare: int = 0) -> list[Tensor]:
        """Logits of every head, the answer last, each (N, planes, H − 2 margin − 2 spare, W − 2 margin − 2 spare).

        `spare`: px next to each border of the answer that nobody asks for. What only they depend on is not computed.

        Raises:
            ValueError: H or W does not suit; the text names the multiple needed.
        """

    def heads(self, image: Tensor) -> list[Tensor]:
        """What training makes better: the logits of every head for whole images (N, channels, H, W)."""
        return self.segment(self.enrich(image))

    def forward(self, image: Tensor) -> Tensor:
        """(N, channels, H, W) of 0 … 1 to the logits that count, (N, planes, H − 2 margin, W − 2 margin)."""
        return self.heads(image)[-1]

    def core(self, enriched: Tensor) -> Tensor:
        """A tile of whole grid cells to the logits of what lies `halo` px or more inside it.

        (N, tile_channels, H, W) to (N, planes, H − 2 halo, W − 2 halo).
        """
        cut = self.geometry.cut
        spare = max(self.halo - self.margin - cut, 0)  # less than 0 is a halo that checking will refuse
        return self.segment(crop(enriched, cut), spare)[-1]

    def refuse_crop(self, side: int) -> None:
        """Raise ValueError, naming the nearest that does, unless an answer may be `side` px high and wide."""
        self.geometry.refuse_crop(side)

    def to_serve(self) -> "Network":
        """The network whose graph is exported: this one, or a part of it that answers for it."""
        return self

    def freeze_encoder(self) -> None:
        """From now on the way down keeps its weights and its BatchNorm statistics, in training mode, too."""
        self._encoder_is_frozen = True
        self.encoder.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # torch's signature
        """As torch's own, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._encoder_is_frozen:
            self.encoder.eval()
        return self
