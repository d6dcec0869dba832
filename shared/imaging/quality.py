"""Whether an image can be relied on: is it sharp, is it overexposed, is it like what the model learnt from.

All figures are of uint8 pixels as they are before a model's own preparation, in training and in segmenting alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.imaging.normalisation import to_rgb
from shared.imaging.tiling import Box, Pixels

SIDE = 512  # px of a window
ACROSS = 3  # windows along an axis, at most: nine in all
CANDIDATES = 16  # along an axis, of which windows with tissue are chosen
OCTAVES = 5  # of detail: of 1, 2, 4, 8 and 16 px
WHITE = 255
ROUNDING = 1 / 12  # variance that rounding to whole grey levels adds

Field = NDArray[np.float32]
Read = Callable[[Box], Pixels]


@dataclass(frozen=True)
class Features:
    """What an image looks like, in a few numbers. Grey is the mean of the channels.

    Details come from a Laplacian pyramid (Burt and Adelson 1983), whose levels split the variance by octaves of size.
    Ratios of them do not change with brightness or contrast, as variances of Laplacians do (Pertuz et al. 2013,
    "Analysis of focus measure operators for shape-from-focus").
    """

    focus: float  # log2 of the share that details of 1 px have in the variance of all of up to 16 px
    saturated: float  # share of pixels of which a channel is 255
    mean: float  # grey levels
    deviation: float  # grey levels
    darkest: float  # 1st percentile, grey levels
    median: float  # grey levels
    brightest: float  # 99th percentile, grey levels
    colour: float  # mean distance of the largest from the smallest channel, grey levels
    red_blue: float  # mean of red − blue, grey levels
    red_green: float  # mean of red − green, grey levels
    detail_2: float  # log2 of the variance of details of 2 px against those of 4 px
    detail_4: float  # … of 4 px against 8 px
    detail_8: float  # … of 8 px against 16 px


FEATURES = tuple(field.name for field in fields(Features))
# By which images are alike. Not focus and saturation, which have flags of their own.
LIKENESS = tuple(name for name in FEATURES if name not in ("focus", "saturated", "mean", "deviation"))


def measure_features(
    read: Read, height: int, width: int, *, is_wanted: Callable[[Box], bool] | None = None
) -> Features:
    """The features of an image, from up to nine windows at full resolution, or all of a small one.

    Args:
        read: gives the pixels (h, w, 1 or 3) of a box inside the image.
        height: of the image, px.
        width: of the image, px.
        is_wanted: whether a box holds what is to be looked at, such as tissue; if no window does, all are looked at.
    """
    seen = _Seen()
    for box in choose_windows(height, width, is_wanted):
        seen.add(read(box))
    return seen.describe()


def choose_windows(height: int, width: int, is_wanted: Callable[[Box], bool] | None = None) -> list[Box]:
    """Up to nine windows of 512 px, or what there is, spread evenly over the image, or over what is wanted of it."""
    if is_wanted is not None and max(height, width) > ACROSS * SIDE:
        wanted = [box for box in _spread(height, width, across=CANDIDATES) if is_wanted(box)]
        if wanted:
            chosen = np.unique(np.linspace(0, len(wanted) - 1, ACROSS**2).round().astype(int))
            return [wanted[place] for place in chosen]
    return _spread(height, width, across=ACROSS)


def _spread(height: int, width: int, *, across: int) -> list[Box]:
    rows, columns = _find_stretches(height, across), _find_stretches(width, across)
    return [Box(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def _find_stretches(length: int, across: int) -> list[tuple[int, int]]:
    if length <= SIDE:
        return [(0, length)]
    count = min(across, -(-length // SIDE))
    middles = [(2 * number + 1) * length // (2 * count) for number in range(count)]
    starts = [min(max(middle - SIDE // 2, 0), length - SIDE) for middle in middles]
    return [(start, start + SIDE) for start in starts]


class _Seen:
    """Sums over the windows of an image."""

    def __init__(self) -> None:
        self._levels = np.zeros(256, dtype=np.int64)  # pixels of each grey level
        self._saturated = 0
        self._colours = np.zeros(3)  # sums of largest − smallest, red − blue, red − green
        self._details = np.zeros(OCTAVES)  # sums of squares, weighed by pixels
        self._pixels = 0

    def add(self, window: Pixels) -> None:
        """Count a window (h, w, 1 or 3)."""
        rgb = to_rgb(window).astype(np.int16)
        grey = ((rgb.sum(axis=2) + 1) // 3).astype(np.uint8)
        most, least = rgb.max(axis=2), rgb.min(axis=2)
        red, green, blue = (rgb[:, :, channel].sum(dtype=np.int64) for channel in range(3))
        self._levels += np.bincount(grey.ravel(), minlength=256)
        self._saturated += int(np.count_nonzero(most == WHITE))
        self._colours += ((most - least).sum(dtype=np.int64), red - blue, red - green)
        self._details += measure_details(grey.astype(np.float32)) * grey.size
        self._pixels += grey.size

    def describe(self) -> Features:
        levels, count = np.arange(256), self._pixels
        mean = float(self._levels @ levels) / count
        deviation = float(np.sqrt(max(float(self._levels @ levels**2) / count - mean**2, 0.0)))
        places = np.searchsorted(self._levels.cumsum(), np.array([0.01, 0.5, 0.99]) * count)
        details = self._details / count
        noise = ROUNDING / 4.0 ** np.arange(OCTAVES)  # it is averaged away octave by octave
        ratios = np.log2((details + noise)[:-1] / (details + noise)[1:])
        colours = self._colours / count
        focus = np.log2((details[0] + noise[0] / 8) / (details.sum() + noise[0] / 2))
        figures = [focus, self._saturated / count, mean, deviation, *places, *colours, *ratios[1:]]
        return Features(*(round(float(figure), 4) for figure in figures))


def measure_details(grey: Field) -> NDArray[np.float64]:
    """Mean squares of the details of 1, 2, 4, 8 and 16 px in a picture (h, w), squared grey levels."""
    details = np.zeros(OCTAVES)
    for octave in range(OCTAVES):
        smaller = cv2.pyrDown(grey)
        rest = grey - cv2.pyrUp(smaller, dstsize=(grey.shape[1], grey.shape[0]))
        details[octave] = float(np.mean(rest * rest, dtype=np.float64))
        grey = np.asarray(smaller, dtype=np.float32)
    return details


def as_points(features: Sequence[Features]) -> NDArray[np.float64]:
    """Images as points (n, 9), by what makes them alike."""
    rows = [[asdict(each)[name] for name in LIKENESS] for each in features]
    return np.array(rows, dtype=np.float64).reshape(-1, len(LIKENESS))
