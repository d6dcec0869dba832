"""Plain TIFFs, tiled or in strips: only the tiles of a region are decoded."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, Window, find_window, to_rgb
from shared.imaging.tiling import Box, Pixels
from shared.slides.slide import Limits, Slide

ROWS = 1024  # read at once when looking at the whole image
# What damaged TIFFs raise, in tifffile, in the codecs behind it (RuntimeError's children) and in numpy.
DAMAGE = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
)


class TiffSlide(Slide):
    """The first image of a TIFF: one plane, grey, RGB or RGBA, any integer or float samples."""

    format = "tiff"

    def __init__(self, path: Path, *, name: str, window: Window | None, limits: Limits) -> None:
        self._name = name
        try:
            self._file = tifffile.TiffFile(path)
            series = self._file.series[0]
            page = series.keyframe
            self._axes = _keep_axes(series.axes, series.shape, name)
            self.height, self.width = series.shape[series.axes.index("Y")], series.shape[series.axes.index("X")]
            limits.check(name, height=self.height, width=self.width)
            limits.check_decoded(name, size=_segment_bytes(page), mend="save it with tiles or smaller strips")
            self._array: Any = zarr.open_array(series.aszarr(level=0), mode="r")
            self.mpp = _find_mpp(page)
        except DAMAGE as error:
            raise _damaged(name, error) from error
        self.window = window or (None if self._array.dtype == np.uint8 else find_window(self._parts()))

    def read(self, box: Box) -> Pixels:
        samples = self._samples(box)
        return to_rgb(self.window.apply(samples) if self.window else samples.astype(np.uint8))

    def overview(self, side: int) -> Pixels:
        factor = math.ceil(max(self.height, self.width) / side)
        rows = max(ROWS // factor, 1) * factor
        parts = [
            self.read(Box(top, 0, min(top + rows, self.height), self.width)) for top in range(0, self.height, rows)
        ]
        return np.concatenate([part[::factor, ::factor] for part in parts])

    def close(self) -> None:
        self._file.close()

    def _parts(self) -> Iterator[Samples]:
        for top in range(0, self.height, ROWS):
            yield self._samples(Box(top, 0, min(top + ROWS, self.height), self.width))

    def _samples(self, box: Box) -> Samples:
        """Samples (H, W) or (H, W, channels) of the box, in the file's number type."""
        rows, columns = box.slices()
        index = tuple({"Y": rows, "X": columns, "C": slice(None)}.get(axis, 0) for axis in self._axes)
        try:
            samples = np.asarray(self._array[index])
        except DAMAGE as error:
            raise _damaged(self._name, error) from error
        kept = [axis for axis in self._axes if axis in "YXC"]
        return samples.transpose([kept.index(axis) for axis in "YXC" if axis in kept])


def _keep_axes(axes: str, shape: tuple[int, ...], name: str) -> str:
    """The axes, with Y, X and C (channels) where they count and "." where the axis has one entry only."""
    kept = ""
    for axis, size in zip(axes, shape, strict=True):
        if axis in "YX":
            kept += axis
        elif axis in "SC" and size in (3, 4) and "C" not in kept:
            kept += "C"
        elif size == 1:
            kept += "."
        elif axis in "SC":
            raise Rejected(
                f"{name}: {size} channels; one (grey), three (RGB) or four (RGBA) are taken: choose some and save again"
            )
        else:
            raise Rejected(f"{name}: a stack of {size} planes (axis {axis}); submit each plane as an image of its own")
    return kept


def _segment_bytes(page: Any) -> int:
    """Bytes of the largest piece that must be decoded at once."""
    return int(math.prod(page.chunks)) * int(np.dtype(page.dtype).itemsize)


def _find_mpp(page: Any) -> float | None:
    """µm per pixel by the resolution tags, None if unbelievable (72 dpi is a screen, not a microscope)."""
    if "XResolution" not in page.tags:
        return None
    per_unit = page.get_resolution(unit="MICROMETER")[0]
    mpp = 1.0 / per_unit if per_unit else 0.0
    return mpp if 0.01 < mpp < 100.0 else None


def _damaged(name: str, error: Exception) -> Rejected:
    return Rejected(
        f"{name}: the TIFF is damaged or of an unusual kind ({error}); open it in a viewer and save it again"
    )
