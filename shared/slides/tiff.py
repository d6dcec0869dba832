"""Plain TIFFs, tiled or in strips: only the tiles of a region are decoded."""

import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, RESUNIT

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window, colours_of, find_window, to_rgb, to_uint8
from shared.imaging.tiling import Box, Pixels
from shared.slides.planes import ANNOUNCING, BOUNDED, open_planes, open_tiff
from shared.slides.slide import Level, Limits, Slide, believable_mpp, reraise_if_passing

# What tifffile and numpy stumble over when tags contradict each other; the texts mean nothing to users.
CONTRADICTION = (KeyError, IndexError, TypeError, ArithmeticError, AttributeError, struct.error)
# What damaged TIFFs raise: the codecs' errors are RuntimeErrors, those of Pillow's parsers SyntaxErrors.
DAMAGE = (tifffile.TiffFileError, OSError, ValueError, RuntimeError, SyntaxError, *CONTRADICTION)
# A header may announce a tag of any length; tifffile takes memory for it before it looks how long the file is.
DAMAGED_HEADER = (*DAMAGE, MemoryError)
WINDOWING = 8  # bytes per sample that it takes to find and to apply a window
MICROMETRES = ("micron", "µm", "um")  # as ImageJ writes them
COLOURS = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE}


class TiffSlide(Slide):
    """The first image of a TIFF: one plane, grey, RGB or RGBA, any integer or float samples."""

    format = "tiff"

    def __init__(self, path: Path, *, name: str, window: Window | None, limits: Limits) -> None:
        self._name = name
        with ExitStack() as opened:
            try:
                self._file = opened.enter_context(open_tiff(path))
                self._open(self._file.series[0], limits)
            except DAMAGED_HEADER as error:
                raise _damaged(name, error) from error
            self.window = window or self._find_window()
            opened.pop_all()

    def _open(self, series: Any, limits: Limits) -> None:
        page = series.keyframe
        _check_kind(page, self._name)
        axes = _keep_axes(series, self._name)
        alike = [level for level in series.levels if _kind(level) == _kind(series)]
        sizes = [(level.shape[axes.index("Y")], level.shape[axes.index("X")]) for level in alike]
        limits.check(self._name, height=sizes[0][0], width=sizes[0][1])
        self._planes = [open_planes(self._file, level, axes) for level in alike]
        self.levels = tuple(
            Level(height, width, planes.tile) for (height, width), planes in zip(sizes, self._planes, strict=True)
        )
        channels = series.shape[axes.index("C")] if "C" in axes else 1
        per_sample = series.dtype.itemsize + (0 if series.dtype == np.uint8 else WINDOWING)
        largest = max(math.prod(planes.tile) for planes in self._planes) * channels * per_sample
        limits.check_decoded(self._name, size=largest, mend="save it with tiles or smaller strips")
        self._page = page
        self._palette = _find_palette(page)
        self.mpp = _find_mpp(self._file, page)

    def _read(self, box: Box, level: int) -> Pixels:
        planes = self._planes[level]
        try:
            return self._colour(planes.read(box))
        except DAMAGE as error:
            raise _damaged(self._name, error) from error

    def close(self) -> None:
        self._planes = []  # a mapped file is open as long as it is mapped
        self._file.close()

    def _find_window(self) -> Window | None:
        """None where the samples are colours already."""
        bits = self._page.bitspersample
        if self._palette is not None or (self._page.dtype == np.uint8 and bits == 8):
            return None
        return Window(0.0, 2.0**bits - 1) if bits < 8 else find_window(self._parts())

    def _parts(self) -> Iterator[Samples]:
        for piece in self.levels[0].pieces():
            try:
                yield colours_of(self._planes[0].read(piece))
            except DAMAGE as error:
                raise _damaged(self._name, error) from error

    def _colour(self, samples: Samples) -> Pixels:
        """RGB from the file's samples (H, W, 1, 3 or 4)."""
        if self._palette is not None:
            return np.take(self._palette, samples[:, :, 0], axis=0)
        if samples.shape[2] == 4 and EXTRASAMPLE.UNSPECIFIED in self._page.extrasamples:
            samples = samples[:, :, :3]  # the fourth is anything but alpha
        rgb = to_rgb(to_uint8(samples, self.window))
        return 255 - rgb if self._page.photometric == PHOTOMETRIC.MINISWHITE else rgb


