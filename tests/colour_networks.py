"""Networks that see colours, and images for them: whoever draws one knows the answer, pixel by pixel."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn

from services.trainer.networks import UNet
from services.trainer.networks.layer_choice import LayerChoice
from shared.imaging.tiling import Pixels

STEEPNESS = 20.0  # of the logit, from black to full colour


@torch.no_grad()
def make_colour_network(classes: Sequence[str]) -> UNet:
    """A UNet that hands the image through. `classes` are colours, the background first.

    Of two classes, the probability of the second is a sigmoid of its colour, 0.5 at half of the full brightness; of
    more, each class competes by its colour's brightness with a background of half of the full one.
    """
    colours = [["red", "green", "blue"].index(name) for name in classes[1:]]
    planes = 1 if len(classes) == 2 else len(classes)
    network = UNet([4, 4], channels=3, classes=planes, choice=LayerChoice(batch_norm=False))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.weight[:3, :3, 1, 1] = torch.eye(3)
    bias = torch.zeros(planes)
    for plane, colour in enumerate(colours, start=planes - len(colours)):
        network.head.weight[plane, colour] = STEEPNESS
        bias[plane] = -STEEPNESS / 2
    network.head.bias = nn.Parameter(bias)
    return network.eval()


def draw_discs(height: int, width: int, *, seed: int, discs: int) -> Pixels:
    """Red and green discs on a dark ground, some of which touch; (height, width, 3)."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 25, dtype=np.uint8)
    for _ in range(discs):
        centre = int(random.integers(width)), int(random.integers(height))
        colour = (230, 20, 40) if random.random() < 0.7 else (20, 220, 40)
        cv2.circle(pixels, centre, int(random.integers(5, 16)), colour, thickness=-1)
    return pixels


def roughen(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(9).integers(0, 22, pixels.shape, dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0) + noise, dtype=np.uint8)
