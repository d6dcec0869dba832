"""The graphs that are served: from the bytes of a picture to the bytes of an answer."""

import torch
from torch import Tensor, nn

from services.trainer.networks import Network, UNetStn
from services.trainer.networks.inputs import as_input


class ServedGraph(nn.Module):
    """uint8 pixels in, uint8 probabilities of the core out, so that nothing wider crosses the wire."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()
        self.halo = network.halo

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, tile_channels) uint8 to (N, planes, H − 2 halo, W − 2 halo) uint8: 255 is a probability of 1."""
        return torch.round(self.scaled(image)).to(torch.uint8)

    def scaled(self, image: Tensor) -> Tensor:
        """The same before rounding: float32 of 0 … 255."""
        return probability(self.network.core(as_input(image))) * 255


class ServedLocaliser(nn.Module):
    """Where the whole image is to be warped to, asked once per image."""

    def __init__(self, network: UNetStn) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, overview: Tensor) -> Tensor:
        """(1, overview, overview, channels) uint8 to the transform (1, 3, 3) float32."""
        return self.network.localise(as_input(overview))


def probability(logits: Tensor) -> Tensor:
    """(N, planes, H, W): a sigmoid for one plane, a softmax over several."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)
