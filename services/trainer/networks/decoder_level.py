"""The way up of a UNet: double the resolution, join what the encoder saw there, convolve."""

import torch
from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair
from services.trainer.networks.geometry import crop
from services.trainer.networks.layer_choice import LayerChoice


class DecoderLevel(nn.Module):
    """Doubles the resolution, then a `ConvolutionPair` over that and the features of the same resolution.

    Doubled by a transposed convolution 2×2 with stride 2, which brings the channels to `channels_out`; or by repeating
    each pixel (nearest), which leaves the channels to the convolutions that follow.
    """

    def __init__(
        self, channels_in: int, channels_out: int, choice: LayerChoice, *, skips: int = 1, crop: int = 0
    ) -> None:
        """`skips`: how many features of `channels_out` are joined. `crop`: px cut off each of their sides before."""
        super().__init__()
        self.crop = crop
        self.up: nn.Module
        if choice.decoder == "transposed":
            self.up, raised = nn.ConvTranspose2d(channels_in, channels_out, kernel_size=2, stride=2), channels_out
        else:
            self.up, raised = nn.Upsample(scale_factor=2, mode="nearest"), channels_in
        self.pair = ConvolutionPair(skips * channels_out + raised, channels_out, choice)

    def forward(self, deeper: Tensor, *skipped: Tensor) -> Tensor:
        """`deeper` (N, channels_in, H, W), `skipped` (N, channels_out, 2H + 2 crop, 2W + 2 crop) each.

        Gives (N, channels_out, 2H, 2W), 4 px less without padding.
        """
        same_size = [crop(features, self.crop) for features in skipped]
        joined = torch.cat([*same_size, self.up(deeper)], dim=1)  # (N, skips · channels_out + raised, 2H, 2W)
        answer: Tensor = self.pair(joined)
        return answer
