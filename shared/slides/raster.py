"""PNG and JPEG: decoded whole, once."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window, colours_of, find_window, to_rgb, to_uint8
from shared.imaging.tiling import Box, Pixels
from shared.slides.announcing import check_scans
from shared.slides.orientation import UPRIGHT, Orientation
from shared.slides.png import PNG, decode_png
from shared.slides.slide import GREY, RGB, Level, Limits, Slide, reraise_if_passing
from shared.slides.windows import Windows

JPEG = b"\xff\xd8\xff"
IHDR = struct.Struct(">8x 4x 4s II B")  # a PNG's first chunk: its name, width, height, bits per sample
RGB_BYTES = 3  # per pixel, of what is shown
PILLOWS = 4 + 6  # bytes per pixel that Pillow decodes to, and that libjpeg needs for progressive ones meanwhile
CHANNELS = 4  # libpng turns palettes into colours and transparent ones into alpha: four channels at most
ORIENTATION = 0x0112  # EXIF's tag
PIXELS_PER_BYTE = 512  # at most in a JPEG: a bit for a block of 8 × 8 px
# What damaged files raise: libpng (through imagecodecs); Pillow's parser and decoder of JPEGs.
DAMAGE = (imagecodecs.PngError, OSError, SyntaxError, ValueError, struct.error)


class RasterSlide(Slide):
    """An image that can only be decoded as a whole; it is held in memory: a JPEG as RGB, a PNG's samples as they are.

    A JPEG is shown the way up that its EXIF says, as viewers do; a PNG as it is stored.
    """

    outlives_file = True
    window: Window | None

    def __init__(self, path: Path, *, name: str, window: Windows | None, limits: Limits) -> None:
        with path.open("rb") as file:
            head = file.read(IHDR.size)
        self.format = "png" if head.startswith(PNG) else "jpeg"
        try:
            if self.format == "png":
                self._samples = self._decode_png(path, head, name, limits)
            else:
                self._samples = self._decode_jpeg(path, name, limits)
        except DAMAGE as error:
            reraise_if_passing(error)
            raise Rejected(
                f"{name}: the {self.format.upper()} is damaged or cut off ({error}); export it again and check that "
                "it opens in a viewer"
            ) from error
        height, width = self._samples.shape[:2]
        self.levels = (Level(height, width, (1, width)),)
        self.window = self._choose_window(window)

    def _choose_window(self, given: Windows | None) -> Window | None:
        """For 16 bits, by the same rule as of TIFFs; None where the samples are shown as they are."""
        if self._samples.dtype == np.uint8:
            return None
        if isinstance(given, Window):
            return given
        return find_window(colours_of(self._samples[piece.slices()]) for piece in self.levels[0].pieces())

    def _read(self, box: Box, level: int) -> Pixels:  # noqa: ARG002  # there is one level only
        pixels = np.empty((box.height, box.width, RGB_BYTES), dtype=np.uint8)
        for piece in Level(box.height, box.width, (1, box.width)).pieces():  # windows and alpha take far more meanwhile
            part = self._samples[piece.move(box.top, box.left).slices()]
            pixels[piece.slices()] = to_rgb(to_uint8(part, self.window))
        return pixels

    def _read_samples(self, box: Box) -> Samples:
        return self._samples[box.slices()][:, :, : len(self.channels)].copy()

    def _decode_png(self, path: Path, head: bytes, name: str, limits: Limits) -> Samples:
        """Samples (H, W, 1 … 4) by libpng, which refuses what Pillow would fill up with black."""
        chunk, width, height, depth = IHDR.unpack(head)
        if chunk != b"IHDR":
            raise ValueError("its header is missing")
        _check(name, limits, height=height, width=width, peak=CHANNELS * max(depth // 8, 1) + RGB_BYTES)
        samples = decode_png(path.read_bytes()).reshape(height, width, -1)
        self.channels, self.dtype = RGB if samples.shape[2] > 2 else GREY, str(samples.dtype)
        return samples

    def _decode_jpeg(self, path: Path, name: str, limits: Limits) -> Pixels:
        """RGB by Pillow, which turns CMYK into it."""
        with JpegImageFile(path) as image:  # not Image.open: its limit on pixels would speak first, and not to our user
            level = _check(name, limits, height=image.height, width=image.width, peak=PILLOWS)
            _check_content(path.read_bytes(), level)
            self.channels = GREY if image.mode == "L" else RGB
            upright = _find_orientation(image)
            image.load()
            pixels = np.empty((level.height, level.width, RGB_BYTES), dtype=np.uint8)
            for piece in level.pieces():  # in strips, so that the whole is never held in a third form
                part = image.crop((piece.left, piece.top, piece.right, piece.bottom))
                pixels[piece.slices()] = np.asarray(part.convert("RGB"))
        return np.ascontiguousarray(upright.turn(pixels))


def _check(name: str, limits: Limits, *, height: int, width: int, peak: int) -> Level:
    """The image as one level, if its size is taken. `peak`: bytes per pixel while it is decoded."""
    limits.check(name, height=height, width=width)
    limits.check_decoded(name, size=width * height * peak, mend="save it as a tiled TIFF, which is read in parts")
    return Level(height, width, (1, width))


def _find_orientation(image: JpegImageFile) -> Orientation:
    """Upright where EXIF does not say, or not readably."""
    try:
        return Orientation.of(int(image.getexif().get(ORIENTATION, 1)))
    except (*DAMAGE, TypeError):
        return UPRIGHT


def _check_content(content: bytes, level: Level) -> None:
    """Raise ValueError for a JPEG that libjpeg would fill up with grey, or be busy with for hours."""
    if level.height * level.width > len(content) * PIXELS_PER_BYTE:
        raise ValueError(f"{len(content)} bytes cannot hold {level.width} × {level.height} px")
    check_scans(content)
