"""A network nobody trained that computes, and answers, like one that somebody did."""

import torch
from torch import Tensor, nn

from services.trainer.export import Export, export_model
from services.trainer.networks import UNet
from services.trainer.networks.inputs import as_input
from shared.imaging.tiling import Pixels

CROP = 256  # px
CROPS = 4
FOREGROUND = 0.2  # share of the pixels that the network calls foreground, about as tissue has nuclei
SPREAD = 3.0  # standard deviation of the logits


def make_network(widths: list[int], picture: Pixels) -> UNet:
    """A UNet with random weights, BatchNorm statistics of `picture` and a plausible share of foreground."""
    torch.manual_seed(0)
    network = UNet(widths, channels=3, classes=1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # average over all that is seen, instead of forgetting
    crops = torch.from_numpy(_cut(picture))
    with torch.inference_mode():
        network.train()(as_input(crops))
        _settle_head(network, network.eval()(as_input(crops)))
    return network


def export_network(network: UNet) -> Export:
    """As a training would export it."""
    return export_model(network, card={"weights": "random, for benchmarks"})


def export_alone(network: UNet, tile: tuple[int, ...]) -> bytes:
    """The network as an ONNX graph that knows of no halo: a tile (H, W, C) in, a probability for each pixel out."""
    program = torch.onnx.export(
        _Alone(network).eval(),
        (torch.zeros((1, *tile), dtype=torch.uint8),),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch exported nothing")
    graph: bytes = program.model_proto.SerializeToString()
    return graph


class _Alone(nn.Module):
    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return torch.round(torch.sigmoid(self.network(as_input(image))) * 255).to(torch.uint8)


def count_parameters(network: UNet) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def _cut(picture: Pixels) -> Pixels:
    """The crops (CROPS, CROP, CROP, 3) along the picture's diagonal."""
    last = min(picture.shape[:2]) - CROP
    corners = [last * index // (CROPS - 1) for index in range(CROPS)]
    stack = [picture[corner : corner + CROP, corner : corner + CROP] for corner in corners]
    return torch.stack([torch.from_numpy(crop.copy()) for crop in stack]).numpy()


def _settle_head(network: UNet, logits: Tensor) -> None:
    """Scale and shift the last layer so that FOREGROUND of the logits lie above 0."""
    scale = SPREAD / logits.std()
    threshold = torch.quantile(logits.flatten()[:: logits.numel() // 100_000], 1 - FOREGROUND)
    bias = network.head.bias
    if bias is None:
        raise TypeError("the head has no bias to set")
    network.head.weight.data *= scale
    bias.data = (bias.data - threshold) * scale
