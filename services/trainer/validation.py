"""How good a network is on images it does not learn from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from services.trainer.data import Sample
from services.trainer.losses import pixel_loss
from services.trainer.networks import UNet
from services.trainer.networks.inputs import as_input
from shared.imaging.tiling import Box, plan_tiles, read_mirrored

_CORE = 1024  # px; a multiple of every grid up to 1024, small enough for a graphics card


@dataclass(frozen=True)
class Scores:
    """Over all pixels of all validation images; Dice and IoU are means over the classes other than background."""

    loss: float  # mean cross-entropy per pixel
    dice: float  # 0 … 1
    iou: float  # 0 … 1


def validate(network: UNet, samples: Sequence[Sample], *, fabric: Fabric, check: Callable[[], None]) -> Scores:
    """Score the network on whole images. `check` is called before each tile and may raise to stop."""
    network.eval()
    classes = max(network.classes, 2)
    counts, loss, pixels = np.zeros((classes, classes), np.int64), 0.0, 0
    for sample in samples:
        for logits, truth in _tiles(network, sample, fabric=fabric, check=check):
            counts += _count(find_classes(logits).cpu().numpy(), truth.cpu().numpy(), classes)
            loss += float(pixel_loss(logits, truth)) * truth.numel()
            pixels += truth.numel()
    dice, iou = overlap(counts)
    return Scores(loss / pixels, dice, iou)


def find_classes(logits: Tensor) -> Tensor:
    """Logits (N, planes, H, W) to class indices (N, H, W): the most probable one."""
    return (logits[:, 0] >= 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def overlap(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mean Dice and IoU over classes 1, 2, … from a confusion matrix (truth, found) in pixels.

    A class that is neither there nor found does not count; if none does, both are 1. Dice (1945), Jaccard (1912).
    """
    hits = np.diag(counts)[1:].astype(np.float64)
    sizes = (counts.sum(axis=0) + counts.sum(axis=1))[1:].astype(np.float64)
    seen = sizes > 0
    if not seen.any():
        return 1.0, 1.0
    hits, sizes = hits[seen], sizes[seen]
    return float(np.mean(2 * hits / sizes)), float(np.mean(hits / (sizes - hits)))


def _tiles(
    network: UNet, sample: Sample, *, fabric: Fabric, check: Callable[[], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (1, planes, h, w) and truth (1, h, w), tile by tile, as if the image had been seen whole."""
    height, width = sample.mask.shape
    padded = Box(0, 0, _round_up(height, network.grid), _round_up(width, network.grid))
    for tile in plan_tiles(Box(0, 0, height, width), core=_CORE, halo=network.halo):
        check()
        read = _intersect(tile.read, padded)
        image = torch.from_numpy(read_mirrored(sample.image, read)[None]).to(fabric.device)
        with torch.inference_mode(), fabric.autocast():
            logits = network(as_input(image))
        rows, columns = tile.write.move(-read.top, -read.left).slices()
        truth = torch.from_numpy(sample.mask[tile.write.slices()][None]).to(fabric.device)
        yield logits[:, :, rows, columns].float(), truth


def _count(found: NDArray[np.int64], truth: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    pairs = truth.astype(np.int64).ravel() * classes + found.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _intersect(one: Box, other: Box) -> Box:
    return Box(
        max(one.top, other.top),
        max(one.left, other.left),
        min(one.bottom, other.bottom),
        min(one.right, other.right),
    )


def _round_up(size: int, grid: int) -> int:
    return -(-size // grid) * grid
