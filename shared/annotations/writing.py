"""Images and masks as files, the same bytes for the same pixels."""

import io
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Pixels
from shared.slides.png import PNG

TILE = (256, 256)
RGB, RGBA = 3, 4


def write_labels(labels: NDArray[Any]) -> bytes:
    """A label image (H, W) as TIFF: tiles, deflate, uint16, or uint32 beyond 65,535 objects."""
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or (labels.size and int(labels.min()) < 0):
        raise ValueError(f"no labels: shape {labels.shape} of {labels.dtype}, from {labels.min()}")
    wide = labels.size and int(labels.max()) > np.iinfo(np.uint16).max
    return _write_tiff(labels.astype(np.uint32 if wide else np.uint16))


def write_classes(classes: Pixels) -> bytes:
    """Class of each pixel (H, W), or a binary mask, as TIFF: tiles, deflate, uint8."""
    if classes.ndim != 2 or classes.dtype != np.uint8:
        raise ValueError(f"no classes: shape {classes.shape} of {classes.dtype}")
    return _write_tiff(classes)


def write_image(plane: Samples) -> bytes:
    """An image (H, W), (H, W, 3) or (H, W, 4) as PNG if its samples are 8 or 16 bits, otherwise as TIFF.

    Colours that are stored as other numbers within 0 … 255, as PanNuke's are, become uint8; of others, 64 bits become
    32, which is what readers of images take.
    """
    plane = _narrow(plane)
    if plane.dtype in (np.uint8, np.uint16) and (plane.ndim == 2 or plane.shape[2] in (RGB, RGBA)):
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(plane)))
    return _write_tiff(plane)


def suffix_of(content: bytes) -> str:
    """`.png` or `.tif`, for the name of a file with this content."""
    return ".png" if content.startswith(PNG) else ".tif"


def _narrow(plane: Samples) -> Samples:
    if plane.dtype.kind == "b":
        return plane.astype(np.uint8) * np.uint8(255)
    if plane.dtype in (np.uint8, np.uint16):
        return plane
    coloured = plane.ndim == 3 and plane.shape[2] in (RGB, RGBA)
    with np.errstate(invalid="ignore"):
        if coloured and plane.size and plane.min() >= 0 and plane.max() <= 255:
            return np.rint(plane).astype(np.uint8)
    if plane.dtype.itemsize <= 4:
        return plane
    if plane.dtype.kind in "iu" and (not plane.size or np.abs(plane.astype(np.float64)).max() < 2**31):
        return plane.astype(np.int32)
    return plane.astype(np.float32)


def _write_tiff(plane: Samples) -> bytes:
    file = io.BytesIO()
    coloured = plane.ndim == 3 and plane.shape[2] in (RGB, RGBA)
    tifffile.imwrite(
        file,
        plane if plane.ndim == 2 or coloured else np.moveaxis(plane, 2, 0),
        tile=TILE,
        compression="zlib",
        photometric="rgb" if coloured else "minisblack",
        planarconfig=None if plane.ndim == 2 or coloured else "separate",
        metadata=None,
        software=False,
    )
    return file.getvalue()
