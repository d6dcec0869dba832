"""Images that were never in a file, for tests of what looks at pixels."""

from collections.abc import Callable
from functools import cache

import numpy as np

from shared.imaging.drawing import Stain, draw_nuclei
from shared.imaging.tiling import Box, Pixels
from shared.slides import Slide
from shared.slides.slide import Level


class ArraySlide(Slide):
    """Pixels (H, W, 3) as an image whose file would decode `tile` (height, width) at once."""

    format = "array"

    def __init__(self, pixels: Pixels, *, tile: tuple[int, int] = (256, 256), mpp: float | None = None) -> None:
        self._pixels = pixels
        self.levels = (Level(pixels.shape[0], pixels.shape[1], tile),)
        self.mpp = mpp

    def _read(self, box: Box, level: int) -> Pixels:
        return self._pixels[box.slices()]


class PaintedSlide(Slide):
    """An image of any size whose pixels are painted when they are asked for; `painted` counts them."""

    format = "painted"

    def __init__(self, height: int, width: int, paint: Callable[[Box], Pixels]) -> None:
        self.levels = (Level(height, width, (256, 256)), Level(height // 64, width // 64, (256, 256)))
        self.painted = 0
        self._paint = paint

    def _read(self, box: Box, level: int) -> Pixels:
        self.painted += box.height * box.width
        return self._paint(box)


@cache
def drawn(seed: int, *, side: int = 256, stain: Stain = "fluorescence") -> Pixels:
    return draw_nuclei(side, side, seed=seed, stain=stain)[0]


def flat(level: int, *, height: int = 64, width: int = 64) -> Pixels:
    return np.full((height, width, 3), level, dtype=np.uint8)
