"""Where a slide holds anything to look at: found in an overview, asked tile by tile.

Finding too much costs time, finding too little costs nuclei. So whatever differs from the background by more than the
background differs from itself counts, and a picture that is not clearly stained tissue on glass is not judged at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, uniform_filter

from shared.imaging.tiling import Box, Pixels

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

FINEST, COARSEST = 512, 2048  # px; sides of the overview to look at
PITCH = 16  # px at full resolution that a pixel of it may stand for, unless it became too large: about a nucleus
SCALES = (1, 3, 9)  # px of the overview that are averaged: one keeps specks, nine show what is faint but large
CERTAIN = 6.0  # standard deviations of the background that are no chance: the largest of three channels has a long tail
PER_MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
GROWN = 2  # px of the overview around what was found
NUCLEUS = 32  # px at full resolution that a nucleus may reach beyond where it was noticed

# What counts as glass, in grey levels of the overview averaged over EVEN px.
EVEN = 5
BRIGHT = 200.0
NEUTRAL = 16.0  # at most, between the largest and the smallest channel
SMOOTH = 6.0  # at most, the standard deviation of the brightness
BAND = 20.0  # what is so much darker than the brightest glass may be pale tissue
ENOUGH = 0.02  # of the picture must be glass
GREY = 2  # at most, between two channels of a picture without colour
WHITE = 255  # what scanners fill in where they did not look

# The least that counts, in optical density (−log10 of the light let through), by scale: 0.006 are three grey levels.
FAINT = (0.012, 0.006, 0.006)  # a single pixel of less is dust or a trace of JPEG
ROUGH = 0.006
UNEVEN = 0.03  # glass whose density varies like that hides faint tissue

DARK = 100.0  # the background of a fluorescence image is darker, grey levels
DIM = (3.0, 2.0, 2.0)  # the least that counts as light, grey levels, by scale


@dataclass(frozen=True, eq=False)
class Tissue:
    """What an overview shows: `mask` (h, w) is true where something may be."""

    mask: Mask

    @cached_property
    def sums(self) -> NDArray[np.int64]:
        """(h + 1, w + 1): how many pixels above and left of each corner are true (a summed-area table)."""
        rows, columns = self.mask.shape
        sums = np.zeros((rows + 1, columns + 1), dtype=np.int64)
        sums[1:, 1:] = self.mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
        return sums


def overview_side(height: int, width: int) -> int:
    """How large an overview of `height × width` px has to be, px, to find a nucleus in it.

    On a slide of 100,000 px a pixel of it stands for 49 × 49, of which a lymphocyte darkens a tenth.
    """
    return min(max(max(height, width) // PITCH, FINEST), COARSEST)


def tiles_with_tissue(tissue: Tissue, boxes: Iterable[Box], height: int, width: int) -> Mask:
    """For each of the boxes, in their order, whether something may be in it. They may leave the image.

    `height`, `width`: of the image, px. The boxes are grown by a pixel of the overview, which a nucleus at their border
    may have been averaged into, and by the radius of a large nucleus.
    """
    corners = np.array([(box.top, box.left, box.bottom, box.right) for box in boxes], dtype=np.int64).reshape(-1, 4)
    tops, bottoms = _span(corners[:, 0], corners[:, 2], size=height, pixels=tissue.mask.shape[0])
    lefts, rights = _span(corners[:, 1], corners[:, 3], size=width, pixels=tissue.mask.shape[1])
    sums = tissue.sums
    found: Mask = sums[bottoms, rights] - sums[tops, rights] - sums[bottoms, lefts] + sums[tops, lefts] > 0
    return found


def encode_tiles(chosen: Mask) -> str:
    """A flag per tile as text: eight tiles in two hexadecimal digits, the first tile in the highest bit."""
    return np.packbits(chosen).tobytes().hex()


def decode_tiles(text: str, count: int) -> Mask:
    """The `count` flags that `encode_tiles` wrote.

    Raises:
        ValueError: the text is not that of `count` tiles.
    """
    packed = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(packed)} bytes are not the flags of {count} tiles")
    return np.unpackbits(packed, count=count).astype(bool)


def find_tissue(overview: Pixels) -> Tissue | None:
    """What is not bare glass in an overview (h, w, 3) of a whole slide.

    None where that cannot be told: the picture has no colour, no bright, neutral and smooth background, or too little
    of it. Compared are optical densities, which are proportional to the amount of stain (Beer and Lambert).
    """
    glass = _find_glass(overview)
    if glass is None:
        return None
    colour = np.median(overview[glass], axis=0)
    densest, thinnest, total = _densities(overview, colour)
    if _noise(uniform_filter(densest, SCALES[-1])[glass]) > UNEVEN:
        return None
    found = _stands_out(densest, glass, least=FAINT)
    found |= _stands_out(densest - thinnest, glass, least=FAINT)
    rough = _roughness(total, 3)
    found |= rough > _limit(rough[glass], least=ROUGH)
    return Tissue(_grow(found))


def find_signal(overview: Pixels) -> Tissue | None:
    """What is brighter than the dark background of a fluorescence overview (h, w, 3), None if it has none.

    Only for who asks for it: a nucleus that is dim in the overview may be a nucleus all the same.
    """
    light = overview.max(axis=2).astype(np.float32)
    even = uniform_filter(light, EVEN)
    level = _mode(even)
    if level > DARK:
        return None
    ground = np.abs(even - level) <= max(DIM[-1], PER_MAD * CERTAIN * _noise(even[even <= level]))
    return Tissue(_grow(_stands_out(light, ground, least=DIM)))


def _find_glass(overview: Pixels) -> Mask | None:
    """Pixels that are surely background; None if there are too few."""
    if int(np.ptp(overview, axis=2).max()) <= GREY:
        return None
    even = uniform_filter(overview, (EVEN, EVEN, 1))
    brightness = even.mean(axis=2, dtype=np.float32)
    smooth = _roughness(overview.mean(axis=2, dtype=np.float32), EVEN) <= SMOOTH
    likely = smooth & (brightness >= BRIGHT) & (np.ptp(even, axis=2) <= NEUTRAL)
    scanned = likely & (overview.min(axis=2) < WHITE)
    likely = scanned if scanned.mean() >= ENOUGH else likely
    if likely.mean() < ENOUGH:
        return None
    brightest = np.quantile(brightness[likely], 0.99)
    likely &= brightness >= brightest - BAND
    glass: Mask = likely & (np.abs(brightness - _mode(brightness[likely])) <= SMOOTH)
    return glass


def _densities(overview: Pixels, colour: NDArray[np.floating]) -> tuple[Field, Field, Field]:
    """Optical densities (h, w) against the glass's `colour`: the densest channel, the least dense, and the mean."""
    levels = np.arange(256)
    densest, thinnest, total = (np.full(overview.shape[:2], start, np.float32) for start in (-np.inf, np.inf, 0))
    for channel in range(3):
        table = np.log10((colour[channel] + 1) / (levels + 1)).astype(np.float32)
        density = table[overview[:, :, channel]]
        np.maximum(densest, density, out=densest)
        np.minimum(thinnest, density, out=thinnest)
        total += density / 3
    return densest, thinnest, total


