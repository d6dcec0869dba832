"""The samples of a TIFF's image, region by region, without holding the whole."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import TiffFileError

from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box
from shared.slides.announcing import check_announced
from shared.slides.axes import Axes
from shared.slides.directories import check_directories
from shared.slides.source import LocalSource, Source, SourceFile

LISTS = ("TileOffsets", "TileByteCounts", "StripOffsets", "StripByteCounts")  # tags with an entry per segment
BATCH_BYTES = 16_000_000  # of compressed segments that are asked for, and held, at once
OVERHANG = 2, 8192  # how many times a level's side, and px, a tile's side may have: small levels keep the others' tiles
INFLATED = 4, 1_000_000  # how many times its pixels' size, and bytes above, a segment may take in the file


class Planes(Protocol):
    """Samples (height, width, channels) on disk. Safe to share between threads while the source is open."""

    tile: tuple[int, int]  # (height, width) of what is decoded at once, px

    def read(self, box: Box, channels: int) -> Samples:
        """Samples (box.height, box.width, channels) of a box inside the image, in the file's number type.

        `channels`: how many, from the first on; perhaps there are more in the answer.
        """
        ...


@contextmanager
def open_tiff(file: Path | SourceFile) -> Iterator[tifffile.TiffFile]:
    """A TIFF by itself: what it says about other files of a set is not followed, it may name any file.

    What was taken of it by `open_planes`, and its pages' tags, outlive the `with`.

    Raises:
        TiffFileError: it announces more pages or longer tags than an image needs; or it is damaged.
    """
    if isinstance(file, Path):
        with closing(LocalSource(file)) as source:
            check_directories(source)
    read = file if isinstance(file, Path) else cast("IO[bytes]", file)
    opened = tifffile.TiffFile(read, name="image.tif", _multifile=False, is_mmstack=False, is_ndtiff=False)
    try:
        yield opened
    finally:
        opened.close()
        _untie(opened)


def _untie(file: tifffile.TiffFile) -> None:
    """Let go of what tifffile's objects hold of one another: in circles, they and their source would outlive us all.

    Python's collector finds circles in the end, but counts objects, not the megabytes in them.
    """
    held = vars(file)
    for series in held.get("series", ()):
        for level in [series, *series.levels]:
            vars(level.keyframe).pop("decode", None)
            level.levels = []
    dialect = file.tiff  # decoders may ask for the byte order
    held.clear()
    held["tiff"] = dialect


def open_planes(source: Source, file: tifffile.TiffFile, series: Any, axes: Axes) -> Planes:
    """The samples of a series (tifffile's) of a file that is read from `source`, by the way that reads least.

    Raises:
        TiffFileError: the file holds less than its header announces.
    """
    if series.dataoffset is not None:
        return RowPlanes(source, np.dtype(file.byteorder + series.dtype.char), series, axes)
    return SegmentedPlanes(source, file, series, axes)


def check_segments(file: tifffile.TiffFile, page: Any) -> None:
    """Raise TiffFileError if the page lists fewer tiles or strips than its size needs, or one that leaves the file."""
    needed = _Grid.of(page.keyframe).segments
    if len(page.dataoffsets) < needed or len(page.databytecounts) < needed:
        raise TiffFileError(f"its size needs {needed} tiles or strips, but {len(page.dataoffsets)} are listed")
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    beyond = max(ends, default=0) - file.filehandle.size
    if beyond > 0:
        raise TiffFileError(f"its pixels end {beyond} bytes beyond the end of the file")


def _check_overhang(tile: tuple[int, int], level: tuple[int, int]) -> None:
    """Raise TiffFileError for a tile far larger than its level, (height, width) px: it would be decoded in full."""
    times, more = OVERHANG
    if any(length > max(times * side, more) for length, side in zip(tile, level, strict=True)):
        raise TiffFileError(f"tiles of {tile[1]} × {tile[0]} px make up a level of {level[1]} × {level[0]}")


class RowPlanes:
    """Uncompressed samples that lie in one run: of each row, no more is read than asked for."""

    def __init__(self, source: Source, dtype: np.dtype[Any], series: Any, axes: Axes) -> None:
        self._source, self._dtype = source, dtype
        beyond = series.dataoffset + math.prod(series.shape) * dtype.itemsize - source.size
        if beyond > 0:
            raise TiffFileError(f"its pixels end {beyond} bytes beyond the end of the file")
        self._shape, self._axes, self._offset = series.shape, axes, series.dataoffset
        strides = [math.prod(series.shape[place + 1 :]) * dtype.itemsize for place in range(len(series.shape))]
        start = sum(entry * stride for entry, stride in zip(axes.entries, strides, strict=True))
        self._start = series.dataoffset + start
        row, column = axes.letters.index("Y"), axes.letters.index("X")
        self._row, self._pixel = strides[row], strides[column]
        self._width = series.shape[column]
        separate = "C" in axes.letters[:row]  # a plane of its own for every channel
        self._planes = axes.channels if separate else 1
        self._plane = strides[axes.letters.index("C")] if separate else 0
        if self._row != self._width * self._pixel:
            raise TiffFileError(f"its axes come in the order {series.axes}")
        self.tile = (1, self._width)

    def read(self, box: Box, channels: int) -> Samples:
        mapped = self._source.map()
        if mapped is None:
            return self._read_runs(box, channels)
        whole: Samples = np.ndarray(self._shape, self._dtype, buffer=mapped, offset=self._offset)
        kept = [letter for letter in self._axes.letters if letter != "."]
        picture = whole[self._axes.selection].transpose([kept.index(letter) for letter in "YXC" if letter in kept])
        part = picture[box.slices()]
        samples = part if part.ndim == 3 else part[:, :, None]
        return samples[:, :, :channels].astype(self._dtype.newbyteorder("="))  # a copy: the mapping ends here

    def _read_runs(self, box: Box, channels: int) -> Samples:
        planes = min(channels, self._planes)
        runs = [run for plane in range(planes) for run in self._runs(box, plane)]
        content = b"".join(self._source.read_many(runs))
        whole = np.frombuffer(content, self._dtype).reshape(planes, box.height, box.width, -1)
        samples = whole[0] if planes == 1 else whole[..., 0].transpose(1, 2, 0)
        return samples.astype(self._dtype.newbyteorder("="), copy=False)

    def _runs(self, box: Box, plane: int) -> Iterator[tuple[int, int]]:
        start = self._start + plane * self._plane + box.top * self._row + box.left * self._pixel
        if box.width == self._width:
            yield start, box.height * self._row
            return
        for row in range(box.height):
            yield start + row * self._row, box.width * self._pixel


class SegmentedPlanes:
    """Tiles or strips (TIFF: segments), each decoded when it is asked for."""

    def __init__(self, source: Source, file: tifffile.TiffFile, series: Any, axes: Axes) -> None:
        key = series.keyframe
        self._source, self._decode, self._compression = source, key.decode, key.compression
        self._dtype = np.dtype(series.dtype.char)
        self._grid = _Grid.of(key)
        self.tile = self._grid.tile
        _check_overhang(self.tile, (key.imagelength, key.imagewidth))
        if math.prod(series.shape) != len(series.pages) * key.imagelength * key.imagewidth * key.samplesperpixel:
            raise TiffFileError(f"its pages do not make up its shape {series.shape}")
        pages = [series.pages[index] for index in axes.choose_pages(series.shape, len(series.pages))]
        if None in pages:
            raise TiffFileError("a page that its description names is missing")
        for page in pages:
            check_segments(file, page)
        self._pages = [_Page.of(page) for page in pages]
        self._check_counts()

    def _check_counts(self) -> None:
        times, more = INFLATED
        limit = times * math.prod(self.tile) * self._grid.channels * self._dtype.itemsize + more
        longest = max(int(page.counts.max(initial=0)) for page in self._pages)
        if longest > limit:
            raise TiffFileError(f"a tile or strip of {longest} bytes is larger than its pixels could be")

    def read(self, box: Box, channels: int) -> Samples:
        places = [(page, plane) for page in self._pages for plane in range(self._grid.planes)]
        wanted = places[: math.ceil(channels / self._grid.channels)]
        planes = [self._read_plane(page, plane, box) for page, plane in wanted]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def _read_plane(self, page: "_Page", plane: int, box: Box) -> Samples:
        """Samples (box.height, box.width, channels of one plane); 0 where the file leaves a segment out."""
        samples = np.zeros((box.height, box.width, self._grid.channels), dtype=self._dtype)
        height, width = self.tile
        for index, data in self._fetch(page, self._grid.indices(plane, box)):
            row, column = self._grid.place(index)
            segment = self._read_segment(page, index, data)
            _paste(segment, samples, down=row * height - box.top, right=column * width - box.left)
        return samples

    def _fetch(self, page: "_Page", indices: list[int]) -> Iterator[tuple[int, bytes]]:
        """Those segments that the file holds, as they stand in it; some of them are held at a time."""
        held = [index for index in indices if page.counts[index]]
        while held:
            sizes = np.cumsum(page.counts[held])
            some = max(int(np.searchsorted(sizes, BATCH_BYTES, side="right")), 1)
            runs = [(int(page.offsets[index]), int(page.counts[index])) for index in held[:some]]
            yield from zip(held[:some], self._source.read_many(runs), strict=True)
            held = held[some:]

    def _read_segment(self, page: "_Page", index: int, data: bytes) -> Samples:
        """Samples (rows, columns, channels of one plane) of a tile or strip."""
        check_announced(self._compression, data, self.tile)
        segment, _, _ = self._decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        samples: Samples = segment[0]  # of a depth of 1
        return samples


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

    def indices(self, plane: int, box: Box) -> list[int]:
        """Places in the page's list of those segments of a plane that hold a part of a box."""
        height, width = self.tile
        rows = range(box.top // height, math.ceil(box.bottom / height))
        columns = range(box.left // width, math.ceil(box.right / width))
        return [(plane * self.rows + row) * self.columns + column for row in rows for column in columns]

    def place(self, index: int) -> tuple[int, int]:
        """Row and column of a segment in its plane."""
        return divmod(index % (self.rows * self.columns), self.columns)


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
            page.keyframe.jpegheader,
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
