"""What must hold before the first step, and the weights that a training may begin with."""

import torch
from torch import nn

from services.trainer.networks import Network
from services.trainer.snapshot import Weights
from shared.errors import Rejected
from shared.schemas.training import TrainIn

_LARGEST_BATCH = 1 << 28  # px
_LARGEST_MODEL = 1_200_000_000  # bytes; a snapshot holds four times as much, and one object of S3 at most 5 GB


def refuse_unworkable(order: TrainIn, network: Network) -> None:
    """Raise Rejected, with the mend, for an order that would fail after minutes or hours."""
    try:
        network.refuse_crop(order.crop)
    except ValueError as error:
        raise Rejected(f"crop does not suit the network: {error}") from error
    if order.resize is not None and order.resize < order.crop and not network.margin:
        raise Rejected(f"images of {order.resize} px hold no crop of {order.crop} px: lower crop or raise resize")
    normalises = any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    if normalises and order.batch_size // order.devices * (order.crop // network.grid) ** 2 < 2:
        raise Rejected("batch normalisation needs more than one value at the deepest level: raise crop or batch_size")
    if order.deterministic and order.network.name == "unet_stn" and torch.cuda.is_available():
        raise Rejected(
            "torch's sampler has no deterministic form on graphics cards, and a unet_stn samples: leave deterministic "
            "out, or train on processors"
        )
    if order.batch_size < order.devices:
        raise Rejected(f"a batch of {order.batch_size} cannot be shared by {order.devices} devices: raise batch_size")
    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    if size > _LARGEST_MODEL:
        raise Rejected(
            f"the network holds {size / 1e9:.1f} GB of weights, more than {_LARGEST_MODEL / 1e9:.1f}: lower the widths"
        )
    pixels = order.batch_size * (order.crop + 2 * network.margin) ** 2
    if pixels > _LARGEST_BATCH:
        raise Rejected(f"a batch has {pixels / 1e6:.0f} million pixels: lower batch_size or crop, raise accumulate")


def begin_with(network: Network, weights: Weights, *, freeze_encoder: bool) -> None:
    """Take over the weights of another training of the same kind of network; its head may have other classes.

    Raises:
        Rejected: they belong to another kind of network; the text names the first that does not fit.
    """
    own = network.state_dict()
    foreign = sorted(own.keys() ^ weights.keys())
    if foreign:
        raise Rejected(
            f"the version to start from is another kind of network ({foreign[0]} is in one of them only): "
            "order the network that its card names"
        )
    unlike = [name for name, weight in own.items() if weights[name].shape != weight.shape]
    for name in unlike:
        if not name.startswith("head"):
            raise Rejected(
                f"the version to start from has {name} of {tuple(weights[name].shape)}, the ordered network of "
                f"{tuple(own[name].shape)}: order the same widths and channels"
            )
    network.load_state_dict({**weights, **{name: own[name] for name in unlike}})
    if freeze_encoder:
        network.freeze_encoder()