def _stands_out(field: Field, ground: Mask, *, least: tuple[float, ...]) -> Mask:
    """Where `field` (h, w), averaged over any of the scales, exceeds what it is on the `ground`."""
    found = np.zeros(field.shape, dtype=bool)
    for scale, floor in zip(SCALES, least, strict=True):
        averaged = uniform_filter(field, scale)
        found |= averaged > _limit(averaged[ground], least=floor)
    return found


def _limit(ground: Field, *, least: float) -> float:
    """What no pixel of the ground exceeds but by chance."""
    return float(np.median(ground)) + max(CERTAIN * _noise(ground), least)


def _noise(values: Field) -> float:
    """Standard deviation of the bulk of the values, whatever a few outliers are."""
    return PER_MAD * float(np.median(np.abs(values - np.median(values))))


def _roughness(field: Field, size: int) -> Field:
    """Standard deviation within `size × size` px around each pixel."""
    centred = field - np.float32(field.mean())  # squares of small numbers are exact enough in single precision
    variance = uniform_filter(centred**2, size) - uniform_filter(centred, size) ** 2
    rough: Field = np.sqrt(np.maximum(variance, 0))
    return rough


def _mode(values: Field) -> float:
    """The commonest grey level, of levels 0 … 255 that three neighbours are counted for."""
    counts = np.bincount(np.rint(values.ravel()).astype(np.intp), minlength=256)
    return float(np.convolve(counts, np.ones(3), mode="same").argmax())


def _grow(found: Mask) -> Mask:
    grown: Mask = binary_dilation(found, np.ones((3, 3), dtype=bool), iterations=GROWN)
    return grown


def _span(
    starts: NDArray[np.int64], stops: NDArray[np.int64], *, size: int, pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last + 1 pixel of an overview's side that lie on `starts … stops − 1` of the image's, generously."""
    pitch = size / pixels  # px of the image per px of the overview; the overview rounds it, by less than itself in all
    margin = max(NUCLEUS, pitch)
    first = np.floor((starts - margin) / pitch).astype(np.int64)
    last = np.ceil((stops + margin) / pitch).astype(np.int64)
    return np.clip(first, 0, pixels), np.clip(last, 0, pixels)
