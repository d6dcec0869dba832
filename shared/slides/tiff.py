"""TIFFs, plain, of OME and of Aperio's scanners: only the tiles of a region are read and decoded."""

import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window, colours_of, find_window, find_windows, to_rgb, to_uint8
from shared.imaging.tiling import Box, Pixels
from shared.slides.announcing import READABLE
from shared.slides.axes import Axes, count_planes, find_axes
from shared.slides.described import find_channels, find_format, find_mpp, is_for_openslide
from shared.slides.directories import check_directories
from shared.slides.orientation import find_orientation
from shared.slides.planes import open_planes, open_tiff
from shared.slides.slide import RGB, Level, Limits, Slide, reraise_if_passing
from shared.slides.source import Source, SourceFile
from shared.slides.windows import Windows, apply_windows

# What tifffile and numpy stumble over when tags contradict each other; the texts mean nothing to users.
CONTRADICTION = (KeyError, IndexError, TypeError, ArithmeticError, AttributeError, AssertionError, struct.error)
# What damaged TIFFs raise: the codecs' errors are RuntimeErrors, those of Pillow's and XML's parsers SyntaxErrors.
DAMAGE = (tifffile.TiffFileError, OSError, ValueError, RuntimeError, SyntaxError, *CONTRADICTION)
# A header may announce a tag of any length; tifffile takes memory for it before it looks how long the file is.
DAMAGED_HEADER = (*DAMAGE, MemoryError)
WINDOWING = 8  # bytes per sample that it takes to find and to apply a window
COLOURS = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE}
MEND = "open it in a viewer and save it again"


class ForOpenSlide(Exception):
    """A vendor's slide that only OpenSlide reads rightly, from a whole file on disk."""


class TiffSlide(Slide):
    """The first image of a TIFF: one plane of it, grey, RGB, RGBA or of several stains, any integer or float samples.

    The tag Orientation is honoured, but for Aperio's slides, where no other reader does. It reads `source` and closes
    it in the end.
    """

    format = "tiff"
    outlives_file = True

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        window: Windows | None,
        limits: Limits,
        page: int | None = None,
        known: bool = False,
    ) -> None:
        """`page`: which plane of a stack, from 0. `known`: OpenSlide was asked and leaves the file to us.

        Raises:
            Rejected: damaged, too large, or of no kind that can be shown; the text says which, and the mend.
            ForOpenSlide: not for this reader.
        """
        self._name, self._source = name, source
        handle = SourceFile(source)
        with ExitStack() as opened:
            opened.callback(source.close)
            try:
                check_directories(source)
                with open_tiff(handle) as file:
                    if not known and is_for_openslide(file):
                        raise ForOpenSlide
                    self._open(file, limits, page)
            except DAMAGED_HEADER as error:
                raise handle.failure or self._damaged(error) from error
            if handle.failure is not None:  # somebody took an outage for the end of the file
                raise handle.failure
            self.window = window or self._find_window()
            opened.pop_all()

    def _open(self, file: tifffile.TiffFile, limits: Limits, page: int | None) -> None:
        self.format = find_format(file)
        series = file.series[0]
        self._page = series.keyframe
        _check_kind(self._page, self._name)
        if self.format == "aperio" and count_planes(series) > 1 and page is None:
            raise ForOpenSlide  # focal planes: it knows which is the one
        axes = find_axes(series, name=self._name, page=page)
        limits.check_channels(self._name, axes.channels)
        alike = [level for level in series.levels if _kind(level) == _kind(series)]
        sizes = [(level.shape[axes.letters.index("Y")], level.shape[axes.letters.index("X")]) for level in alike]
        for height, width in sizes:
            limits.check(self._name, height=height, width=width)
        self._planes = [open_planes(self._source, file, level, axes) for level in alike]
        self._orientation = find_orientation(file, self._page)
        self.levels = tuple(
            Level(*self._orientation.size(*size), self._orientation.size(*planes.tile))
            for size, planes in zip(sizes, self._planes, strict=True)
        )
        self.dtype = str(series.dtype)
        self._stored = axes.channels
        self._palette = _find_palette(self._page)
        self._check_memory(series, limits)
        self._coloured = _is_coloured(self._page, axes)
        shown = axes.channels - (axes.channels in (2, 4)) if self._coloured else axes.channels
        self.channels = find_channels(file, self._page, shown)
        self.mpp = find_mpp(file, self._page)

    def _check_memory(self, series: Any, limits: Limits) -> None:
        per_sample = series.dtype.itemsize + (0 if series.dtype == np.uint8 else WINDOWING)
        largest = max(math.prod(planes.tile) for planes in self._planes) * self._stored * per_sample
        mend = "export it with smaller tiles" if self.format == "aperio" else "save it with tiles or smaller strips"
        limits.check_decoded(self._name, size=largest, mend=mend)

    def _read(self, box: Box, level: int) -> Pixels:
        if self._coloured:
            return self._colour(self._samples(box, level, self._stored))
        stains = apply_windows(self._samples(box, level, len(RGB)), self.window)[:, :, : len(RGB)]
        if stains.shape[2] == len(RGB):
            return stains
        return np.pad(stains, ((0, 0), (0, 0), (0, len(RGB) - stains.shape[2])))

    def _read_channels(self, box: Box, level: int) -> Pixels:
        if self._coloured:
            return super()._read_channels(box, level)
        return apply_windows(self._samples(box, level, self._stored), self.window)

    def _read_samples(self, box: Box) -> Samples:
        if self._palette is not None:
            return super()._read_samples(box)
        return self._samples(box, 0, self._stored)[:, :, : len(self.channels)]

    def close(self) -> None:
        self._source.close()

    def _samples(self, box: Box, level: int, channels: int) -> Samples:
        """(box.height, box.width, channels or more) in the file's number type, the right way up."""
        shown = self.levels[level]
        stored = self._orientation.stored_box(box, height=shown.height, width=shown.width)
        try:
            return self._orientation.turn(self._planes[level].read(stored, channels))
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _find_window(self) -> Windows | None:
        """None where the samples are colours already."""
        bits = self._page.bitspersample
        if self._palette is not None or (self._page.dtype == np.uint8 and bits == 8):
            return None
        if bits < 8:
            return Window(0.0, 2.0**bits - 1)
        parts = self._parts()
        return find_window(colours_of(part) for part in parts) if self._coloured else find_windows(parts)

    def _parts(self) -> Iterator[Samples]:
        return (self._samples(piece, 0, self._stored) for piece in self.levels[0].pieces())

    def _colour(self, samples: Samples) -> Pixels:
        """RGB from the file's samples (H, W, 1 … 4)."""
        if self._palette is not None:
            return np.take(self._palette, samples[:, :, 0], axis=0)
        if samples.shape[2] == 4 and EXTRASAMPLE.UNSPECIFIED in self._page.extrasamples:
            samples = samples[:, :, :3]  # the fourth is anything but alpha
        window = self.window if isinstance(self.window, Window) else None
        rgb = to_rgb(to_uint8(samples, window))
        return 255 - rgb if self._page.photometric == PHOTOMETRIC.MINISWHITE else rgb

    def _damaged(self, error: Exception) -> Rejected:
        reraise_if_passing(error)
        if self.format == "aperio":
            return Rejected(
                f"{self._name}: the slide cannot be read ({find_cause(error)}): it is cut off or damaged; "
                "copy it again from the scanner and compare sizes, or export it as a tiled TIFF"
            )
        return Rejected(
            f"{self._name}: the TIFF is damaged, cut off or of an unusual kind ({find_cause(error)}); {MEND}"
        )


