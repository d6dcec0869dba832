"""What every image format must offer."""

import errno
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from shared.errors import Rejected
from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box, Pixels
from shared.slides.windows import Windows

OVERVIEW_THREADS = 2  # decoding does not hold the interpreter's lock
PIECE = 2**22  # px read at once when going over the whole image; more only where the file's own tiles are larger
GREY, RGB = ("grey",), ("red", "green", "blue")  # channels of what has no names for its own
SHARPEST, COARSEST = 0.01, 100.0  # µm per pixel that a microscope can have; 72 dpi is a screen


PASSING = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOMEM, errno.ESTALE}


def reraise_if_passing(error: Exception) -> None:
    """Raise an error of the machine as it is: the image may be sound, and the next try succeed."""
    if isinstance(error, OSError) and error.errno in PASSING:
        raise error


class TooLarge(Rejected):
    """The image is beyond the limits; its header says so, nothing of it was decoded."""


@dataclass(frozen=True)
class Limits:
    """Sizes above which an image is refused, before memory is taken for it."""

    channels: int = 200  # imaging by many rounds of staining gives some sixty
    decoded_bytes: int = 1_500_000_000  # of what must be decoded in one piece: a whole PNG, a strip of a TIFF
    pixels: int = 1_000_000_000_000  # of the whole image, whatever is read of it at once
    side: int = 10_000_000

    def check(self, name: str, *, height: int, width: int) -> None:
        """Raise Rejected if the image is empty, TooLarge if it is beyond all bounds."""
        if height < 1 or width < 1:
            raise Rejected(f"{name}: the image has no pixels ({width} × {height}); export it again")
        if height * width > self.pixels or max(height, width) > self.side:
            raise TooLarge(
                f"{name}: {width} × {height} px is beyond what is taken; the header may be damaged: export it again"
            )

    def check_channels(self, name: str, channels: int) -> None:
        """Raise TooLarge if there are more channels than any microscope writes."""
        if channels > self.channels:
            raise TooLarge(f"{name}: {channels} channels, {self.channels} is the limit; save those that are wanted")

    def check_decoded(self, name: str, *, size: int, mend: str) -> None:
        """Raise TooLarge if `size` bytes would have to be held at once."""
        if size > self.decoded_bytes:
            raise TooLarge(
                f"{name}: {size / 1e9:.1f} GB would be decoded in one piece, "
                f"{self.decoded_bytes / 1e9:.1f} GB is the limit; {mend}"
            )


