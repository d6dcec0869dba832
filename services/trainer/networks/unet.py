"""The UNet (Ronneberger et al. 2015)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair
from services.trainer.networks.decoder_level import DecoderLevel
from services.trainer.networks.geometry import Geometry, crop
from services.trainer.networks.layer_choice import LayerChoice
from services.trainer.networks.network import Network
from services.trainer.networks.trimming import Trimming, trim, unet_inputs


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
            DecoderLevel(below, above, choice, crop=lost)
            for (below, above), lost in zip(pairwise(reversed(widths)), geometry.skip_crops, strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)

    def segment(self, enriched: Tensor, spare: int = 0) -> list[Tensor]:
        self.geometry.refuse_image(enriched)
        depth, top = self.geometry.depth, (0, self.geometry.depth)
        trimming = trim(unet_inputs(depth), {top: spare}, spoilt=self.geometry.spoilt)
        skipped = encode(self.encoder, self.pool, enriched, trimming)
        features = skipped.pop()  # the bottom is not skipped to, it is where the way up begins
        for column, decode in enumerate(self.decoder, 1):
            level = depth - column
            deeper = crop(features, trimming.between((level + 1, column - 1), (level, column)))
            features = decode(deeper, crop(skipped.pop(), trimming.between((level, 0), (level, column))))
        return [crop(self.head(features), spare - trimming.starts[top])]


def encode(levels: nn.ModuleList, pool: nn.Module, image: Tensor, trimming: Trimming) -> list[Tensor]:
    """The way down: features of every level (N, widths[i], H / 2^i, W / 2^i), less what is trimmed."""
    features = [levels[0](image)]
    for number, level in enumerate(list(levels)[1:], 1):
        features.append(level(crop(pool(features[-1]), trimming.between((number - 1, 0), (number, 0)))))
    return features
