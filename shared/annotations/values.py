"""The numbers in a mask file, one per pixel, whatever the file's format and number type."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from shared.annotations.planes import MOST_BYTES, NPY, load_plane
from shared.errors import Rejected
from shared.slides.png import PNG, decode_png
from shared.slides.raster import JPEG
from shared.slides.slide import reraise_if_passing
from shared.slides.tiff import DAMAGED_HEADER, find_cause

Values = NDArray[np.generic]  # (H, W), whole numbers or bool
Labels = NDArray[np.int32]

_TIFF = (b"II", b"MM")
_IHDR = struct.Struct(">8x 4x 4s II B B")  # a PNG's first chunk: its name, width, height, bits, kind of colour
_PALETTE = 3
_LARGEST_TABLED = 2**24  # numbers up to here are found by counting, which is faster than sorting


def read_values(path: Path, name: str, *, page: int | None = None, most: int = MOST_BYTES) -> Values:
    """The values of a PNG, TIFF or array, one per pixel (H, W), of any integer type or bool.

    Indices of a palette, not its colours. Grey that was saved as colour, or with alpha, is grey. Floats are taken if
    they are whole numbers. `page`: of a stack or an array. `most`: bytes that it may take once decoded.

    Raises:
        Rejected: the file is damaged or too large, or has more than one value per pixel or fractions.
    """
    with path.open("rb") as file:
        head = file.read(_IHDR.size)
    if head.startswith(JPEG):
        raise Rejected(
            f"{name}: the mask is a JPEG, which alters the values at every edge; export it again as PNG or TIFF"
        )
    try:
        if head.startswith((*_TIFF, NPY)):
            values: Values = load_plane(path, page, name=name, most=most)
        else:
            values = _read_png(path, head, most)
    except (*DAMAGED_HEADER, imagecodecs.PngError) as error:
        reraise_if_passing(error)
        cause = find_cause(error)
        raise Rejected(f"{name}: the mask is no readable PNG or TIFF ({cause}); export it again") from error
    values = _to_whole(_drop_colour(values))
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise Rejected(
            f"{name}: a mask has one whole number per pixel, this one has shape {values.shape} of {values.dtype}; "
            "save it as a grey PNG or TIFF of 8 or 16 bits"
        )
    return values


def number_objects(values: Values) -> Labels:
    """Whole numbers (H, W), any above 0 for an object, → 1, 2, … in their order, 0 elsewhere."""
    found = distinct(values)
    found = found[found > 0]
    if found.size and int(found[-1]) < _LARGEST_TABLED:
        table = np.zeros(int(found[-1]) + 1, np.int32)
        table[found] = np.arange(1, found.size + 1)
        return np.asarray(table[np.maximum(values, 0) if values.dtype.kind == "i" else values.astype(np.uint32)])
    places = np.searchsorted(found, values) + 1
    return np.where(values > np.zeros((), values.dtype), places, 0).astype(np.int32)


def distinct(values: Values) -> NDArray[np.int64]:
    """The different numbers that occur, in their order."""
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    if values.size and int(values.min()) >= 0 and int(values.max()) < _LARGEST_TABLED:
        seen = np.zeros(int(values.max()) + 1, bool)
        seen[values.ravel()] = True
        return np.flatnonzero(seen)
    return np.unique(values).astype(np.int64)


def _read_png(path: Path, head: bytes, most: int) -> Values:
    """By libpng, which refuses what Pillow would fill up with black; it knows no indices, so palettes are Pillow's."""
    if len(head) < _IHDR.size or not head.startswith(PNG):
        raise ValueError(f"it begins with {head[:8]!r}")
    chunk, width, height, bits, colour = _IHDR.unpack(head)
    if chunk != b"IHDR":
        raise ValueError("its header is missing")
    if width * height * 4 * max(bits // 8, 1) > most:
        raise ValueError(f"{width} × {height} px, where {most // (4 * max(bits // 8, 1)):,} px are taken")
    values: Values = decode_png(path.read_bytes())
    if colour == _PALETTE:
        with PngImageFile(path) as image:  # not Image.open: its limit on pixels would speak first
            return np.asarray(image)
    if bits < 8:  # libpng spreads 1, 2 and 4 bits over 0 … 255
        values = values.astype(np.uint8) // np.uint8(255 // (2**bits - 1))
    return values


def _drop_colour(values: Values) -> Values:
    """(H, W, 1 … 4) → (H, W) if it is grey, saved as colour or with alpha; otherwise as it is."""
    if values.ndim != 3 or not 1 <= values.shape[2] <= 4:
        return values
    colours = values[:, :, :3] if values.shape[2] > 2 else values[:, :, :1]
    return values[:, :, 0] if (colours == colours[:, :, :1]).all() else values


def _to_whole(values: Values) -> Values:
    """Floats that are whole numbers as such; others as they are."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(values).all() and (np.abs(values) < 2**31).all() and (values == np.rint(values)).all()
    return values.astype(np.int64) if whole else values
