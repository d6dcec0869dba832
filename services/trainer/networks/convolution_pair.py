"""Two 3×3 convolutions: the level of a UNet."""

from collections import OrderedDict

from torch import Tensor, nn

from services.trainer.networks.layer_choice import LayerChoice


class ConvolutionPair(nn.Module):
    """(convolution 3×3 → BatchNorm if chosen → ReLU) twice, with dropout in between if chosen.

    Each convolution looks one pixel further. Padded by one pixel of zeros it keeps height and width, valid it takes a
    pixel off each side.
    """

    def __init__(self, channels_in: int, channels_out: int, choice: LayerChoice) -> None:
        super().__init__()
        first = _convolve(channels_in, channels_out, choice)
        second = _convolve(channels_out, channels_out, choice)
        named = [(str(number), layer) for number, layer in enumerate([*first, *second])]
        # Under a name of its own: weights are called alike with and without dropout, so one can begin with the other's.
        between = [("dropout", nn.Dropout(choice.dropout))] if choice.dropout else []
        self.layers = nn.Sequential(OrderedDict([*named[: len(first)], *between, *named[len(first) :]]))

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H, W), or to (N, channels_out, H − 4, W − 4) without padding."""
        answer: Tensor = self.layers(features)
        return answer


def _convolve(channels_in: int, channels_out: int, choice: LayerChoice) -> list[nn.Module]:
    # The biases are redundant before BatchNorm; the published parameter count of 31,043,521 has them.
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1 if choice.padding == "same" else 0)
    normalisation = [nn.BatchNorm2d(channels_out)] if choice.batch_norm else []
    return [convolution, *normalisation, nn.ReLU(inplace=True)]
