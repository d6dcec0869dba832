"""Networks that nobody trained, but whose answers differ from pixel to pixel as if somebody had."""

import numpy as np
import torch
from torch import nn

from services.trainer.networks import Network, UNetStn, build_network
from services.trainer.networks.inputs import as_input
from shared.imaging.tiling import Pixels
from shared.schemas.training import NetworkIn

SPREAD = 3.0  # standard deviation of the logits


def make_lively(order: NetworkIn, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Network:
    """Small, random, in evaluation mode, with the statistics of a few images and logits that spread over ±3.

    Without that a deep random network answers nearly the same everywhere, and no test could tell right from wrong.
    A localiser turns and tilts the image a little.
    """
    torch.manual_seed(seed)
    network = build_network(order)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
            layer.momentum = None  # a plain mean over what it sees
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # the default fades with the depth
    if isinstance(network, UNetStn):
        nn.init.normal_(network.localiser.last.weight, 0, 0.2)
    side = 64 + 2 * network.margin + 4 % network.grid * bool(network.margin)
    images = np.stack([make_image(side, side, order.channels, seed) for seed in range(4)])
    _settle_heads(network.to(dtype), as_input(torch.from_numpy(images)).to(dtype))
    return network


def make_image(height: int, width: int, channels: int, seed: int) -> Pixels:
    """Noise with patches of every size, so that the deep levels have something to see."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, channels))
    for size in (1, 4, 16, 64):
        patches = generator.normal(0, 32, (-(-height // size), -(-width // size), channels))
        total += patches.repeat(size, axis=0).repeat(size, axis=1)[:height, :width]
    return np.clip(128 + total, 0, 255).astype(np.uint8)


def heads_of(network: Network) -> list[nn.Conv2d]:
    """The last layer, or the last layer of each depth."""
    found = [layer for name, layer in network.named_modules() if name.startswith("head")]
    return [layer for layer in found if isinstance(layer, nn.Conv2d)]


@torch.no_grad()
def _settle_heads(network: Network, images: torch.Tensor) -> None:
    network.train()(images)  # for the statistics
    logits = network.eval()(images)
    for head in heads_of(network):
        head.weight *= SPREAD / logits.std()
    mean = network(images).mean(dim=(0, 2, 3))
    for head in heads_of(network):
        head.bias -= mean