def _kind(series: Any) -> tuple[object, ...]:
    """What the levels of a pyramid must have in common."""
    page = series.keyframe
    return series.axes, series.dtype, page.photometric, page.compression, page.bitspersample, page.extrasamples


def _keep_axes(series: Any, name: str) -> str:
    """The axes, with Y, X and C (channels) where they count and "." where the axis has one entry only."""
    kept = ""
    for axis, size in zip(series.axes, series.shape, strict=True):
        if axis in "YX":
            kept += axis
        elif size == 1:
            kept += "."
        elif axis not in "SC":
            raise Rejected(f"{name}: a stack of {size} planes (axis {axis}); submit each plane as an image of its own")
        elif "C" in kept or not (size == 3 or (size == 4 and axis == "S" and _is_rgb(series))):
            raise Rejected(
                f"{name}: {size} channels; one (grey), three (RGB) or four (RGBA) are taken: choose some and save again"
            )
        else:
            kept += "C"
    return kept


def _is_rgb(series: Any) -> bool:
    return bool(series.keyframe.photometric == PHOTOMETRIC.RGB)


def _check_kind(page: Any, name: str) -> None:
    """Raise Rejected for what cannot be turned into RGB, or not safely."""
    mend = "save it as RGB or grey, uncompressed or with LZW, deflate or JPEG"
    if page.compression not in ANNOUNCING.keys() | BOUNDED:
        raise Rejected(f"{name}: a TIFF with the compression {_call(page.compression)}; {mend}")
    ycbcr_jpeg = page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG  # decoded to RGB
    if page.photometric not in COLOURS and not ycbcr_jpeg:
        raise Rejected(f"{name}: a TIFF with colours of the kind {_call(page.photometric)}; {mend}")
    if page.dtype is None or page.dtype.kind not in "buif" or not isinstance(page.bitspersample, int):
        raise Rejected(f"{name}: a TIFF with samples of the type {page.dtype}; save it with whole or real numbers")
    if page.imagedepth > 1:
        raise Rejected(f"{name}: a stack of {page.imagedepth} planes; submit each plane as an image of its own")


def _call(value: Any) -> str:
    """A tag's value by the name the specification gives it, or as the number it is."""
    return str(getattr(value, "name", value))


def _find_palette(page: Any) -> Pixels | None:
    """(2^bits, 3) uint8, None if the samples are no indices."""
    if page.photometric != PHOTOMETRIC.PALETTE:
        return None
    colours = np.asarray(page.colormap, dtype=np.uint16).reshape(3, 2**page.bitspersample)
    return (colours.T >> 8).astype(np.uint8)


def _find_mpp(file: tifffile.TiffFile, page: Any) -> float | None:
    """µm per pixel by the resolution tags, in the unit that these or ImageJ's description name."""
    if "XResolution" not in page.tags:
        return None
    described = (file.imagej_metadata or {}).get("unit") in MICROMETRES
    if page.resolutionunit not in (RESUNIT.INCH, RESUNIT.CENTIMETER) and not described:
        return None
    per_micrometre = page.resolution[0] if described else page.get_resolution(unit="MICROMETER")[0]
    return believable_mpp(1.0 / per_micrometre) if per_micrometre else None


def find_cause(error: Exception) -> str:
    """One of DAMAGED_HEADER in words for users."""
    return "its header contradicts itself" if isinstance(error, (*CONTRADICTION, MemoryError)) else str(error)


def _damaged(name: str, error: Exception) -> Rejected:
    reraise_if_passing(error)
    return Rejected(
        f"{name}: the TIFF is damaged, cut off or of an unusual kind ({find_cause(error)}); open it in a viewer and "
        "save it again"
    )
