"""The samples of a TIFF's image, region by region, without holding the whole."""

import io
import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
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
LISTS = ("TileOffsets", "TileByteCounts", "StripOffsets", "StripByteCounts")  # tags with an entry per segment


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
    """Uncompressed samples that lie in one run: mapped, so that no more is read than asked for.

    Only for as long as a read takes: pages that stay mapped count as memory of the process, up to the whole image.
    """

    def __init__(self, file: tifffile.TiffFile, series: Any, axes: str) -> None:
        self._file, self._offset, self._shape = file.filehandle, series.dataoffset, series.shape
        self._dtype = np.dtype(file.byteorder + series.dtype.char)
        beyond = self._offset + math.prod(self._shape) * self._dtype.itemsize - self._file.size
        if beyond > 0:
            raise TiffFileError(f"its pixels end {beyond} bytes beyond the end of the file")
        kept = axes.replace(".", "")
        self._entry = tuple(0 if axis == "." else slice(None) for axis in axes)
        self._order = [kept.index(axis) for axis in "YXC" if axis in kept]
        self.tile = (1, self._shape[axes.index("X")])

    def read(self, box: Box) -> Samples:
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        whole: Samples = np.ndarray(self._shape, self._dtype, buffer=mapped, offset=self._offset)
        part = whole[self._entry].transpose(self._order)[box.slices()]
        samples = part if part.ndim == 3 else part[:, :, None]
        return samples.astype(samples.dtype.newbyteorder("="))  # a copy


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
        self._pages = [_Page.of(page) for page in series.pages]

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

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    jpegtables: bytes | None
    jpegheader: bytes | None

    @classmethod
    def of(cls, page: Any) -> "_Page":
        """Takes the lists over from tifffile's `page`, which holds each number as an object.

        10 GPx in tiles of 256 px are 153,000 of them: 11 MB there, 2.4 MB here.
        """
        taken = cls(
            np.array(page.dataoffsets, dtype=np.int64),
            np.array(page.databytecounts, dtype=np.int64),
            page.jpegtables,
            page.jpegheader,
        )
        page.dataoffsets = page.databytecounts = ()
        for name in LISTS:
            tag = getattr(page, "tags", {}).get(name)  # the pages of a stack but the first have none
            if tag is not None:
                tag.value = None  # would be read from the file again
        return taken


def _paste(segment: Samples, samples: Samples, *, down: int, right: int) -> None:
    """Copy what `segment`, moved `down` and `right`, has in common with `samples`; both are (H, W, channels)."""
    top, left = max(down, 0), max(right, 0)
    bottom, end = min(down + segment.shape[0], samples.shape[0]), min(right + segment.shape[1], samples.shape[1])
    samples[top:bottom, left:end] = segment[top - down : bottom - down, left - right : end - right]
