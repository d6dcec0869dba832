"""The graph that is served: from the bytes of a picture to the bytes of an answer."""

import torch
from torch import Tensor, nn

from services.trainer.networks import UNet
from services.trainer.networks.inputs import as_input


class ServedGraph(nn.Module):
    """uint8 pixels in, uint8 probabilities of the core out, so that nothing wider crosses the wire."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network.eval()
        self.halo = network.halo

    def forward(self, image: Tensor) -> Tensor:
        """(1, H, W, C) uint8 to (1, planes, H − 2 halo, W − 2 halo) uint8: 255 is a probability of 1."""
        logits = self.network(as_input(image))
        core = logits[:, :, self.halo : -self.halo, self.halo : -self.halo]
        return torch.round(probability(core) * 255).to(torch.uint8)


def probability(logits: Tensor) -> Tensor:
    """(N, planes, H, W): a sigmoid for one plane, a softmax over several."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)
