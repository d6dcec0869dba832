"""Pictures to measure on: real tissue where there is some, drawn nuclei elsewhere."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from shared.imaging.drawing import draw_nuclei
from shared.imaging.tiling import Box, Pixels, read_mirrored
from shared.slides import open_slide

SLIDE = "slides/CMU-1-Small-Region.svs"
FORMATS = ("tiff", "png")
DRAWN_SIDE = 1024  # px
STEP = 131  # px between the pictures of one source: each is a file of its own to the platform


def load_source(data: Path) -> tuple[str, Pixels]:
    """What to show a reader, and an image (H, W, 3): the slide in `data`, or a drawing if there is none."""
    path = data / SLIDE
    if not path.exists():
        return "drawn nuclei", draw_nuclei(DRAWN_SIDE, DRAWN_SIDE, seed=0, stain="histology")[0]
    with open_slide(path) as slide:
        return f"{path.name}, mirrored", slide.read(Box(0, 0, slide.height, slide.width))


def take_picture(source: Pixels, size: int, number: int) -> Pixels:
    """Picture `number` (size, size, 3): the source, mirrored as often as it takes."""
    corner = number * STEP
    return read_mirrored(source, Box(corner, corner, corner + size, corner + size))


def save_picture(picture: Pixels, path: Path) -> None:
    """As scanners do, in JPEG tiles of 256 px, if the name ends in `.tiff`; as a PNG if it ends in `.png`."""
    if path.suffix == ".tiff":
        tifffile.imwrite(
            path, picture, tile=(256, 256), compression="jpeg", compressionargs={"level": 90}, photometric="rgb"
        )
    else:
        Image.fromarray(np.asarray(picture)).save(path, compress_level=1)
