"""Labels and probabilities to write, and what writers made of them."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from services.worker.writers.label_zarr import LabelMap
from services.worker.writers.multiscale import CoarseLevels
from services.worker.writers.probability import ProbabilityMap
from services.worker.writers.pyramid import Labels
from shared.imaging.tiling import Box, Pixels, plan_blocks

NOISE = np.random.default_rng(0).integers(0, 256, (2, 1700, 2100), dtype=np.uint8)
SIDES = st.sampled_from([512, 1024, 1536])
LENGTHS = st.integers(1, 1600)


def draw_blobs(height: int, width: int, seed: int = 0) -> Labels:
    """Rectangles of all sizes, some of which touch; every seventh label of uint32's upper half."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((height, width), dtype=np.uint32)
    for number in range(1, 60):
        top, left = int(generator.integers(height)), int(generator.integers(width))
        tall, wide = generator.integers(1, 200, 2)
        labels[top : top + tall, left : left + wide] = number + (2**31 if number % 7 == 0 else 0)
    return labels


def shrink(shape: tuple[int, int], level: int) -> tuple[int, int]:
    for _ in range(level):
        shape = (shape[0] + 1) // 2, (shape[1] + 1) // 2
    return shape


def place_at(block: Box, level: int) -> Box:
    """Of a block whose corner stays on whole pixels."""
    step = 2**level
    return Box(block.top // step, block.left // step, -(-block.bottom // step), -(-block.right // step))


def write_probabilities(probability: ProbabilityMap, planes: Pixels) -> dict[str, bytes]:
    """All objects, as blocks and the one who assembles make them."""
    objects, coarse = probability.describe(), probability.coarse()
    for block in plan_blocks(probability.height, probability.width, side=probability.side):
        made = probability.encode_levels(block, planes[:, *block.slices()])
        smallest = probability.decode(place_at(block, coarse.source), made, level=coarse.source)
        objects |= made | coarse.add(block, smallest)
    return finish(objects, coarse)


def write_labels(label_map: LabelMap, labels: Labels) -> dict[str, bytes]:
    objects, coarse = label_map.describe(), label_map.coarse()
    for block in plan_blocks(label_map.height, label_map.width, side=label_map.side):
        made = label_map.encode_levels(block, labels[block.slices()])
        smallest = label_map.decode(place_at(block, coarse.source), made, level=coarse.source)
        objects |= made | coarse.add(block, smallest)
    return finish(objects, coarse)


def finish(objects: dict[str, bytes], coarse: CoarseLevels) -> dict[str, bytes]:
    left = coarse.finish()
    assert not left  # all blocks came
    return objects


def store(folder: Path, objects: dict[str, bytes]) -> Path:
    for key, body in objects.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)
    return folder
