"""Steps that look at the pixels around each: the median filter."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from shared.imaging.steps.views import Facts, ImageStep, Read, View
from shared.imaging.tiling import Box, Pixels, mirror_read

AT_ONCE = 2**17  # values; a window's worth of them stays in the processor's caches


@dataclass(frozen=True)
class Median(ImageStep):
    """The median of the (2 radius + 1)² px around each pixel, each channel for itself.

    Beyond the image's border lies its mirror image; the border pixel itself is not doubled.
    """

    radius: int = 1

    def reader(self, view: View, facts: Facts) -> Read:  # noqa: ARG002
        frame = view.frame

        def read(box: Box) -> Pixels:
            around = mirror_read(view.read, box.grow(self.radius), height=frame.height, width=frame.width)
            return find_medians(around, self.radius)

        return read


def find_medians(pixels: Pixels, radius: int) -> Pixels:
    """(h, w, C) → (h − 2 radius, w − 2 radius, C): the medians of all windows that lie inside.

    The same few comparisons for all pixels at once, whatever their values: of bytes, a processor makes some fifty in
    one instruction.
    """
    side = 2 * radius + 1
    height, width, channels = (pixels.shape[0] - 2 * radius, pixels.shape[1] - 2 * radius, pixels.shape[2])
    result = np.empty((height, width, channels), dtype=np.uint8)
    step = max(AT_ONCE // (width * channels), 1)
    for top in range(0, height, step):
        rows = min(step, height - top)
        values = [
            pixels[top + down : top + down + rows, across : across + width]
            for down in range(side)
            for across in range(side)
        ]
        for low, high, wants_low, wants_high in _find_comparisons(side * side):
            first, second = values[low], values[high]
            if wants_low:
                values[low] = np.minimum(first, second)
            if wants_high:
                values[high] = np.maximum(first, second)
        result[top : top + rows] = values[side * side // 2]
    return result


@cache
def _find_comparisons(count: int) -> list[tuple[int, int, bool, bool]]:
    """Which values to compare, so that the median comes to lie in the middle: those of a sort that it depends on.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M). Each comparison: two places,
    and whether the smaller value is wanted in the first and the larger in the second of them.
    """
    needed, kept = {count // 2}, list[tuple[int, int, bool, bool]]()
    for low, high in reversed(_sort(count)):
        if low in needed or high in needed:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return kept[::-1]


def _sort(count: int) -> list[tuple[int, int]]:
    comparisons = list[tuple[int, int]]()
    largest = 2 ** ((count - 1).bit_length() - 1)
    part = largest
    while part:
        distance, remainder, width = part, 0, largest
        while True:
            comparisons += [(i, i + distance) for i in range(count - distance) if i & part == remainder]
            if width == part:
                break
            distance, remainder, width = width - part, part, width // 2
        part //= 2
    return comparisons
