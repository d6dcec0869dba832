"""Teaching the localiser of a UNet+STN without masks: undo a known warp that was applied to an image."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.networks import UNetStn
from services.trainer.networks.inputs import as_input
from services.trainer.networks.warping import LEAST_DEPTH
from shared.errors import Rejected
from shared.imaging.tiling import Pixels
from shared.schemas.training import LocaliserIn

BATCH = 8
_CORNERS = torch.tensor([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])


def teach_localiser(
    network: torch.nn.Module,
    images: Sequence[Pixels],
    order: LocaliserIn,
    *,
    seed: int,
    check: Callable[[], None],
) -> list[float]:
    """Self-supervision: the label of an image is the warp that we applied to it. The mean loss of each epoch.

    Each image's overview is warped by a random turn, zoom and shift; the localiser learns the transform that brings it
    back. The loss is the mean squared distance between where its answer and the true inverse put the four corners,
    in half sides of the image. The same seed gives the same weights.

    Raises:
        Rejected: the network has no localiser, or there are no images.
    """
    if not isinstance(network, UNetStn) or not images:
        raise Rejected("a localiser learns from images, and only a unet_stn has one")
    overviews = torch.cat([_look_over(network, image, check) for image in images])
    adam = torch.optim.Adam(network.localiser.parameters(), lr=order.learning_rate)
    losses = []
    for epoch in range(order.epochs):
        generator = np.random.default_rng((seed, epoch))
        mixed = torch.from_numpy(generator.permutation(len(overviews)))
        parts = [
            _learn(network, overviews[part].float() / 255, adam, draw_warps(len(part), order, generator), check)
            for part in torch.split(mixed, BATCH)
        ]
        losses.append(math.fsum(parts) / len(parts))
        if not math.isfinite(losses[-1]):
            raise Rejected(
                f"the localiser's lesson diverged in epoch {epoch + 1}: lower localiser.learning_rate, "
                f"{order.learning_rate:g} now, to {order.learning_rate / 10:g}"
            )
    adam.zero_grad()  # or the first step of the training would add to the last one of the lesson
    return losses


def _look_over(network: UNetStn, image: Pixels, check: Callable[[], None]) -> Tensor:
    """The overview of an image, as bytes (1, C, side, side)."""
    check()
    return torch.round(network.overview(as_input(torch.from_numpy(image[None]))) * 255).to(torch.uint8)


def draw_warps(count: int, order: LocaliserIn, generator: np.random.Generator) -> Tensor:
    """Random similarities (count, 3, 3) on coordinates of −1 … 1: from where in the image a pixel is taken."""
    angles = np.radians(generator.uniform(-order.rotate, order.rotate, count))
    scales = generator.uniform(1 - order.scale, 1 + order.scale, count)
    shifts = 2 * generator.uniform(-order.translate, order.translate, (count, 2))
    warps = np.zeros((count, 3, 3))
    warps[:, 0, 0] = warps[:, 1, 1] = scales * np.cos(angles)
    warps[:, 1, 0] = scales * np.sin(angles)
    warps[:, 0, 1] = -warps[:, 1, 0]
    warps[:, :2, 2], warps[:, 2, 2] = shifts, 1
    return torch.from_numpy(warps).float()


def _learn(
    network: UNetStn, overviews: Tensor, adam: torch.optim.Optimizer, warps: Tensor, check: Callable[[], None]
) -> float:
    """One step; the loss before it."""
    check()
    found = network.localise(network.warp(overviews, warps))
    loss = functional.mse_loss(_corners(found), _corners(torch.linalg.inv(warps)))
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    adam.step()
    return loss.item()


def _corners(transforms: Tensor) -> Tensor:
    """Where transforms (N, 3, 3) put the corners of the image: (N, 4, 2)."""
    placed = _CORNERS @ transforms.transpose(1, 2)  # (N, 4, 3)
    return placed[:, :, :2] / placed[:, :, 2:].clamp(min=LEAST_DEPTH)
