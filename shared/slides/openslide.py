"""Slides of the scanner vendors, through OpenSlide."""

from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlideError

from shared.errors import Rejected
from shared.imaging.normalisation import to_rgb
from shared.imaging.tiling import Box, Pixels
from shared.slides.slide import Limits, Slide


def find_vendor(path: Path, name: str) -> str | None:
    """OpenSlide's name for the file's format, None if it knows none. Raises Rejected for a damaged slide."""
    try:
        return openslide.OpenSlide.detect_format(path)
    except OpenSlideError as error:
        raise _damaged(name, error) from error


class OpenSlideSlide(Slide):
    """A slide, read region by region."""

    def __init__(self, path: Path, *, name: str, vendor: str, limits: Limits) -> None:
        self.format = vendor
        self._name = name
        try:
            self._slide = openslide.OpenSlide(path)
        except OpenSlideError as error:
            raise _damaged(name, error) from error
        self.width, self.height = self._slide.dimensions
        limits.check(name, height=self.height, width=self.width)
        mpp = self._slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
        self.mpp = float(mpp) if mpp else None

    def read(self, box: Box) -> Pixels:
        try:
            return to_rgb(np.asarray(self._slide.read_region((box.left, box.top), 0, (box.width, box.height))))
        except OpenSlideError as error:
            raise _damaged(self._name, error) from error

    def overview(self, side: int) -> Pixels:
        try:
            return np.asarray(self._slide.get_thumbnail((side, side)).convert("RGB"))
        except OpenSlideError as error:
            raise _damaged(self._name, error) from error

    def close(self) -> None:
        self._slide.close()


def _damaged(name: str, error: Exception) -> Rejected:
    return Rejected(
        f"{name}: the slide is damaged or cut off ({error}); copy it again from the scanner and compare sizes"
    )
