"""Tiles of an image for a dataset: which there are, and which of them hold something."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np

from shared.imaging.normalisation import to_rgb
from shared.imaging.steps.drawn import DrawnTruth
from shared.imaging.steps.resizing import Resize
from shared.imaging.steps.truth import Truth
from shared.imaging.steps.views import View
from shared.imaging.tiling import Box, Pixels
from shared.imaging.tissue import find_tissue, overview_side, tiles_with_tissue


@dataclass(frozen=True)
class Tiles:
    """How images are cut. The fields are the parameters that `shared.schemas.steps` describes."""

    size: int = 256
    overlap: int = 0
    edge: Literal["inside", "cut", "drop"] = "inside"
    least_foreground: float = 0.0
    only_tissue: bool = False

    def places(self, height: int, width: int) -> Iterator[tuple[str, Box]]:
        """Each tile of an image with what is added to its name, row by row: `_r0_c2` for the third of the first row."""
        rows, columns = self._stretches(height), self._stretches(width)
        for row, (top, bottom) in enumerate(rows):
            for column, (left, right) in enumerate(columns):
                yield f"_r{row}_c{column}", Box(top, left, bottom, right)

    def count(self, height: int, width: int) -> int:
        """Tiles of an image, whatever they hold."""
        return len(self._stretches(height)) * len(self._stretches(width))

    @property
    def chooses(self) -> bool:
        """Whether tiles may be left out for what they hold."""
        return self.least_foreground > 0 or self.only_tissue

    def choose(self, view: View, truth: Truth | DrawnTruth) -> Iterator[tuple[str, Box, Truth]]:
        """Those tiles that hold enough foreground and tissue, with their truths: what is drawn is drawn once.

        Of an image without a mask or without glass, all.
        """
        for suffix, box in self._with_tissue(view):
            part = truth.crop(box)
            foreground = part.foreground
            if foreground is None or float(foreground.mean()) >= self.least_foreground:
                yield suffix, box, part

    def _stretches(self, length: int) -> list[tuple[int, int]]:
        """Along one side, half-open, px."""
        step = self.size - self.overlap
        if length <= self.size:
            is_left_out = self.edge == "drop" and length < self.size
            return [] if is_left_out else [(0, length)]
        count = math.ceil((length - self.size) / step) + 1
        stretches = [(start, start + self.size) for start in range(0, count * step, step)]
        if stretches[-1][1] <= length:
            return stretches
        if self.edge == "drop":
            return stretches[:-1]
        last = length - self.size if self.edge == "inside" else stretches[-1][0]
        return [*stretches[:-1], (last, length)]

    def _with_tissue(self, view: View) -> Iterator[tuple[str, Box]]:
        frame = view.frame
        places = self.places(frame.height, frame.width)
        tissue = find_tissue(read_overview(view)) if self.only_tissue else None
        if tissue is None:
            yield from places
            return
        listed = list(places)
        flags = tiles_with_tissue(tissue, (box for _, box in listed), frame.height, frame.width)
        yield from compress(listed, flags)


def read_overview(view: View) -> Pixels:
    """A view as `find_tissue` wants it: (h, w, 3), averaged down as far as nuclei stay visible."""
    side = overview_side(view.frame.height, view.frame.width)
    scale = min(side / max(view.frame.height, view.frame.width), 1.0)
    step = Resize(scale=scale)
    small = step.over(view, {})
    picture = np.empty((small.frame.height, small.frame.width, 3), dtype=np.uint8)
    for box in small.boxes():
        picture[box.slices()] = to_rgb(small.read(box))
    return picture
