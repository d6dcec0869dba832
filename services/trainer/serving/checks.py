"""What must be true of an exported network before anybody may register it."""

import copy

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.trainer.networks import UNet
from services.trainer.serving.served_graph import ServedGraph
from shared.imaging.probes import known_question

_SEED = 0


class Unfaithful(Exception):
    """The exported model would not give the network's answer; the text holds the figure. A bug of ours."""


def check_engine(graph: bytes, served: ServedGraph, sides: list[tuple[int, int]]) -> None:
    """ONNX Runtime in fp32 must answer as torch does, within one step of 1/255, on tiles of each (height, width).

    Raises:
        Unfaithful: with the largest difference seen.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for height, width in sides:
        image = known_question(max(height, width), served.network.channels, _SEED)[None, :height, :width]
        (answer,) = session.run(["PROBABILITY"], {"IMAGE": image})
        expected = answer_of(served, image)
        if answer.shape != expected.shape:
            raise Unfaithful(f"the exported graph answers {answer.shape} where torch answers {expected.shape}")
        difference = int(np.abs(answer.astype(np.int16) - expected).max())
        if difference > 1:
            raise Unfaithful(
                f"on a tile of {height} × {width} px the exported graph differs from torch by {difference}/255"
            )


def check_halo(network: UNet) -> None:
    """No pixel beyond the halo may reach the core, whatever its phase on the grid.

    A core of one grid cell lies in the middle; everything further than the halo from it, one grid cell on each side,
    is changed at once. In the network itself the core's logits must stay the same, bit for bit. Its weights may
    happen to silence a path, so a twin with nothing but positive weights must stay dark, too: what reaches is a
    matter of structure.

    Raises:
        Unfaithful: with the change seen.
    """
    noise = torch.rand(_probe_shape(network), generator=torch.Generator().manual_seed(_SEED))
    twin, dark = _without_silence(network), torch.zeros(_probe_shape(network))
    if not _core_logits(twin, dark + 1).all():
        raise Unfaithful("the probe of the halo is blind: the core stays dark even in full light")
    for probed, image in ((network, noise), (twin, dark)):
        changed = _core_logits(probed, _beyond_the_halo(network, image)) - _core_logits(probed, image)
        if changed.any():
            raise Unfaithful(
                f"pixels more than {network.halo} px from a core change its logits by {float(changed.abs().max()):.3g}"
            )


def answer_of(served: ServedGraph, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Torch's own fp32 answer (1, planes, H − 2 halo, W − 2 halo) to an image (1, H, W, C)."""
    with torch.inference_mode():
        answer: NDArray[np.uint8] = served(torch.from_numpy(np.ascontiguousarray(image))).numpy()
    return answer


def _probe_shape(network: UNet) -> tuple[int, int, int, int]:
    """A core of one grid cell, the halo around it, and one grid cell beyond."""
    side = 3 * network.grid + 2 * network.halo
    return 1, network.channels, side, side


def _core_logits(network: UNet, image: Tensor) -> Tensor:
    """Logits of the middle grid cell, in evaluation mode."""
    start = network.halo + network.grid
    with torch.inference_mode():
        logits: Tensor = network.eval()(image)
    return logits[:, :, start : start + network.grid, start : start + network.grid]


def _beyond_the_halo(network: UNet, image: Tensor) -> Tensor:
    """The image with another value in every pixel that the core must not see."""
    changed, seen = 1 - image, slice(network.grid, -network.grid)
    changed[:, :, seen, seen] = image[:, :, seen, seen]
    return changed


def _without_silence(network: UNet) -> UNet:
    """A copy in which light adds up: filters that average, no biases, normalisations that change nothing."""
    twin = copy.deepcopy(network)
    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.reset_parameters()
    return twin
