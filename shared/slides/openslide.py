"""Slides of the scanner vendors, through OpenSlide."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlideError

from shared.errors import Rejected
from shared.imaging.normalisation import to_rgb
from shared.imaging.tiling import Box, Pixels
from shared.slides.planes import check_segments, open_tiff
from shared.slides.slide import Level, Limits, Slide, believable_mpp
from shared.slides.tiff import DAMAGED_HEADER, find_cause

TILE = 512  # px; for formats that do not tell the size of their tiles
BYTES_PER_PIXEL = 4  # OpenSlide decodes to ARGB
# Vendors whose TIFFs OpenSlide reads tile by tile: as many bytes as the header says, and it aborts the process where
# there is no memory for them.
TILED_TIFFS = {"aperio", "huron", "leica", "philips", "trestle", "ventana"}


def find_vendor(path: Path, name: str) -> str | None:
    """OpenSlide's name for the file's format, None if it knows none. Raises Rejected for a damaged slide."""
    try:
        return openslide.OpenSlide.detect_format(path)
    except OpenSlideError as error:
        raise _damaged(path, name, error) from error


class OpenSlideSlide(Slide):
    """A slide, read region by region."""

    def __init__(self, path: Path, *, name: str, vendor: str, limits: Limits) -> None:
        self.format, self._path, self._name = vendor, path, name
        with ExitStack() as opened:
            try:
                if vendor in TILED_TIFFS:
                    _check_tiff(path)
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

    def _read(self, box: Box, level: int) -> Pixels:
        scale = self._downsamples[level]  # OpenSlide takes the corner in pixels of the full resolution
        corner = round(box.left * scale), round(box.top * scale)
        try:
            return to_rgb(np.asarray(self._slide.read_region(corner, level, (box.width, box.height))))
        except OpenSlideError as error:
            raise _damaged(self._path, self._name, error) from error

    def close(self) -> None:
        self._opened.close()  # once; OpenSlide itself does not bear a second time


def _check_tiff(path: Path) -> None:
    """Raise one of DAMAGED_HEADER if a tile or strip of any page leaves the file."""
    with open_tiff(path) as file:
        for page in file.pages:
            check_segments(file, page)


def _find_tile(properties: dict[str, str], level: int) -> tuple[int, int]:
    tile = f"openslide.level[{level}].tile-"
    return int(properties.get(tile + "height", TILE)), int(properties.get(tile + "width", TILE))


def _damaged(path: Path, name: str, error: Exception) -> Rejected:
    cause = find_cause(error).replace(str(path), name)  # the user knows the file by its name only
    return Rejected(
        f"{name}: the slide cannot be read ({cause}): it is cut off, damaged or one file of several; copy it again "
        "from the scanner and compare sizes, or export it as a tiled TIFF"
    )
