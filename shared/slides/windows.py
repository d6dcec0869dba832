"""The intensities that become 0 and 255: one pair for the whole image, or one for each of its channels."""

from typing import Any

import numpy as np

from shared.imaging.normalisation import Samples, Window
from shared.imaging.tiling import Pixels

Windows = Window | tuple[Window, ...]
Stored = tuple[float, float] | tuple[tuple[float, float], ...]


def store(windows: Windows | None) -> Stored | None:
    """As it is kept in JSON: a pair, or a pair for each channel."""
    if windows is None:
        return None
    if isinstance(windows, Window):
        return windows.low, windows.high
    return tuple((window.low, window.high) for window in windows)


def restore(stored: Any) -> Windows | None:
    """From what `store` gave, after JSON made lists of it."""
    if not stored:
        return None
    if isinstance(stored[0], (int, float)):
        return Window(*stored)
    return tuple(Window(*pair) for pair in stored)


def apply_windows(samples: Samples, windows: Windows | None) -> Pixels:
    """Samples (H, W, C or fewer) → uint8: all channels by one window, or each by its own.

    Without a window they are uint8 already, and the answer is `samples`.
    """
    if windows is None:
        return samples.astype(np.uint8, copy=False)
    if isinstance(windows, Window):
        return windows.apply(samples)
    pixels = np.empty(samples.shape, dtype=np.uint8)
    for channel in range(samples.shape[2]):
        pixels[:, :, channel] = windows[channel].apply(samples[:, :, channel])
    return pixels
