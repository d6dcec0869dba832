"""Histogram equalisation of a whole image, also of one that comes in parts: what is dark or flat becomes visible."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shared.imaging.tiling import Pixels

LEVELS = 256


@dataclass(frozen=True)
class Equalisation:
    """New values for old, each channel for itself. One for the whole image, or tiles would differ at their seams."""

    table: Pixels  # (C, 256)

    @classmethod
    def of(cls, parts: Iterable[Pixels]) -> "Equalisation":
        """The equalisation of an image that comes in parts (h, w, C), without holding it.

        Gonzalez and Woods, Digital Image Processing, section 3.3: value v becomes 255 times the share of the image's
        pixels that are no brighter than v, rounded. A channel of a single value stays as it is.

        Raises:
            ValueError: no part, or none with a pixel.
        """
        histogram = sum(_count_levels(part) for part in parts)
        if isinstance(histogram, int) or not histogram.any():
            raise ValueError("an image without pixels has no histogram")
        cumulative = histogram.cumsum(axis=1)
        table = np.rint(cumulative * ((LEVELS - 1) / cumulative[:, -1:])).astype(np.uint8)
        constant = np.count_nonzero(histogram, axis=1) == 1
        table[constant] = np.arange(LEVELS)
        return cls(table)

    def apply(self, pixels: Pixels) -> Pixels:
        """Any part (h, w, C) of the image, equalised, as a new array."""
        result = np.empty_like(pixels, order="C")
        for channel, values in enumerate(self.table):
            result[..., channel] = values[pixels[..., channel]]
        return result


def _count_levels(pixels: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """How often each value occurs in each channel of (h, w, C): (C, 256)."""
    counts = [np.bincount(pixels[..., channel].ravel(), minlength=LEVELS) for channel in range(pixels.shape[2])]
    return np.stack(counts).astype(np.int64)
