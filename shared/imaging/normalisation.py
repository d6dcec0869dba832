"""From what microscopes write to what networks take: uint8, grey or RGB, by one rule for the whole image."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Pixels

Samples = NDArray[np.generic]
CLIPPED = 0.001  # share of the samples that a window leaves out at each end: hot and dead pixels


@dataclass(frozen=True)
class Window:
    """The intensities that become 0 and 255. One for the whole image, or tiles would differ at their seams."""

    low: float
    high: float

    def apply(self, samples: Samples) -> Pixels:
        """Samples of any shape and number type → uint8, linear between `low` and `high`, clipped outside."""
        span = max(self.high - self.low, np.finfo(np.float64).tiny)
        scaled = (np.nan_to_num(samples.astype(np.float64), nan=self.low) - self.low) * (255.0 / span)
        return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def find_window(parts: Iterable[Samples]) -> Window:
    """The window of an image that comes in parts (all of one number type), without holding it.

    uint16: the 0.1 % and 99.9 % quantiles, exact, from a histogram. Other types: smallest and largest finite value.
    """
    histogram = np.zeros(2**16, dtype=np.int64)
    low, high = np.inf, -np.inf
    for part in parts:
        if part.dtype == np.uint16:
            histogram += np.bincount(part.ravel(), minlength=2**16)
        finite = part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if histogram.any():
        return _quantile_window(histogram)
    return Window(low, high) if low <= high else Window(0.0, 1.0)


def _quantile_window(histogram: NDArray[np.int64]) -> Window:
    cumulative = histogram.cumsum()
    total = cumulative[-1]
    low = int(np.searchsorted(cumulative, CLIPPED * total, side="right"))
    high = int(np.searchsorted(cumulative, (1 - CLIPPED) * total, side="left"))
    return Window(float(low), float(max(high, low)))


def to_rgb(pixels: Pixels) -> Pixels:
    """uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) → (H, W, 3). Grey is repeated, alpha is laid on white."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    channels = pixels.shape[2]
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    if channels == 3:
        return pixels
    if channels == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        return ((pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    raise ValueError(f"{channels} channels are neither grey, RGB nor RGBA")


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """RGB (H, W, 3) → what a network with `channels` inputs takes: itself, or the mean as (H, W, 1)."""
    if channels == 3:
        return pixels
    if channels == 1:
        total = pixels.sum(axis=2, keepdims=True, dtype=np.uint16)
        mean: Pixels = ((total + 1) // 3).astype(np.uint8)
        return mean
    raise ValueError(f"networks take 1 or 3 channels, not {channels}")
