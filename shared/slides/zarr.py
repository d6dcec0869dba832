"""OME-Zarr: a folder of chunks, or such a folder in a ZIP archive; only the chunks of a region are decoded."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window, find_window
from shared.imaging.tiling import Box, Pixels
from shared.slides import inflating
from shared.slides.slide import GREY, RGB, Level, Limits, Slide, reraise_if_passing
from shared.slides.windows import Windows, apply_windows
from shared.slides.zarr_files import FolderFiles, ZarrFiles, ZipFiles
from shared.slides.zarr_images import Unsuited, read_image

ZIP = b"PK\3\4"
ROOT = ("zarr.json", ".zattrs", ".zgroup", ".zarray")  # one of them lies at the top of a Zarr
# What damaged ones raise, beside what decompression does.
DAMAGE = (*inflating.DAMAGE, zipfile.BadZipFile, ArithmeticError, MemoryError)
WINDOWING = 8  # bytes per sample that it takes to find and to apply a window
SPARSE = 1000  # chunks of full resolution for one that is stored: less is no image, and would take hours to look at
ALWAYS = 2**28  # px that are looked at however little is stored


class ZarrSlide(Slide):
    """The image of an OME-Zarr, one plane of any number of channels. Chunks that are left out show the fill value."""

    format = "ome-zarr"

    def __init__(self, path: Path, *, name: str, window: Windows | None, limits: Limits) -> None:
        self._name = name
        with ExitStack() as opened:
            try:
                self._files: ZarrFiles = FolderFiles(path) if path.is_dir() else ZipFiles(path)
                opened.callback(self._files.close)
                self._image = read_image(self._files)
                self._check(limits)
                self._describe()
                self.window = window or self._find_windows()
            except DAMAGE as error:
                raise _damaged(name, error) from error
            opened.pop_all()

    def _check(self, limits: Limits) -> None:
        """Raise Rejected for what is too large, or announces what is not there."""
        image, number = self._image, self._image.number
        height, width, channels = image.length("y"), image.length("x"), image.length("c")
        limits.check(self._name, height=height, width=width)
        limits.check_channels(self._name, channels)
        per_sample = number.itemsize + (0 if number == np.uint8 else WINDOWING)
        largest = max(math.prod(level.about.chunk) for level in image.levels) * per_sample
        limits.check_decoded(self._name, size=largest, mend="save it with smaller chunks")
        about = image.levels[0].about
        needed = height * width // math.prod(image.tile(0)) // SPARSE
        if about.shard is None and height * width > ALWAYS and self._files.count(image.folder, needed) < needed:
            raise Rejected(f"{self._name}: nearly all chunks of {width} × {height} px are missing; send all its files")

    def _describe(self) -> None:
        image = self._image
        self.levels = tuple(
            Level(image.length("y", index), image.length("x", index), image.tile(index))
            for index in range(len(image.levels))
        )
        self.mpp, self.dtype = image.mpp, str(image.number)
        count = image.length("c")
        numbered = tuple(f"channel {number}" for number in range(1, count + 1))
        self.channels = image.names or {1: GREY, 3: RGB}.get(count, numbered)

    def _find_windows(self) -> Windows | None:
        """One for grey and for colours; for stains one each, as the file displays them or as their samples suggest."""
        image = self._image
        if image.number == np.uint8:
            return None
        if image.number == np.bool_:
            return Window(0.0, 1.0)
        told = image.windows or (None,) * len(self.channels)
        if len(self.channels) == 1:
            return told[0] or find_window(self._parts(0, 1))
        if self.channels == RGB and not any(told):
            return find_window(self._parts(0, len(RGB)))
        return tuple(window or find_window(self._parts(index, index + 1)) for index, window in enumerate(told))

    def _parts(self, first: int, end: int) -> Iterator[Samples]:
        return (self._image.read(piece, 0, (first, end)) for piece in self.levels[0].pieces())

    def _read(self, box: Box, level: int) -> Pixels:
        shown = min(len(self.channels), len(RGB))
        pixels = apply_windows(self._samples(box, level, shown), self.window)
        if shown == 1:
            return pixels.repeat(len(RGB), axis=2)
        return np.pad(pixels, ((0, 0), (0, 0), (0, len(RGB) - shown)))

    def _read_channels(self, box: Box, level: int) -> Pixels:
        return apply_windows(self._samples(box, level, len(self.channels)), self.window)

    def _read_samples(self, box: Box) -> Samples:
        return self._samples(box, 0, len(self.channels))

    def _samples(self, box: Box, level: int, count: int) -> Samples:
        """The first `count` channels, in the file's number type."""
        try:
            return self._image.read(box, level, (0, count))
        except DAMAGE as error:
            raise _damaged(self._name, error) from error

    def close(self) -> None:
        self._files.close()


def is_zarr(folder: Path) -> bool:
    """Whether a folder is the root of a Zarr."""
    return any((folder / mark).is_file() for mark in ROOT)


def _damaged(name: str, error: Exception) -> Rejected:
    reraise_if_passing(error)
    if isinstance(error, Unsuited):
        return Rejected(f"{name}: {error}")
    return Rejected(
        f"{name}: the OME-Zarr is damaged, incomplete or of an unusual kind ({error}); check that all its files were "
        "sent, or write it again"
    )
