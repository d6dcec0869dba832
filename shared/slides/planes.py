"""The samples of a TIFF's image, region by region, without holding the whole."""

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from tifffile import COMPRESSION, TiffFileError

from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box

# Compressions that announce a size of their own, which decoders take memory for; and what reads just that size.
ANNOUNCING = {
    COMPRESSION.JPEG: JpegImageFile,
    COMPRESSION.JPEG2000: Jpeg2KImageFile,
    COMPRESSION.APERIO_JP2000_RGB: Jpeg2KImageFile,
}
# Those that are decoded into a buffer of the tile's size, whatever they hold.
BOUNDED = {
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.ZSTD,
}


class Planes(Protocol):
    """Samples (height, width, channels) on disk. Safe to share between threads while the file is open."""

    tile: tuple[int, int]  # (height, width) of what is decoded at once, px

    def read(self, box: Box) -> Samples:
        """Samples (box.height, box.width, channels) of a box inside the image, in the file's number type."""
        ...


def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF by itself: what it says about other files of a set is not followed, it may name any file."""
    return tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False)


def open_planes(file: tifffile.TiffFile, series: Any, axes: str) -> Planes:
    """The samples of a series (tifffile's), by the way that reads least.

    `axes`: a letter per axis of the series: Y, X, C (channels) or "." (one entry, left out).

    Raises:
        TiffFileError: the file holds less than its header announces.
    """
    if series.dataoffset is not None:
        return MappedPlanes(file, series, axes)
    return SegmentedPlanes(file, series)


def check_segments(file: tifffile.TiffFile, page: Any) -> None:
    """Raise TiffFileError if the page lists fewer tiles or strips than its size needs, or one that leaves the file."""
    needed = _Grid.of(page.keyframe).segments
    if len(page.dataoffsets) < needed or len(page.databytecounts) < needed:
        raise TiffFileError(f"its size needs {needed} tiles or strips, but {len(page.dataoffsets)} are listed")
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    beyond = max(ends, default=0) - file.filehandle.size
    if beyond > 0:
        raise TiffFileError(f"its pixels end {beyond} bytes beyond the end of the file")


class MappedPlanes:
    """Uncompressed samples that lie in one run: mapped, so that no more is read than asked for."""

    def __init__(self, file: tifffile.TiffFile, series: Any, axes: str) -> None:
        dtype = np.dtype(file.byteorder + series.dtype.char)
        beyond = series.dataoffset + math.prod(series.shape) * dtype.itemsize - file.filehandle.size
        if beyond > 0:
            raise TiffFileError(f"its pixels end {beyond} bytes beyond the end of the file")
        mapped = np.memmap(file.filehandle.path, dtype, mode="r", offset=series.dataoffset, shape=series.shape)
        kept = axes.replace(".", "")
        samples = np.asarray(mapped[tuple(0 if axis == "." else slice(None) for axis in axes)])
        samples = samples.transpose([kept.index(axis) for axis in "YXC" if axis in kept])
        self._samples = samples if samples.ndim == 3 else samples[:, :, None]
        self.tile = (1, self._samples.shape[1])

    def read(self, box: Box) -> Samples:
        part = self._samples[box.slices()]
        return part.astype(part.dtype.newbyteorder("="))


class SegmentedPlanes:
    """Tiles or strips (TIFF: segments), each decoded when it is asked for."""

    def __init__(self, file: tifffile.TiffFile, series: Any) -> None:
        key = series.keyframe
        self._file, self._decode = file.filehandle, key.decode
        self._announcing = ANNOUNCING.get(key.compression)
        self._dtype = np.dtype(series.dtype.char)
        self._grid = _Grid.of(key)
        self.tile = self._grid.tile
        if math.prod(series.shape) != len(series.pages) * key.imagelength * key.imagewidth * key.samplesperpixel:
            raise TiffFileError(f"its pages do not make up its shape {series.shape}")
        for page in series.pages:
            check_segments(file, page)
        self._pages = [_Page(p.dataoffsets, p.databytecounts, p.jpegtables, p.jpegheader) for p in series.pages]

    def read(self, box: Box) -> Samples:
        planes = [self._read_plane(page, plane, box) for page in self._pages for plane in range(self._grid.planes)]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _read_plane(self, page: "_Page", plane: int, box: Box) -> Samples:
        """Samples (box.height, box.width, channels of one plane); 0 where the file leaves a segment out."""
        samples = np.zeros((box.height, box.width, self._grid.channels), dtype=self._dtype)
        height, width = self.tile
        for row in range(box.top // height, math.ceil(box.bottom / height)):
            for column in range(box.left // width, math.ceil(box.right / width)):
                segment = self._read_segment(page, self._grid.index(plane, row, column))
                if segment is not None:
                    _paste(segment, samples, down=row * height - box.top, right=column * width - box.left)
        return samples

    def _read_segment(self, page: "_Page", index: int) -> Samples | None:
        """Samples (rows, columns, channels of one plane) of a tile or strip."""
        count = page.counts[index]
        if not count:
            return None
        data = os.pread(self._file.fileno(), count, page.offsets[index])
        if self._announcing:
            self._check_announced(data, self._announcing)
        segment, _, _ = self._decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        samples: Samples = segment[0]  # of a depth of 1
        return samples

    def _check_announced(self, data: bytes, read_header: Callable[[io.BytesIO], ImageFile]) -> None:
        with read_header(io.BytesIO(data)) as image:
            width, height = image.size
        if height > self.tile[0] or width > self.tile[1]:
            raise TiffFileError(f"a tile or strip of {self.tile[1]} × {self.tile[0]} px announces {width} × {height}")


@dataclass(frozen=True)
class _Grid:
    """How a page is cut into segments: plane by plane, each row by row."""

    tile: tuple[int, int]  # (height, width), px
    rows: int
    columns: int
    planes: int
    channels: int  # of a plane

    @classmethod
    def of(cls, key: Any) -> "_Grid":
        """The grid of a page (tifffile's keyframe)."""
        strip = (min(key.rowsperstrip, key.imagelength), key.imagewidth)
        height, width = (key.tilelength, key.tilewidth) if key.is_tiled else strip
        separate = key.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        return cls(
            tile=(height, width),
            rows=math.ceil(key.imagelength / height),
            columns=math.ceil(key.imagewidth / width),
            planes=key.samplesperpixel if separate else 1,
            channels=1 if separate else key.samplesperpixel,
        )

    @property
    def segments(self) -> int:
        """How many there are."""
        return self.planes * self.rows * self.columns

    def index(self, plane: int, row: int, column: int) -> int:
        """Place of a segment in the page's list."""
        return (plane * self.rows + row) * self.columns + column


@dataclass(frozen=True)
class _Page:
    """Where the segments of a page lie, and what those in JPEG have in common."""

    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    jpegtables: bytes | None
    jpegheader: bytes | None


def _paste(segment: Samples, samples: Samples, *, down: int, right: int) -> None:
    """Copy what `segment`, moved `down` and `right`, has in common with `samples`; both are (H, W, channels)."""
    top, left = max(down, 0), max(right, 0)
    bottom, end = min(down + segment.shape[0], samples.shape[0]), min(right + segment.shape[1], samples.shape[1])
    samples[top:bottom, left:end] = segment[top - down : bottom - down, left - right : end - right]
