"""The networks that can be trained, a file for each network or layer."""

from services.trainer.networks.unet import UNet
from shared.schemas.jobs import UNetIn

__all__ = ["UNet", "build_network"]


def build_network(order: UNetIn) -> UNet:
    """The ordered network with fresh random weights (from torch's global seed)."""
    return UNet(order.widths, channels=order.channels, classes=order.classes)
