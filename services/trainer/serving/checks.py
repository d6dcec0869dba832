"""What must be true of an exported network before anybody may register it."""

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

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

    A core of one grid cell lies in the middle of noise. For each phase the frame of pixels that many px beyond the
    halo is turned black, then white: the core's logits must stay the same, bit for bit.

    Raises:
        Unfaithful: with the change seen and its distance.
    """
    network.eval()
    grid, halo = network.grid, network.halo
    side = 3 * grid + 2 * halo
    noise = torch.rand((1, network.channels, side, side), generator=torch.Generator().manual_seed(_SEED))
    before = _core_logits(network, noise)
    for phase in sorted({0, 1, grid // 2, grid - 1} & set(range(grid))):
        for value in (0.0, 1.0):
            change = float((_core_logits(network, _with_frame(noise, grid - 1 - phase, value)) - before).abs().max())
            if change > 0:
                raise Unfaithful(f"a pixel {halo + phase + 1} px from a core changes its logits by {change:.3g}")


def answer_of(served: ServedGraph, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Torch's own fp32 answer (1, planes, H − 2 halo, W − 2 halo) to an image (1, H, W, C)."""
    with torch.inference_mode():
        answer: NDArray[np.uint8] = served(torch.from_numpy(np.ascontiguousarray(image))).numpy()
    return answer


def _core_logits(network: UNet, image: Tensor) -> Tensor:
    """Logits of the middle grid cell."""
    start = network.halo + network.grid
    with torch.inference_mode():
        logits: Tensor = network(image)
    return logits[:, :, start : start + network.grid, start : start + network.grid]


def _with_frame(image: Tensor, inset: int, value: float) -> Tensor:
    """`image` (N, C, S, S) with a frame one pixel wide, `inset` px from its border, set to `value`."""
    framed, last = image.clone(), image.shape[-1] - 1 - inset
    for edge in (inset, last):
        framed[:, :, edge, inset : last + 1] = value
        framed[:, :, inset : last + 1, edge] = value
    return framed
