"""New values for old, each channel for itself: what spreads the values of a dim or faded image over their range."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Pixels

COUNT = 256  # of values

Histogram = NDArray[np.int64]  # (C, 256): how often each value occurs in each channel


def count_values(parts: Iterable[Pixels]) -> Histogram:
    """The histogram of an image that comes in parts (h, w, C), without holding it.

    Raises:
        ValueError: no part, or none with a pixel.
    """
    histogram = sum(_count(part) for part in parts)
    if isinstance(histogram, int) or not histogram.any():
        raise ValueError("an image without pixels has no histogram")
    return histogram


@dataclass(frozen=True)
class Levels:
    """A table of new values. One for the whole image, or tiles would differ at their seams."""

    table: Pixels  # (C, 256)

    @classmethod
    def equalising(cls, histogram: Histogram) -> Self:
        """Histogram equalisation. A channel of a single value stays as it is.

        Gonzalez and Woods, Digital Image Processing, section 3.3: value v becomes 255 times the share of the image's
        pixels that are no brighter than v, rounded.
        """
        cumulative = histogram.cumsum(axis=1)
        table = np.rint(cumulative * ((COUNT - 1) / cumulative[:, -1:]))
        return cls(_keep_constant(table.astype(np.uint8), histogram))

    @classmethod
    def stretching(cls, histogram: Histogram, low: float, high: float) -> Self:
        """What lies at two percentiles (0 ≤ low < high ≤ 100) becomes 0 and 255, the rest linear, clipped and rounded.

        Where the two percentiles are one value, what differs from it is too rare for them but may be what is looked
        for: then the channel's smallest and largest values become 0 and 255. A channel of a single value stays as it
        is.
        """
        bounds = np.array([_find_bounds(channel, low, high) for channel in histogram])
        lowest, width = bounds[:, :1], np.diff(bounds, axis=1)
        share = (np.arange(COUNT) - lowest) / np.where(width == 0, 1, width)
        table = np.rint(np.clip(share, 0, 1) * (COUNT - 1))
        return cls(_keep_constant(table.astype(np.uint8), histogram))

    @classmethod
    def standardising(cls, histogram: Histogram, deviations: float) -> Self:
        """The mean minus and plus so many standard deviations become 0 and 255, the rest linear, clipped and rounded.

        z-scores as bytes: of z, 127.5 · (1 + z / deviations). A channel of a single value stays as it is.
        """
        values, counts = np.arange(COUNT), histogram.sum(axis=1, keepdims=True)
        mean = (histogram * values).sum(axis=1, keepdims=True) / counts
        variance = (histogram * (values - mean) ** 2).sum(axis=1, keepdims=True) / counts
        width = deviations * np.sqrt(np.where(variance == 0, 1, variance))
        table = np.rint(np.clip((values - mean) / width + 1, 0, 2) * ((COUNT - 1) / 2))
        return cls(_keep_constant(table.astype(np.uint8), histogram))

    def apply(self, pixels: Pixels) -> Pixels:
        """Any part (h, w, C) of the image with its new values, as a new array."""
        result = np.empty_like(pixels, order="C")
        for channel, values in enumerate(self.table):
            result[..., channel] = values[pixels[..., channel]]
        return result


def find_percentile(histogram: Histogram, percent: float) -> float:
    """The percentile of a channel (256,), exact: between two of the sorted values, in proportion.

    Hyndman and Fan 1996, definition 7; what numpy calls linear.
    """
    cumulative = histogram.cumsum()
    place = percent / 100 * (int(cumulative[-1]) - 1)
    below = int(place)
    value, following = np.searchsorted(cumulative, [below, min(below + 1, int(cumulative[-1]) - 1)], side="right")
    return float(value + (following - value) * (place - below))


def _find_bounds(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    bounds = find_percentile(histogram, low), find_percentile(histogram, high)
    if bounds[0] < bounds[1]:
        return bounds
    smallest, largest = np.flatnonzero(histogram)[[0, -1]]
    return float(smallest), float(largest)


def _keep_constant(table: Pixels, histogram: Histogram) -> Pixels:
    table[np.count_nonzero(histogram, axis=1) == 1] = np.arange(COUNT)
    return table


def _count(pixels: Pixels) -> Histogram:
    counts = [np.bincount(pixels[..., channel].ravel(), minlength=COUNT) for channel in range(pixels.shape[2])]
    return np.stack(counts).astype(np.int64)
