"""What must be true of an exported network before anybody may register it."""

import copy

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.trainer.networks import Network
from services.trainer.networks.geometry import crop
from services.trainer.serving.served_graph import ServedGraph, ServedLocaliser
from shared.imaging.probes import known_question

_SEED = 0
_ALLOWED = 1e-4  # between torch and the exported graph: of the mean probability, of each entry of a transform


class Unfaithful(Exception):
    """The exported model would not give the network's answer; the text holds the figure. A bug of ours."""


def check_engine(graph: bytes, served: ServedGraph, sides: list[tuple[int, int]]) -> None:
    """ONNX Runtime in fp32 must answer as torch does on tiles of each (height, width).

    Its probabilities must be within 1e-4 on average, and the bytes made of them within one step everywhere. In single
    precision the order of sums alone moves some pixels of a network of 31 million weights by 2e-5 and more.

    Raises:
        Unfaithful: with the differences seen.
    """
    session = _open(_with_what_is_rounded(graph))
    for height, width in sides:
        where = f"on a tile of {height} × {width} px the exported graph"
        image = known_question(max(height, width), served.network.tile_channels, _SEED)[None, :height, :width]
        answer, scaled = session.run(None, {"IMAGE": image})
        expected = answer_of(served, image)
        if answer.shape != expected.shape:
            raise Unfaithful(f"{where} answers {answer.shape} where torch answers {expected.shape}")
        with torch.inference_mode():
            exact = served.scaled(torch.from_numpy(np.ascontiguousarray(image))).numpy()
        difference = float(np.abs(scaled - exact).mean()) / 255
        steps = int(np.abs(answer.astype(np.int16) - expected).max())
        if not difference <= _ALLOWED or steps > 1:  # not so with NaN, either
            raise Unfaithful(f"{where} differs from torch by {difference:.3g} on average, {steps}/255 at most")


def check_localiser(graph: bytes, served: ServedLocaliser) -> None:
    """ONNX Runtime in fp32 must find the transform that torch finds, within 1e-4.

    Raises:
        Unfaithful: with the largest difference seen.
    """
    network = served.network
    overview = known_question(network.localiser.overview, network.channels, _SEED)[None]
    (found,) = _open(graph).run(["THETA"], {"OVERVIEW": overview})
    with torch.inference_mode():
        expected = served(torch.from_numpy(overview)).numpy()
    difference = float(np.abs(found - expected).max())
    if not difference <= _ALLOWED:
        raise Unfaithful(f"the exported localiser differs from torch by {difference:.3g}")


def check_halo(network: Network) -> None:
    """No pixel beyond the halo may reach the core, whatever its phase on the grid.

    A core of one grid cell lies in the middle of a tile; everything further than the halo from it, one grid cell on
    each side, is changed at once. In the network itself the core's logits must stay the same, bit for bit. Its weights
    may happen to silence a path, so a twin with nothing but positive weights must stay dark, too: what reaches is a
    matter of structure.

    Raises:
        Unfaithful: with the change seen.
    """
    noise = torch.rand(_probe_shape(network), generator=torch.Generator().manual_seed(_SEED))
    twin, dark = _without_silence(network), torch.zeros(_probe_shape(network))
    if not _middle_logits(twin, dark + 1).all():
        raise Unfaithful("the probe of the halo is blind: the core stays dark even in full light")
    for probed, image in ((network, noise), (twin, dark)):
        changed = _middle_logits(probed, _beyond_the_halo(network, image)) - _middle_logits(probed, image)
        if changed.any():
            raise Unfaithful(
                f"pixels more than {network.halo} px from a core change its logits by {float(changed.abs().max()):.3g}"
            )


def answer_of(served: ServedGraph, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Torch's own fp32 answer (1, planes, H − 2 halo, W − 2 halo) to a tile (1, H, W, tile_channels)."""
    with torch.inference_mode():
        answer: NDArray[np.uint8] = served(torch.from_numpy(np.ascontiguousarray(image))).numpy()
    return answer


def _open(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def _with_what_is_rounded(graph: bytes) -> bytes:
    """The graph with a second output: the probabilities times 255 in float32, before they are rounded."""
    model = onnx.load_from_string(graph)
    (scaled,) = (node.input[0] for node in model.graph.node if node.op_type == "Round")
    model.graph.output.append(onnx.helper.make_tensor_value_info(scaled, onnx.TensorProto.FLOAT, None))
    whole: bytes = model.SerializeToString()
    return whole


def _probe_shape(network: Network) -> tuple[int, int, int, int]:
    """A core of one grid cell, the halo around it, and one grid cell beyond."""
    side = 3 * network.grid + 2 * network.halo
    return 1, network.tile_channels, side, side


def _middle_logits(network: Network, tile: Tensor) -> Tensor:
    """Logits of the middle grid cell of the three that the tile answers for, in evaluation mode."""
    with torch.inference_mode():
        logits = network.eval().core(tile)
    if logits.shape[-2:] != (3 * network.grid, 3 * network.grid):
        raise Unfaithful(f"a tile of {3 * network.grid} px and a halo of {network.halo} px answers {logits.shape}")
    return crop(logits, network.grid)


def _beyond_the_halo(network: Network, image: Tensor) -> Tensor:
    """The image with another value in every pixel that the core must not see."""
    changed, seen = 1 - image, slice(network.grid, -network.grid)
    changed[:, :, seen, seen] = image[:, :, seen, seen]
    return changed


def _without_silence(network: Network) -> Network:
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
