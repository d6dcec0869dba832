"""Exports that are served in int8."""

from collections.abc import Callable
from typing import Any
from unittest import mock

from services.trainer import quantising
from services.trainer.data import Sample
from services.trainer.devices import make_fabric
from services.trainer.export import Export, export_model
from services.trainer.networks import Network
from services.trainer.quantising import Quantiser
from services.trainer.validation import predict_whole
from shared.imaging.masks import find_classes
from shared.schemas.training import UNetIn
from tests.lively_networks import make_image, make_lively


def draw_samples(network: Network, number: int = 4, *, height: int = 96, width: int = 72) -> list[Sample]:
    """Images on which the network is always right."""
    fabric = make_fabric("fp32")
    samples = []
    for seed in range(number):
        image = make_image(height, width, network.channels, seed)
        planes = predict_whole(network, image, fabric=fabric, check=lambda: None)
        samples.append(Sample(f"{seed}.png", image, find_classes(planes, threshold=0.5)))
    return samples


def make_quantiser(network: Network, *, check: Callable[[], None] = lambda: None, **changes: Any) -> Quantiser:
    """It learns from half of the samples, and judges by the other half."""
    samples = draw_samples(network)
    known: dict[str, Any] = {"training": samples[:2], "held": samples[2:], "threshold": 0.5, "closing": 0, "seed": 0}
    return Quantiser(**(known | changes), check=check)


def export_in_int8() -> Export:
    """A model that is served in int8. Nobody trained it, and so it may lose more than a trained one."""
    order = UNetIn(widths=[8, 12, 16], padding="valid", decoder="upsampling", batch_norm=False, channels=1)
    network = make_lively(order)
    with mock.patch.object(quantising, "LOSS_ALLOWED", 0.05):
        return export_model(network, card={"name": "nuclei"}, quantiser=make_quantiser(network))
