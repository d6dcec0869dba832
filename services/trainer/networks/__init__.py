"""The networks that can be trained, a file for each network or layer."""

from services.trainer.networks.layer_choice import LayerChoice
from services.trainer.networks.localiser import Localiser
from services.trainer.networks.network import Network
from services.trainer.networks.unet import UNet
from services.trainer.networks.unet_plus_plus import UNetPlusPlus
from services.trainer.networks.unet_stn import UNetStn
from shared.schemas.training import NetworkIn, UNetIn, UNetPlusPlusIn, UNetStnIn

__all__ = ["LayerChoice", "Localiser", "Network", "UNet", "UNetPlusPlus", "UNetStn", "build_network"]


def build_network(order: NetworkIn) -> Network:
    """The ordered network with fresh random weights (from torch's global seed)."""
    match order:
        case UNetIn():
            choice = LayerChoice(order.padding, order.batch_norm, order.decoder, order.dropout)
            return UNet(order.widths, channels=order.channels, classes=order.classes, choice=choice)
        case UNetStnIn():
            return _build_stn(order)
        case UNetPlusPlusIn():
            return UNetPlusPlus(
                order.widths,
                channels=order.channels,
                classes=order.classes,
                deep_supervision=order.deep_supervision,
                serve_level=order.serve_level,
            )


def _build_stn(order: UNetStnIn) -> UNetStn:
    localiser = Localiser(order.channels, overview=order.overview, transform=order.transform, size_free=order.size_free)
    choice = LayerChoice("same", order.batch_norm, order.decoder, order.dropout)
    return UNetStn(order.widths, channels=order.channels, classes=order.classes, localiser=localiser, choice=choice)
