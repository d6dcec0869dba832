"""Masks as bytes of files."""

import io
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def blobs(count: int) -> NDArray[np.uint8]:
    """Squares of 6 px, 4 px apart, numbered from 1."""
    values = np.zeros((100, 100), np.uint8)
    for number in range(count):
        top, left = divmod(number, 10)
        values[top * 10 : top * 10 + 6, left * 10 : left * 10 + 6] = number + 1
    return values