def count_pages(source: Source, *, name: str) -> int:
    """How many planes the first image of a TIFF has: what `page` of `open_slide` chooses from. Closes the source.

    Raises:
        Rejected: the file is damaged.
    """
    handle = SourceFile(source)
    with ExitStack() as opened:
        opened.callback(source.close)
        try:
            check_directories(source)
            with open_tiff(handle) as file:
                return count_planes(file.series[0])
        except DAMAGED_HEADER as error:
            reraise_if_passing(error)
            raise handle.failure or Rejected(f"{name}: the TIFF is damaged ({find_cause(error)}); {MEND}") from error


def _kind(series: Any) -> tuple[object, ...]:
    """What the levels of a pyramid must have in common."""
    page = series.keyframe
    return series.axes, series.dtype, page.photometric, page.compression, page.bitspersample, page.extrasamples


def _is_coloured(page: Any, axes: Axes) -> bool:
    """Whether the samples are grey or RGB, perhaps with alpha; not stains of which each has its own brightness."""
    if axes.channels == 1:
        return True
    if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        return axes.channels in (3, 4)
    alpha = {EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA}
    return axes.channels == 2 and page.samplesperpixel == 2 and bool(alpha.intersection(page.extrasamples))


def _check_kind(page: Any, name: str) -> None:
    """Raise Rejected for what cannot be turned into RGB, or not safely."""
    mend = "save it as RGB or grey, uncompressed or with LZW, deflate or JPEG"
    if page.compression == COMPRESSION.APERIO_JP2000_YCBC:
        raise ForOpenSlide  # its chroma may be subsampled, which our decoder of JPEG 2000 does not undo
    if page.compression not in READABLE:
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


def find_cause(error: Exception) -> str:
    """One of DAMAGED_HEADER in words for users."""
    return "its header contradicts itself" if isinstance(error, (*CONTRADICTION, MemoryError)) else str(error)
