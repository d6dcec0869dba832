"""What an image is recognised by: its pixels' hash, a miniature of it, and its four borders."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.examination.intensities import mean_channels
from shared.imaging.tiling import Pixels

Field = NDArray[np.float32]

SIDE = 32  # px of the miniature
SAMPLES = 128  # of a border
FAINT = 2.0  # grey levels between the darkest and the brightest pixel of a miniature that shows nothing


class Border(IntEnum):
    """Which border of an image; its row in `Fingerprint.borders`."""

    TOP = 0
    BOTTOM = 1
    LEFT = 2
    RIGHT = 3


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """A grey picture so small that a hundred thousand fit in memory, and large enough to tell two fields apart.

    `miniature`: (32, 32) uint8, means over equal parts of the image, whatever its shape, stretched to 0 … 255; all 0
    if nothing is to be seen. `borders`: (4, 128) uint8, grey levels along the outermost lines, as `Border` orders them.
    """

    miniature: Pixels
    borders: Pixels

    @classmethod
    def of(cls, miniature: Field, borders: list[Field]) -> Self:
        """From grey levels 0 … 255: a miniature (32, 32), and the outermost lines, each as long as the image."""
        return cls(_stretch(miniature), np.stack([_sample(line) for line in borders]))

    def pack(self) -> bytes:
        """1536 bytes, for `unpack_fingerprints`."""
        return self.miniature.tobytes() + self.borders.tobytes()


def unpack_fingerprints(packed: list[bytes]) -> tuple[Pixels, Pixels]:
    """Miniatures (N, 32, 32) and borders (N, 4, 128) of N packed fingerprints.

    Raises:
        ValueError: one of them has another length.
    """
    length = SIDE * SIDE + len(Border) * SAMPLES
    if any(len(one) != length for one in packed):
        raise ValueError(f"a packed fingerprint has {length} bytes; examine the image again")
    rows = np.frombuffer(b"".join(packed), dtype=np.uint8).reshape(len(packed), length)
    return (
        rows[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE),
        rows[:, SIDE * SIDE :].reshape(-1, len(Border), SAMPLES),
    )


def make_miniature(overview: Pixels) -> Field:
    """Grey levels (32, 32) of an overview (h, w, 3): means over equal parts of it."""
    return np.asarray(Image.fromarray(mean_channels(overview)).resize((SIDE, SIDE), Image.Resampling.BOX))


def is_blank(miniature: Field) -> bool:
    """Whether a miniature in grey levels shows nothing: averaged over so many pixels, noise alone is below 2 levels."""
    return float(np.ptp(miniature)) <= FAINT


def _stretch(miniature: Field) -> Pixels:
    if is_blank(miniature):
        return np.zeros((SIDE, SIDE), dtype=np.uint8)
    low, high = float(miniature.min()), float(miniature.max())
    stretched: Pixels = np.rint((miniature - low) * (255 / (high - low))).astype(np.uint8)
    return stretched


def _sample(line: Field) -> Pixels:
    """128 values along a line of any length: means where it is longer, in between where it is shorter."""
    if line.size >= SAMPLES:
        short = np.asarray(Image.fromarray(line[None]).resize((SAMPLES, 1), Image.Resampling.BOX))[0]
    else:
        places = (np.arange(SAMPLES) + 0.5) * (line.size / SAMPLES) - 0.5
        short = np.interp(places, np.arange(line.size), line)
    sampled: Pixels = np.clip(np.rint(short), 0, 255).astype(np.uint8)
    return sampled
