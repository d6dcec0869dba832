"""A stained slide of drawn nuclei, as large as one likes, and a network that finds them without having learnt."""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.images import JPEG_QUALITY, MPP, TILE
from services.trainer.networks import Network
from services.trainer.networks.geometry import Geometry, crop
from shared.imaging.drawing import draw_nuclei
from shared.imaging.tiling import Pixels

FIELD = 3072  # px; a multiple of what a level's tiles span, and of no block: nuclei lie across all seams
SEED = 9  # of a field with an object every 1,900 px², some of them touching
FINE, COARSE = 4, 16  # how many pixels become one at the slide's second and third level
STEP = 2048  # px; slides are whole blocks, so that large and small ones are cut into the same tiles

RED, SOFTNESS = (
    165.0,
    8.0,
)  # grey levels: haematoxylin takes red light, and where the probability falls from 0.73 to 0.5


@cache
def draw_field() -> Pixels:
    """What the slide shows again and again, (3072, 3072, 3)."""
    return draw_nuclei(FIELD, FIELD, seed=SEED, stain="histology")[0]


def save_nuclei_slide(path: Path, pixels: float) -> int:
    """A square pyramidal TIFF of about so many pixels, in JPEG tiles as scanners write them, never held as a whole.

    A drawn field of 3072 px is laid side by side, mirrored at every seam, so its tiles are encoded once. Returns the
    side, px.
    """
    side = max(round(math.sqrt(pixels) / STEP), 1) * STEP
    field = draw_field()
    coarse = _reduce(field, COARSE)
    last = -(-side // COARSE)
    flips = -(-side // FIELD)
    whole = np.block([[[_flip(coarse, row, column)] for column in range(flips)] for row in range(flips)])
    per_cm = 1e4 / MPP
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            _tiles(field, side),
            subifds=2,
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            **_described(side),
        )
        file.write(_tiles(_reduce(field, FINE), side // FINE), subfiletype=1, **_described(side // FINE))
        file.write(_tiles_of(whole[:last, :last]), subfiletype=1, **_described(last))
    return side


def _tiles(field: Pixels, side: int) -> Iterator[bytes]:
    """The tiles of a level, row by row. Each of the field's is encoded once for each way it is mirrored."""
    across = field.shape[0] // TILE
    known: dict[tuple[int, int], bytes] = {}
    flipped = {(row, column): _flip(field, row, column) for row in (0, 1) for column in (0, 1)}
    for row in range(-(-side // TILE)):
        for column in range(-(-side // TILE)):
            place = (row % (2 * across), column % (2 * across))
            if place not in known:
                top, left = (index % across * TILE for index in place)
                mirrored = flipped[place[0] // across, place[1] // across]
                known[place] = _encode(mirrored[top : top + TILE, left : left + TILE])
            yield known[place]


def _tiles_of(level: Pixels) -> Iterator[bytes]:
    height, width = level.shape[:2]
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = level[top : top + TILE, left : left + TILE]
            missing = [(0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)]
            yield _encode(np.pad(tile, missing, mode="edge"))


def _flip(field: Pixels, row: int, column: int) -> Pixels:
    """As it lies in that row and column of fields."""
    return field[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1]


def _reduce(field: Pixels, factor: int) -> Pixels:
    return np.asarray(Image.fromarray(field).reduce(factor))


def _encode(tile: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(tile), level=JPEG_QUALITY))


def _described(side: int) -> dict[str, Any]:
    return {
        "shape": (side, side, 3),
        "dtype": np.uint8,
        "tile": (TILE, TILE),
        "compression": "jpeg",
        "photometric": "ycbcr",
        "subsampling": (2, 2),  # as the encoder does by default
    }


class RedNetwork(Network):
    """The darker its surroundings of 5 × 5 px are in red, the more probably a pixel is nucleus: two small convolutions.

    What it costs is next to nothing, so that what is made of its answer is what is measured.
    """

    def __init__(self) -> None:
        super().__init__(Geometry(0), channels=3, classes=1)
        first, head = nn.Conv2d(3, 1, kernel_size=3, padding=1), nn.Conv2d(1, 1, kernel_size=3, padding=1)
        self.encoder, self.head = nn.ModuleList([first]), head
        self.halo = 2
        slope = 255 / SOFTNESS
        state = {
            "encoder.0.weight": torch.tensor([-slope, 0.0, 0.0]).reshape(1, 3, 1, 1).repeat(1, 1, 3, 3) / 9,
            "encoder.0.bias": torch.tensor([RED / SOFTNESS]),
            "head.weight": torch.full((1, 1, 3, 3), 1 / 9),
            "head.bias": torch.zeros(1),
        }
        self.load_state_dict(state)

    def segment(self, enriched: Tensor, spare: int = 0) -> list[Tensor]:
        return [crop(self.head(self.encoder[0](enriched)), spare)]
