"""Slides of the scanner vendors, through OpenSlide."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlideError

from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels
from shared.slides import openslide_guards
from shared.slides.slide import Level, Limits, Slide, believable_mpp
from shared.slides.tiff import DAMAGED_HEADER, find_cause

HEX_COLOUR = re.compile(r"[0-9A-Fa-f]{6}")
TILE = 512  # px; for formats that do not tell the size of their tiles
PIECE = 1024  # px, each side
BYTES_PER_PIXEL = 4  # OpenSlide decodes to ARGB
WHITE = (255, 255, 255)  # behind what was not scanned, where the slide names no colour


def find_vendor(path: Path, name: str) -> str | None:
    """OpenSlide's name for the file's format, None if it knows none. Raises Rejected for a damaged slide."""
    try:
        return openslide.OpenSlide.detect_format(path)
    except OpenSlideError as error:
        raise _damaged(path, name, error) from error


class OpenSlideSlide(Slide):
    """A slide, read region by region. Surroundings that were not scanned belong to it, as in other programs."""

    def __init__(self, path: Path, *, name: str, vendor: str, limits: Limits) -> None:
        self.format, self._path, self._name = vendor, path, name
        with ExitStack() as opened:
            try:
                openslide_guards.check(path, vendor)
                self._slide = opened.enter_context(openslide.OpenSlide(path))
                self._open(limits)
            except (OpenSlideError, *DAMAGED_HEADER) as error:
                raise _damaged(path, name, error) from error
            self._opened = opened.pop_all()

    def _open(self, limits: Limits) -> None:
        properties = dict(self._slide.properties)
        self.levels = tuple(
            Level(height, width, _find_tile(properties, index))
            for index, (width, height) in enumerate(self._slide.level_dimensions)
        )
        limits.check(self._name, height=self.height, width=self.width)
        largest = max(level.tile[0] * level.tile[1] for level in self.levels)
        limits.check_decoded(self._name, size=largest * BYTES_PER_PIXEL, mend="export it with smaller tiles")
        self._downsamples = self._slide.level_downsamples
        self.mpp = believable_mpp(float(properties.get(openslide.PROPERTY_NAME_MPP_X, 0)))
        self._background = _find_background(properties)

    def _read(self, box: Box, level: int) -> Pixels:
        if float(self._downsamples[level]).is_integer():
            return self._read_region(box, level)
        # A corner between pixels of the full resolution is rounded, and the region shifted by a part of its own pixel.
        # Read by fixed pieces, so that the same pixel looks the same whatever is read around it.
        pixels = np.empty((box.height, box.width, 3), dtype=np.uint8)
        for piece in self._pieces(box, self.levels[level]):
            common = piece.intersect(box)
            part = self._read_region(piece, level)[common.move(-piece.top, -piece.left).slices()]
            pixels[common.move(-box.top, -box.left).slices()] = part
        return pixels

    def _pieces(self, box: Box, level: Level) -> Iterator[Box]:
        """The pieces of a level that have something in common with a box."""
        for top in range(box.top - box.top % PIECE, box.bottom, PIECE):
            for left in range(box.left - box.left % PIECE, box.right, PIECE):
                yield Box(top, left, min(top + PIECE, level.height), min(left + PIECE, level.width))

    def _read_region(self, box: Box, level: int) -> Pixels:
        scale = self._downsamples[level]  # OpenSlide takes the corner in pixels of the full resolution
        corner = round(box.left * scale), round(box.top * scale)
        try:
            region = np.asarray(self._slide.read_region(corner, level, (box.width, box.height)))
        except OpenSlideError as error:
            raise _damaged(self._path, self._name, error) from error
        return _lay_on(region, self._background)

    def close(self) -> None:
        self._opened.close()  # once; OpenSlide itself does not bear a second time


def _find_background(properties: dict[str, str]) -> Pixels:
    """The colour (3,) that the slide shows where nothing was scanned."""
    named = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
    colour = bytes.fromhex(named) if HEX_COLOUR.fullmatch(named) else bytes(WHITE)
    return np.frombuffer(colour, np.uint8)


def _lay_on(pixels: Pixels, background: Pixels) -> Pixels:
    """RGBA (H, W, 4) on a background → RGB."""
    colours, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    if alpha.min() == 255:
        return colours
    share = alpha.astype(np.uint16)
    return ((colours * share + background.astype(np.uint16) * (255 - share) + 127) // 255).astype(np.uint8)


def _find_tile(properties: dict[str, str], level: int) -> tuple[int, int]:
    tile = f"openslide.level[{level}].tile-"
    return int(properties.get(tile + "height", TILE)), int(properties.get(tile + "width", TILE))


def _damaged(path: Path, name: str, error: Exception) -> Rejected:
    cause = find_cause(error).replace(str(path), name)  # the user knows the file by its name only
    return Rejected(
        f"{name}: the slide cannot be read ({cause}): it is cut off, damaged or one file of several; copy it again "
        "from the scanner and compare sizes, or export it as a tiled TIFF"
    )
