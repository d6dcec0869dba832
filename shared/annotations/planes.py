"""One plane of a TIFF, a stack or an array of images, in the file's own numbers, and nothing else of it decoded."""

import math
from contextlib import closing
from pathlib import Path
from tokenize import TokenError

import numpy as np
from tifffile import COMPRESSION, TiffFileError

from shared.errors import Rejected
from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box
from shared.slides.announcing import BOUNDED
from shared.slides.axes import count_planes, find_axes
from shared.slides.orientation import find_orientation
from shared.slides.planes import open_planes, open_tiff
from shared.slides.slide import reraise_if_passing
from shared.slides.source import LocalSource
from shared.slides.tiff import DAMAGED_HEADER, find_cause

NPY = b"\x93NUMPY"
MOST_BYTES = 1_500_000_000  # of a plane once decoded
# What numpy raises for a header that is none: it reads it as an expression of Python's.
NO_ARRAY = (ValueError, OSError, EOFError, SyntaxError, TokenError, TypeError, OverflowError, MemoryError)
MEND = "export it again and check that it opens"


def count_pages(path: Path, name: str) -> int:
    """How many planes a TIFF or an array (.npy) has; 1 for an array that is a single image, perhaps in colour.

    Raises:
        Rejected: it is neither, or damaged.
    """
    if is_array(path):
        shape = open_array(path, name).shape
        return 1 if _is_single(shape) else shape[0]
    try:
        with open_tiff(path) as file:
            return count_planes(file.series[0])
    except DAMAGED_HEADER as error:
        raise _damaged(name, error) from error


def read_plane(path: Path, page: int | None = None, *, name: str | None = None, most: int = MOST_BYTES) -> Samples:
    """A plane (H, W) or (H, W, C) of a TIFF, or an image of an array (N, H, W[, C]), in its own number type.

    It is turned as the tag Orientation says, like the image. `page`: which one, from 0; None: the only one. `most`:
    bytes that it may take once decoded.

    Raises:
        Rejected: damaged, too large, compressed with losses, not that many pages, or several and none was chosen.
    """
    name = name or path.name
    try:
        return load_plane(path, page, name=name, most=most)
    except DAMAGED_HEADER as error:
        raise _damaged(name, error) from error


def load_plane(path: Path, page: int | None, *, name: str, most: int) -> Samples:
    """As `read_plane`, but damage is raised as it comes: one of `DAMAGED_HEADER`, or Rejected."""
    return (_read_array if is_array(path) else _read_tiff)(path, page, name=name, most=most)


def is_array(path: Path) -> bool:
    """Whether the first bytes are those of a numpy array."""
    with path.open("rb") as file:
        return file.read(len(NPY)) == NPY


def open_array(path: Path, name: str) -> Samples:
    """A numpy array on disk, mapped: what is not looked at is not read.

    Raises:
        Rejected: damaged, cut off, of objects, or no images by its shape.
    """
    try:
        array: Samples = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_array(array)
    except NO_ARRAY as error:
        reraise_if_passing(error)
        raise Rejected(
            f"{name}: no readable array of images ({error}); save numbers as (images, rows, columns) or with channels, "
            "by numpy.save"
        ) from error
    return array


def _check_array(array: Samples) -> None:
    if array.dtype.kind not in "buif" or not 2 <= array.ndim <= 4:
        raise ValueError(f"its shape is {array.shape}, its type {array.dtype}")
    if not array.size:
        raise ValueError("no pixels")


def _is_single(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))


def _read_array(path: Path, page: int | None, *, name: str, most: int) -> Samples:
    array = open_array(path, name)
    pages = 1 if _is_single(array.shape) else array.shape[0]
    _check_page(page, pages, name)
    plane = array if _is_single(array.shape) else array[page or 0]
    _check_size(plane.size * plane.itemsize, most)
    return np.array(plane, dtype=plane.dtype.newbyteorder("="), order="C")  # a copy: the file is closed with the array


def _read_tiff(path: Path, page: int | None, *, name: str, most: int) -> Samples:
    with open_tiff(path) as file, closing(LocalSource(path)) as source:
        series = file.series[0]
        key = series.keyframe
        if key.compression not in BOUNDED:
            raise TiffFileError(f"its compression {COMPRESSION(key.compression).name} may alter values")
        if key.dtype is None or key.dtype.kind not in "buif":
            raise TiffFileError(f"its samples are of the type {key.dtype}")
        _check_page(page, count_planes(series), name)
        axes = find_axes(series, name=name, page=page)
        height, width = (series.shape[axes.letters.index(letter)] for letter in "YX")
        _check_size(height * width * axes.channels * key.dtype.itemsize, most)
        planes = open_planes(source, file, series, axes)
        _check_size(math.prod(planes.tile) * axes.channels * key.dtype.itemsize, most)
        if not height * width:
            raise TiffFileError("no pixels")
        stored = planes.read(Box(0, 0, height, width), axes.channels)
        samples = np.ascontiguousarray(find_orientation(file, key).turn(stored))  # as the image is shown
    return samples[:, :, 0] if samples.shape[2] == 1 else samples


def _check_page(page: int | None, pages: int, name: str) -> None:
    if page is None and pages > 1:
        raise Rejected(f"{name}: {pages} planes, where one is asked for; save each as a file of its own")
    if not 0 <= (page or 0) < pages:
        raise Rejected(f"{name}: there is no plane {page}, the file has {pages}; count from 0")


def _check_size(size: int, most: int) -> None:
    """Before anything is decoded: what a header announces may be more than memory holds."""
    if size > most:
        raise ValueError(f"{size / 1e6:,.0f} MB once decoded, where {most / 1e6:,.0f} MB are taken")


def _damaged(name: str, error: Exception) -> Rejected:
    reraise_if_passing(error)
    return Rejected(f"{name}: no readable TIFF or array ({find_cause(error)}); {MEND}")
