"""How good a network is on images it does not learn from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from services.trainer.data import Sample
from services.trainer.losses import Loss
from services.trainer.networks import Network
from services.trainer.networks.inputs import as_input
from services.trainer.reports.panels import PanelRow
from services.trainer.serving.served_graph import probability
from shared.imaging.tiling import Box, Pixels, Tile, plan_tiles, reflect

CORE = 1024  # px; a multiple of every grid up to 1024, small enough for a graphics card
SHOWN = 4  # samples in a panel


@dataclass(frozen=True)
class Scores:
    """Over all pixels of all validation images; Dice and IoU are means over the classes other than background."""

    loss: float  # mean per pixel
    dice: float  # 0 … 1
    iou: float  # 0 … 1
    panel: list[PanelRow] = field(default_factory=list)  # of the first few samples


def validate(
    network: Network, samples: Sequence[Sample], *, loss: Loss, fabric: Fabric, check: Callable[[], None]
) -> Scores:
    """Score the network on whole images. `check` is called before each tile and may raise to stop.

    With several devices each scores its share of the images, and all get the same answer.
    """
    network.eval()
    classes = max(network.classes, 2)
    counts = torch.zeros((classes, classes), dtype=torch.int64)
    sums = torch.zeros(2, dtype=torch.float64)  # loss · px, px
    panel: list[PanelRow] = []
    for number in range(fabric.global_rank, len(samples), fabric.world_size):
        sample, shown = samples[number], number < SHOWN
        planes = np.zeros((network.classes, *sample.mask.shape) if shown else (0, 0, 0), np.uint8)
        for tile, logits in answer_tiles(network, sample.image, fabric=fabric, check=check):
            truth, border = _cut(sample, tile.write, fabric.device)
            counts += count(find_classes(logits), truth, classes)
            sums += torch.tensor([float(loss([logits], truth, border)) * truth.numel(), truth.numel()])
            if shown:
                planes[:, *tile.write.slices()] = as_bytes(logits)
        if shown:
            panel.append(PanelRow(sample.name, sample.image, sample.mask, planes))
    counts, sums = add_up(counts, fabric), add_up(sums, fabric)
    dice, iou = overlap(counts.numpy())
    return Scores(float(sums[0] / sums[1]), dice, iou, panel)


def predict_whole(network: Network, image: Pixels, *, fabric: Fabric, check: Callable[[], None]) -> Pixels:
    """uint8 probabilities (planes, H, W) of a whole prepared image (H, W, C)."""
    network.to(fabric.device).eval()
    planes = np.zeros((network.classes, *image.shape[:2]), np.uint8)
    for tile, logits in answer_tiles(network, image, fabric=fabric, check=check):
        planes[:, *tile.write.slices()] = as_bytes(logits)
    return planes


def answer_tiles(
    network: Network, image: Pixels, *, fabric: Fabric, check: Callable[[], None]
) -> Iterator[tuple[Tile, Tensor]]:
    """Logits (1, planes, h, w) of each tile's `write`, as if the image (H, W, C) had been seen whole."""
    height, width = image.shape[:2]
    whole = torch.from_numpy(image[None]).to(fabric.device)
    with torch.inference_mode(), fabric.autocast():
        enriched = network.enrich(as_input(whole))
    for tile in plan_tiles(Box(0, 0, height, width), core=CORE, halo=network.halo):
        check()
        with torch.inference_mode(), fabric.autocast():
            logits = _answer(network, enriched, tile.write)
        yield tile, logits.float()


def find_classes(logits: Tensor) -> Tensor:
    """Logits (N, planes, H, W) to class indices (N, H, W): the most probable one."""
    return (logits[:, 0] >= 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def as_bytes(logits: Tensor) -> Pixels:
    """Logits (1, planes, h, w) to probabilities (planes, h, w) of 0 … 255."""
    planes: Pixels = torch.round(probability(logits)[0] * 255).to(torch.uint8).cpu().numpy()
    return planes


def count(found: Tensor, truth: Tensor, classes: int) -> Tensor:
    """The confusion matrix (classes, classes) of class indices of one shape: rows are the truth. On the CPU."""
    pairs = truth.long().flatten() * classes + found.flatten()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu()


def add_up(part: Tensor, fabric: Fabric) -> Tensor:
    """The sum of what each device has, on the CPU of all of them."""
    whole = fabric.all_reduce(part.to(fabric.device), reduce_op="sum")
    if not isinstance(whole, Tensor):
        raise TypeError(f"a tensor was added up to a {type(whole).__name__}")
    return whole.cpu()


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


def _answer(network: Network, enriched: Tensor, write: Box) -> Tensor:
    """Logits of `write`. The tile reads no further than it must: small images are not mostly halo."""
    size = enriched.shape[-2:]
    core = Box(write.top, write.left, _round_up(write.bottom, network.grid), _round_up(write.right, network.grid))
    read = core.grow(network.halo)
    rows = torch.from_numpy(reflect(read.top, read.bottom, size=size[0])).to(enriched.device)
    columns = torch.from_numpy(reflect(read.left, read.right, size=size[1])).to(enriched.device)
    logits = network.core(enriched[:, :, rows][:, :, :, columns])
    return logits[:, :, : write.height, : write.width]


def _cut(sample: Sample, box: Box, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Truth (1, h, w) and border weights of a box."""
    truth = torch.from_numpy(sample.mask[box.slices()][None]).to(device)
    if sample.border is None:
        return truth, None
    return truth, torch.from_numpy(sample.border[box.slices()][None]).to(device).float()


def _round_up(size: int, grid: int) -> int:
    return -(-size // grid) * grid