@dataclass(frozen=True)
class Level:
    """One resolution of an image. `tile`: (height, width) of what its file decodes at once, px."""

    height: int
    width: int
    tile: tuple[int, int]

    def pieces(self, unit: int = 1) -> Iterator[Box]:
        """Boxes that cover the level once, about `PIECE` px each, with corners at multiples of `unit`.

        They follow the tiles, so that few of these are decoded twice.
        """
        tile_height, tile_width = min(self.tile[0], self.height), min(self.tile[1], self.width)
        columns = min(_whole(PIECE // tile_height, tile_width), self.width)
        rows = min(_whole(PIECE // columns, tile_height), self.height)
        rows, columns = _whole(rows, unit), _whole(columns, unit)
        for top in range(0, self.height, rows):
            for left in range(0, self.width, columns):
                yield Box(top, left, min(top + rows, self.height), min(left + columns, self.width))


class Slide(ABC):
    """An open image. Safe to share between threads.

    `levels`: its resolutions, the full one first. `mpp`: µm per pixel, None if the file does not say.
    `channels`: what the file calls its channels, alpha left out. `dtype`: of the file's samples, as numpy calls it.
    `window`: the intensities that became 0 and 255, of all channels or of each; None where the file holds uint8.
    `outlives_file`: whether its file may be removed while it is open; some readers open it again.
    """

    outlives_file = False

    format: str
    levels: tuple[Level, ...]
    mpp: float | None = None
    window: Windows | None = None
    channels: tuple[str, ...] = RGB
    dtype: str = "uint8"

    @property
    def height(self) -> int:
        """Rows at full resolution, px."""
        return self.levels[0].height

    @property
    def width(self) -> int:
        """Columns at full resolution, px."""
        return self.levels[0].width

    def read(self, box: Box, level: int = 0) -> Pixels:
        """RGB (box.height, box.width, 3) of a box inside a level, in its pixels; contiguous, the caller's own.

        Grey is repeated. Of stains that are no colours, the first three are shown as red, green and blue.

        Raises:
            ValueError: the box leaves the level, or there is none of that number.
            Rejected: the data are damaged.
            Unavailable: they lie in an object store that does not answer.
        """
        self._check_inside(box, level)
        return np.require(self._read(box, level), requirements=("C", "W"))

    def read_channels(self, box: Box, level: int = 0) -> Pixels:
        """Every one of `channels`, (box.height, box.width, C) uint8, each through its window. Otherwise as `read`."""
        self._check_inside(box, level)
        return np.require(self._read_channels(box, level), requirements=("C", "W"))

    def read_samples(self, box: Box) -> Samples:
        """Every one of `channels` at full resolution, (box.height, box.width, C), in the file's own numbers.

        For measuring: of the type `dtype` (in the machine's order of bytes), and as they are stored, whatever is shown
        of them. `read_channels` gives their windows, lays what is transparent on white, and inverts where the file
        says that its smallest number is white. What a palette numbers has no intensity: its colours are given, uint8.
        Otherwise as `read`.
        """
        self._check_inside(box, 0)
        return np.require(self._read_samples(box), requirements=("C", "W"))

    def _check_inside(self, box: Box, level: int) -> None:
        if not 0 <= level < len(self.levels):
            raise ValueError(f"there is no level {level}, the image has {len(self.levels)}")
        height, width = self.levels[level].height, self.levels[level].width
        if min(box.top, box.left) < 0 or box.bottom > height or box.right > width:
            raise ValueError(f"{box} leaves the image of {width} × {height} px; mirror it first")

    def overview(self, side: int, check: Callable[[], None] | None = None) -> Pixels:
        """The whole image (h, w, 3), averaged down until neither side exceeds `side` px; small images as they are.

        `check` is called now and then, and may raise to break it off.
        """
        index, factor = self._reduce(side)
        picture = np.empty((*self.overview_size(side), 3), dtype=np.uint8)

        def average(piece: Box) -> None:
            if check is not None:
                check()
            small = np.asarray(Image.fromarray(np.ascontiguousarray(self._read(piece, index))).reduce(factor))
            top, left = piece.top // factor, piece.left // factor
            picture[top : top + small.shape[0], left : left + small.shape[1]] = small

        with ThreadPoolExecutor(OVERVIEW_THREADS) as pool:
            for _ in pool.map(average, self.levels[index].pieces(factor)):
                pass  # an error in any of them is raised here, and drops the rest
        return picture

    def overview_size(self, side: int) -> tuple[int, int]:
        """Height and width of that overview, px, without reading it."""
        index, factor = self._reduce(side)
        level = self.levels[index]
        return math.ceil(level.height / factor), math.ceil(level.width / factor)

    def _reduce(self, side: int) -> tuple[int, int]:
        """The level that an overview is made from, and how many of its pixels become one."""
        index = max(i for i, level in enumerate(self.levels) if i == 0 or max(level.height, level.width) >= side)
        level = self.levels[index]
        return index, math.ceil(max(level.height, level.width) / side)

    @abstractmethod
    def _read(self, box: Box, level: int) -> Pixels:
        """The pixels (box.height, box.width, 3) of a box inside a level; not necessarily contiguous or writable."""

    def _read_channels(self, box: Box, level: int) -> Pixels:
        """The same with all channels, (box.height, box.width, C). As it stands for grey and RGB."""
        return self._read(box, level)[:, :, : len(self.channels)]

    def _read_samples(self, box: Box) -> Samples:
        """The same at full resolution in the file's numbers. As it stands where the file holds what is shown."""
        return self._read_channels(box, 0)

    def close(self) -> None:  # noqa: B027  # most formats hold nothing open
        """Give back what is held open. Nothing can be read afterwards; closing again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def believable_mpp(value: float) -> float | None:
    """`value` in µm per pixel, None if no microscope has it (or it is no number)."""
    return value if SHARPEST < value < COARSEST else None


def _whole(length: int, unit: int) -> int:
    """The largest multiple of `unit` within `length`, one unit at least."""
    return max(length // unit, 1) * unit
