"""The way up of a UNet: double the resolution, join what the encoder saw there, convolve."""

import torch
from torch import Tensor, nn

from services.trainer.networks.convolution_pair import ConvolutionPair


class DecoderLevel(nn.Module):
    """Transposed convolution 2×2 with stride 2, then a `ConvolutionPair` over it and the encoder's features."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels_in, channels_out, kernel_size=2, stride=2)
        self.pair = ConvolutionPair(2 * channels_out, channels_out)

    def forward(self, deeper: Tensor, skipped: Tensor) -> Tensor:
        """`deeper` (N, channels_in, H, W) and `skipped` (N, channels_out, 2H, 2W) to (N, channels_out, 2H, 2W)."""
        joined = torch.cat([skipped, self.up(deeper)], dim=1)  # (N, 2 channels_out, 2H, 2W)
        answer: Tensor = self.pair(joined)
        return answer
