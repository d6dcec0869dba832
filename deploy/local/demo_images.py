"""What the demo segments and learns from: nuclei that we draw, with the number of each in a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PIL import Image

from shared.imaging.drawing import draw_nuclei

FIELD = 768  # px
STAINS: tuple[Literal["fluorescence", "histology"], ...] = ("fluorescence", "histology")


def draw_field(folder: Path) -> Path:
    """A field of view for the demo to segment, `FIELD × FIELD` px of fluorescent nuclei; the same each time."""
    image, _ = draw_nuclei(FIELD, FIELD, seed=7, stain="fluorescence")
    path = folder / "drawn-nuclei.png"
    Image.fromarray(image).save(path)
    return path


def draw(folder: Path, *, count: int, side: int, first: int = 0) -> dict[str, Path]:
    """Images of `side × side` px and their masks in `folder`, by the name they are uploaded under.

    Half of them dark with bright nuclei, half bright with dark ones; the same each time. `first`: number of the first.
    """
    drawn: dict[str, Path] = {}
    for number in range(first, first + count):
        image, labels = draw_nuclei(side, side, seed=number, stain=STAINS[number % 2])
        for role, picture in (("images", Image.fromarray(image)), ("masks", Image.fromarray(labels))):
            path = folder / f"{role}-{number:03}.png"
            picture.save(path)
            drawn[f"{role}/drawn-{number:03}.png"] = path
    return drawn
