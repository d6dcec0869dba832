"""An image that was just made, as one that was read from a file."""

from shared.imaging.normalisation import to_rgb
from shared.imaging.tiling import Box, Pixels
from shared.slides.slide import GREY, RGB, Level, Slide


class HeldSlide(Slide):
    """Pixels (H, W, 1 or 3), uint8, that are in memory; nobody may change them meanwhile.

    `format`: of the file that they are written to; `mpp`: µm per pixel.
    """

    outlives_file = True

    def __init__(self, pixels: Pixels, *, format: str, mpp: float | None = None) -> None:  # noqa: A002  # as Slide does
        height, width, channels = pixels.shape
        self.format, self.mpp = format, mpp
        self.channels = GREY if channels == 1 else RGB
        self.levels = (Level(height, width, (1, width)),)
        self._pixels = pixels

    def _read(self, box: Box, level: int) -> Pixels:  # noqa: ARG002  # there is one level only
        return to_rgb(self._pixels[box.slices()]).copy()
