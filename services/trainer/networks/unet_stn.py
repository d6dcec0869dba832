"""A spatial transformer (Jaderberg et al. 2015) whose warped image is a second input of a UNet."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.networks.layer_choice import LayerChoice
from services.trainer.networks.localiser import Localiser
from services.trainer.networks.unet import UNet
from services.trainer.networks.warping import warp


class UNetStn(UNet):
    """A UNet over an image and the same image, warped: (N, 2 · channels, H, W), the image first.

    The transform depends on the whole image, so it is found once, from an overview of fixed size; tiles are cut from
    the image and the warped image alike, and are as seamless as those of the UNet.

    The sampler of the published code passes no gradient to the transform, so that its localiser never learns, and
    starts at a constant image, see `Localiser`. Here the loss teaches it, through `warp`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        channels: int,
        classes: int,
        localiser: Localiser,
        choice: LayerChoice | None = None,
    ) -> None:
        """`widths`, `classes` and `choice` are those of the UNet; `channels` those of the image alone."""
        super().__init__(widths, channels=channels, classes=classes, choice=choice)
        self.localiser = localiser

    @property
    def tile_channels(self) -> int:
        """The image's and the warped image's."""
        return 2 * self.channels

    def enrich(self, image: Tensor) -> Tensor:
        """Image and warped image, (N, 2 · channels, H, W)."""
        # In bf16 a transform would be off by pixels, as would the coordinates.
        with torch.autocast(image.device.type, enabled=False):
            transforms = self.localise(self.overview(image))
            return torch.cat([image, self.warp(image, transforms)], dim=1)

    def overview(self, image: Tensor) -> Tensor:
        """(N, channels, H, W) of any size to what the localiser looks at, (N, channels, overview, overview).

        Pixel i of an axis is the mean of pixels ⌊i · H / overview⌋ … ⌈(i + 1) · H / overview⌉ − 1, rounded to a byte:
        what is served is bytes, and training must see the same.
        """
        side = self.localiser.overview
        return torch.round(functional.interpolate(image, size=(side, side), mode="area") * 255) / 255

    def localise(self, overview: Tensor) -> Tensor:
        """Overviews (N, channels, overview, overview) to transforms (N, 3, 3)."""
        transforms: Tensor = self.localiser(overview)
        return transforms

    def warp(self, image: Tensor, transforms: Tensor) -> Tensor:
        """Images (N, C, H, W), each read where its transform (N, 3, 3) says; see `warping.warp`."""
        return warp(image, transforms)
