"""Stain normalisation: a picture in transmitted light, as if its tissue had been stained like the reference's.

Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis". Light is absorbed by a
stain in proportion to its amount (Beer and Lambert), so that optical densities −ln((v + 1) / 240) add where colours
do not: a pixel's densities are amounts of two stains times the densities of each.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Pixels

LAMP = 240  # value of unstained glass
TRANSPARENT = 0.15  # optical density; a pixel that lets more light pass in some colour is no tissue (Macenko et al.)
EXTREME = 1.0  # percent of the tissue at either end that is taken for noise (Macenko et al.)
LEAST_TISSUE = 1000  # px; a percentile of fewer rests on less than ten
LEAST_ANGLE = 10.0  # degrees between two stains; found in H&E (CoNSeP) 11 at least, in one stain with noise below 10
LARGEST_FACTOR = 10.0  # between a stain's amounts here and in the reference; a fainter one is noise

Reals = NDArray[np.float64]
Density = tuple[float, float, float]  # optical densities of red, green, blue

_DENSITIES: Reals = -np.log((np.arange(256) + 1) / LAMP)
_STEPS = 2**16 - 4  # of a sum of three rounded numbers, so that it still fits in 16 bits
_AT_ONCE = 2**14  # px; the numbers in between stay in the processor's caches


@dataclass(frozen=True)
class Stains:
    """The two stains of an image or of a reference, the one that absorbs more red (haematoxylin) first."""

    colours: tuple[Density, Density]
    amounts: tuple[float, float]  # 99th percentiles over the tissue, in units of the colours

    def fill_up(self) -> Reals:
        """The colours, and the direction at right angles to both: (3, 3), a row each."""
        first, second = np.array(self.colours)
        across = np.cross(first, second)
        return np.stack([first, second, across / np.linalg.norm(across)])


def find_stains(pixels: Pixels) -> Stains | None:
    """The stains of RGB pixels (h, w, 3); None where there is too little tissue, or no two stains in it.

    The two singular vectors that explain most of the tissue's densities span a plane; its extreme directions that
    still hold tissue are the stains.
    """
    densities = _DENSITIES[pixels.reshape(-1, 3)]
    tissue = densities[(densities >= TRANSPARENT).all(axis=1)]
    if len(tissue) < LEAST_TISSUE:
        return None
    _, axes = np.linalg.eigh(tissue.T @ tissue)  # ascending
    plane = axes[:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)  # towards more absorption: no angle is beyond ± 90°
    along, aside = (tissue @ plane).T
    angles = np.percentile(np.arctan2(aside, along), [EXTREME, 100 - EXTREME])
    if angles[1] - angles[0] < np.radians(LEAST_ANGLE):
        return None
    colours = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    colours = colours[np.argsort(-colours[:, 0])]
    return _measure(tissue, (_as_density(colours[0]), _as_density(colours[1])))


def _measure(tissue: Reals, colours: tuple[Density, Density]) -> Stains | None:
    """How much there is of stains of these colours; None if there is nothing of one."""
    each = tissue @ np.linalg.inv(Stains(colours, (1, 1)).fill_up())
    first, second = np.percentile(each[:, :2], 100 - EXTREME, axis=0)
    return Stains(colours, (float(first), float(second))) if min(first, second) > 0 else None


def _as_density(values: Reals) -> Density:
    red, green, blue = values.tolist()
    return red, green, blue


@dataclass(frozen=True)
class Restaining:
    """From the stains of an image to those of a reference. One for the whole image, or tiles would differ at seams.

    Amounts of the two stains are scaled to the reference's and get its colours; what is neither (pigment, ink) stays
    as much as it was, as a third direction at right angles (Ruifrok and Johnston 2001). An image that is stained like
    the reference stays as it is.
    """

    found: Stains
    reference: Stains

    def apply(self, pixels: Pixels) -> Pixels:
        """Any part (h, w, 3) of the image, as a new array.

        Sums of whole numbers: what becomes of a pixel never depends on which others it is computed with.
        """
        result = np.empty(pixels.shape, dtype=np.uint8)
        source, target = pixels.reshape(-1, 3), result.reshape(-1, 3)
        (red, green, blue), values = self._tables
        for first in range(0, len(source), _AT_ONCE):
            part = source[first : first + _AT_ONCE]
            sums = red.take(part[:, 0])
            sums += green.take(part[:, 1])
            sums += blue.take(part[:, 2])
            target[first : first + _AT_ONCE] = values.take(sums.view(np.uint16).reshape(-1, 4)[:, :3])
        return result

    def matrix(self) -> Reals:
        """From densities of the image (a row of 3) to those of its restained self: (3, 3)."""
        factors = np.diag([*self._factors(), 1.0])
        whole: Reals = np.linalg.inv(self.found.fill_up()) @ factors @ self.reference.fill_up()
        return whole

    def is_believable(self) -> bool:
        """Whether the stains are of about the same strength; if not, noise would be made a stain."""
        return all(1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR for factor in self._factors())

    def _factors(self) -> list[float]:
        return [there / here for here, there in zip(self.found.amounts, self.reference.amounts, strict=True)]

    @cached_property
    def _tables(self) -> tuple[NDArray[np.uint64], Pixels]:
        """What a value of red, green or blue adds to the densities (3, 256), and values by density (65536,).

        Four numbers of 16 bits in one of 64: the densities of red, green and blue, and one that is not used.
        """
        terms = _DENSITIES[None, :, None] * self.matrix()[:, None, :]  # (from, value, to)
        least = float(terms.min())
        step = 3 * (float(terms.max()) - least) / _STEPS
        packed = np.zeros((3, 256, 4), dtype=np.uint16)
        packed[:, :, :3] = np.rint((terms - least) / step)
        densities = np.arange(2**16) * step + 3 * least
        values = LAMP * np.exp(-np.maximum(densities, _DENSITIES[-1])) - 1
        return packed.view(np.uint64)[:, :, 0], np.rint(np.maximum(values, 0)).astype(np.uint8)


def find_restaining(pixels: Pixels, reference: Stains) -> Restaining | None:
    """From the stains of RGB pixels (h, w, 3) to the reference's; None where the image is to stay as it is."""
    found = find_stains(pixels)
    restaining = None if found is None else Restaining(found, reference)
    return restaining if restaining is not None and restaining.is_believable() else None
