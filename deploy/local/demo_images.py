"""What the demo learns from: real nuclei where they lie beside the repository, and nuclei that we draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from shared.imaging.drawing import draw_nuclei

REAL_IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "dsb2018" / "train"
LARGEST_SIDE = 700  # px; larger ones would cost the epochs that several small ones are worth
BRIGHT = 110  # median grey value above which an image shows dyes on a bright background

Stain = Literal["fluorescence", "histology"]


def gather(folder: Path, *, bright: int, dark: int, drawn: int, side: int) -> dict[str, Path]:
    """Images and masks by the name they are uploaded under.

    `bright`, `dark`: real images with bright and with dark background, where there are any. `drawn`: images of
    `side × side` px that we draw into `folder`: stained ones beside the real ones, which are mostly fluorescence; of
    both kinds, and as many more as real ones are missing, where there are none.
    """
    stained: list[Stain] = ["histology"] * drawn
    if REAL_IMAGES.is_dir():
        return {**_choose_real(bright=bright, dark=dark), **_draw(folder, stained, side=side)}
    more_stained: list[Stain] = ["histology"] * bright
    fluorescent: list[Stain] = ["fluorescence"] * dark
    return _draw(folder, stained + more_stained + fluorescent, side=side)


def _choose_real(*, bright: int, dark: int) -> dict[str, Path]:
    """Spread evenly over the sorted names, so that all kinds of images take part."""
    of_kind: dict[bool, list[Path]] = {True: [], False: []}
    for path in sorted((REAL_IMAGES / "images").glob("*.png")):
        with Image.open(path) as image:
            if max(image.size) <= LARGEST_SIDE:
                of_kind[bool(np.median(np.asarray(image.convert("RGB"))) > BRIGHT)].append(path)
    chosen = [*_spread(of_kind[True], bright), *_spread(of_kind[False], dark)]
    return {f"{role}/{path.name}": REAL_IMAGES / role / path.name for path in chosen for role in ("images", "masks")}


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    count = min(count, len(paths))
    return [paths[number * len(paths) // count] for number in range(count)]


def _draw(folder: Path, stains: Sequence[Stain], *, side: int) -> dict[str, Path]:
    """The same nuclei each time."""
    drawn: dict[str, Path] = {}
    for number, stain in enumerate(stains):
        image, labels = draw_nuclei(side, side, seed=number, stain=stain)
        for role, picture in (("images", Image.fromarray(image)), ("masks", Image.fromarray(labels))):
            path = folder / f"{role}-{number:03}.png"
            picture.save(path)
            drawn[f"{role}/drawn-{number:03}.png"] = path
    return drawn
