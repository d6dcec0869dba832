"""PNG and JPEG: decoded whole, once."""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window, find_window, to_rgb
from shared.imaging.tiling import Box, Pixels
from shared.slides.slide import Limits, Slide

DEEP_MODES = {"I;16", "I;16B", "I;16L", "I", "F"}
BYTES_PER_PIXEL = 4


class RasterSlide(Slide):
    """An image that can only be decoded as a whole; it is held in memory, as uint8 RGB."""

    def __init__(self, path: Path, *, name: str, window: Window | None, limits: Limits) -> None:
        try:
            with warnings.catch_warnings():
                # Pillow's own limit would speak first, and not to our user; the check below takes its place.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path, formats=("PNG", "JPEG")) as image:
                    self._check(image, name, limits)
                    self.format = str(image.format).lower()
                    self._pixels, self.window = _decode(image, window)
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # all of these come from damaged files
            raise Rejected(
                f"{name}: damaged or cut off ({error}); export it again and check it opens in a viewer"
            ) from error
        except Image.DecompressionBombError as error:
            raise Rejected(f"{name}: {error}") from error
        self.height, self.width = self._pixels.shape[:2]

    def _check(self, image: Image.Image, name: str, limits: Limits) -> None:
        limits.check(name, height=image.height, width=image.width)
        limits.check_decoded(
            name,
            size=image.width * image.height * BYTES_PER_PIXEL,
            mend="save it as a tiled TIFF, which is read in parts",
        )

    def read(self, box: Box) -> Pixels:
        return self._pixels[box.slices()]

    def overview(self, side: int) -> Pixels:
        factor = math.ceil(max(self.height, self.width) / side)
        return _shrink(self._pixels, factor)


def _decode(image: Image.Image, window: Window | None) -> tuple[Pixels, Window | None]:
    if image.mode in DEEP_MODES:
        samples: Samples = np.asarray(image)
        if samples.dtype != np.float32:  # Pillow widens 16 bits to 32 in some modes
            samples = samples.astype(np.uint16) if samples.min() >= 0 and samples.max() < 2**16 else samples
        window = window or find_window([samples])
        return to_rgb(window.apply(samples)), window
    mode = "RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB"
    return to_rgb(np.asarray(image.convert(mode))), None


def _shrink(pixels: Pixels, factor: int) -> Pixels:
    if factor == 1:
        return pixels
    return np.asarray(Image.fromarray(pixels).reduce(factor))
