"""Two 3×3 convolutions, each with batch normalisation: the level of a UNet."""

from torch import Tensor, nn


class ConvolutionPair(nn.Module):
    """(convolution 3×3, padded by one pixel of zeros → BatchNorm → ReLU) twice; keeps height and width.

    Each convolution looks one pixel further, so a level reaches two of its own pixels.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        # The biases are redundant before BatchNorm; the published parameter count of 31,043,521 has them.
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H, W)."""
        answer: Tensor = self.layers(features)
        return answer
