"""From what microscopes write to what networks take: uint8, grey or RGB, by one rule for the whole image."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Pixels

Samples = NDArray[Any]
CLIPPED = 0.001  # share of the samples that a window leaves out at each end: hot and dead pixels
LARGEST = 1e38  # beyond is no intensity: infinity, "no data" markers, damage
TABLED = (np.uint8, np.uint16)  # so few values that a table is faster than arithmetic, and takes an eighth of memory


@dataclass(frozen=True)
class Window:
    """The intensities that become 0 and 255. One for the whole image, or tiles would differ at their seams."""

    low: float
    high: float

    def apply(self, samples: Samples) -> Pixels:
        """Samples of any shape and real number type → uint8, linear between `low` and `high`, clipped outside.

        Not-a-number becomes 0, and so does everything where `low` and `high` are one.
        """
        if samples.dtype in TABLED:
            table: Pixels = self._scale(np.arange(np.iinfo(samples.dtype).max + 1))
            return table[samples]
        return self._scale(samples)

    def _scale(self, samples: Samples) -> Pixels:
        scaled = samples.astype(np.float64)
        np.nan_to_num(scaled, copy=False, nan=self.low)
        np.clip(scaled, self.low, self.high, out=scaled)
        scaled -= self.low
        scaled /= (self.high - self.low) or 1.0
        scaled *= 255.0
        return np.rint(scaled, out=scaled).astype(np.uint8)


def find_window(parts: Iterable[Samples]) -> Window:
    """The window of an image that comes in parts (all of one number type), without holding it.

    uint16: the 0.1 % and 99.9 % quantiles, exact, from a histogram. Other types: smallest and largest finite value.
    """
    search = _WindowSearch()
    for part in parts:
        search.add(part)
    return search.window()


def find_windows(parts: Iterable[Samples]) -> tuple[Window, ...]:
    """A window for each channel of an image that comes in parts (H, W, C), found as `find_window` does, in one pass."""
    searches: list[_WindowSearch] = []
    for part in parts:
        searches = searches or [_WindowSearch() for _ in range(part.shape[2])]
        for channel, search in enumerate(searches):
            search.add(part[:, :, channel])
    return tuple(search.window() for search in searches)


class _WindowSearch:
    """What was seen of an image so far."""

    def __init__(self) -> None:
        self._histogram: NDArray[np.int64] | None = None  # of uint16
        self._low, self._high = np.inf, -np.inf  # of other types

    def add(self, part: Samples) -> None:
        if part.dtype == np.uint16:
            counts = np.bincount(part.ravel(), minlength=2**16)
            self._histogram = counts if self._histogram is None else self._histogram + counts
            return
        with np.errstate(over="ignore"):  # float16 cannot hold the largest; infinity does as well
            believed = part[np.abs(part) < LARGEST]
        if believed.size:
            self._low = min(self._low, float(believed.min()))
            self._high = max(self._high, float(believed.max()))

    def window(self) -> Window:
        if self._histogram is not None and self._histogram.any():
            return _quantile_window(self._histogram)
        return Window(self._low, self._high) if self._low <= self._high else Window(0.0, 1.0)


def _quantile_window(histogram: NDArray[np.int64]) -> Window:
    cumulative = histogram.cumsum()
    total = cumulative[-1]
    low = int(np.searchsorted(cumulative, CLIPPED * total, side="right"))
    high = int(np.searchsorted(cumulative, (1 - CLIPPED) * total, side="left"))
    if high <= low:  # what differs from the background is too rare for quantiles, but it may be what is looked for
        low, high = (int(value) for value in np.flatnonzero(histogram)[[0, -1]])
    return Window(float(low), float(high))


def colours_of(samples: Samples) -> Samples:
    """Samples (H, W, 1 … 4) without alpha, the last of two or four channels."""
    return samples[:, :, : samples.shape[2] - _has_alpha(samples)]


def to_uint8(samples: Samples, window: Window | None) -> Pixels:
    """Samples (H, W, 1 … 4) → uint8: colours by the window, alpha by the range of its number type.

    Without a window they are uint8 already.
    """
    if window is None:
        return samples.astype(np.uint8, copy=False)
    pixels = window.apply(samples)
    if _has_alpha(samples):
        opaque = np.iinfo(samples.dtype).max if samples.dtype.kind in "ui" else 1.0
        pixels[:, :, -1] = Window(0.0, float(opaque)).apply(samples[:, :, -1])
    return pixels


def to_rgb(pixels: Pixels) -> Pixels:
    """uint8 (H, W) or (H, W, 1 … 4) → (H, W, 3), perhaps a view. Grey is repeated, alpha is laid on white."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if not 1 <= pixels.shape[2] <= 4:
        raise ValueError(f"{pixels.shape[2]} channels are neither grey nor RGB, with or without alpha")
    colours = colours_of(pixels)
    if _has_alpha(pixels) and pixels[:, :, -1].min() < 255:
        alpha = pixels[:, :, -1:].astype(np.uint16)
        colours = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return colours if colours.shape[2] == 3 else np.repeat(colours, 3, axis=2)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """RGB (H, W, 3) → what a network with `channels` inputs takes: itself, or the mean as (H, W, 1)."""
    if channels == 3:
        return pixels
    if channels == 1:
        total = pixels.sum(axis=2, keepdims=True, dtype=np.uint16)
        mean: Pixels = ((total + 1) // 3).astype(np.uint8)
        return mean
    raise ValueError(f"networks take 1 or 3 channels, not {channels}")


def _has_alpha(samples: Samples) -> bool:
    return samples.shape[2] in (2, 4)
