"""The UNet (Ronneberger et al. 2015)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair
from services.trainer.networks.decoder_level import DecoderLevel
from services.trainer.networks.geometry import Geometry
from services.trainer.networks.layer_choice import LayerChoice
from services.trainer.networks.network import Network


class UNet(Network):
    """An encoder that halves the resolution level by level, and a decoder that joins its features on the way back.

    By default every convolution is padded, so that image and answer have the same size, and followed by batch
    normalisation. `LayerChoice(padding="valid", batch_norm=False)` is the network of 2015: 572² px in, 388² out.
    """

    def __init__(
        self, widths: Sequence[int], *, channels: int, classes: int, choice: LayerChoice | None = None
    ) -> None:
        """`widths` are the channels per level, the deepest last; each level halves the resolution."""
        choice = choice or LayerChoice()
        geometry = Geometry(len(widths) - 1, valid=choice.padding == "valid")
        super().__init__(geometry, channels=channels, classes=classes)
        inputs = pairwise([self.tile_channels, *widths])
        self.encoder = nn.ModuleList(ConvolutionPair(before, after, choice) for before, after in inputs)
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.decoder = nn.ModuleList(
            DecoderLevel(below, above, choice, crop=crop)
            for (below, above), crop in zip(pairwise(reversed(widths)), geometry.skip_crops, strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)

    def segment(self, enriched: Tensor) -> list[Tensor]:
        self.geometry.refuse_image(enriched)
        skipped: list[Tensor] = []
        features = enriched
        for level in self.encoder:
            if skipped:
                features = self.pool(features)
            features = level(features)
            skipped.append(features)
        skipped.pop()  # the bottom is not skipped to, it is where the way up begins
        for level in self.decoder:
            features = level(features, skipped.pop())
        return [self.head(features)]
