"""Thumbnails: an image as small as a list of images needs it."""

from io import BytesIO

import numpy as np
from PIL import Image

from shared.imaging.tiling import Pixels

SIDE = 256  # px at most
QUALITY = 85  # of JPEG, in percent
FULL_COLOUR = 0  # as many samples of colour as of brightness: JPEG would blur thin coloured lines otherwise


def encode_thumbnail(pixels: Pixels) -> bytes:
    """A JPEG of a picture (h, w, 3), whose size is kept."""
    target = BytesIO()
    Image.fromarray(pixels).save(target, "JPEG", quality=QUALITY, subsampling=FULL_COLOUR)
    return target.getvalue()


def decode_thumbnail(content: bytes) -> Pixels:
    """The picture (h, w, 3) of such a JPEG."""
    with Image.open(BytesIO(content), formats=["JPEG"]) as image:
        return np.array(image.convert("RGB"))
