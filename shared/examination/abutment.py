"""Tiles that were cut from one image side by side: the last line of one goes on in the first line of the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.spatial import cKDTree

from shared.examination.fingerprints import Border
from shared.examination.portraits import Gallery

Field = NDArray[np.float32]
Numbers = NDArray[np.int64]

SEAMLESS = 0.9  # concordance of two lines from which on they may be neighbours; chance rarely reaches it
LEAD = 0.6  # the best match must be off by less than this share of what the next best is off by
FLAT = 1.5  # grey levels, standard deviation below which a line shows nothing
SHORTEST = 32  # px of a line; shorter ones are alike by chance
LOWEST = 12  # frequencies that make a point, beside the mean
NEIGHBOURS = 6  # of a line that are compared with it
# How far from a line, in its standard deviations, those lie whose concordance is 1 − (1 − SEAMLESS) / LEAD = 5/6 or
# more. With e = 1/6 and deviations a and b: distance² ≤ e (a² + b² + distance²), b ≤ a + distance; solved for distance.
REACH = 1.0
CHUNK = 2048  # lines worked on at once


@dataclass(frozen=True)
class Abutment:
    """Two images by their number: `second` lies right or below of `first`. `concordance` 0.9 … 1 of the lines there."""

    first: int
    second: int
    side: Literal["right", "below"]
    concordance: float


@dataclass(frozen=True, eq=False)
class _Lines:
    """One border of several images, in grey levels."""

    numbers: Numbers  # (n,) of the images
    centred: Field  # (n, 128), mean taken off
    means: Field  # (n,)
    deviations: Field  # (n,)

    def points(self, rows: Numbers | slice = slice(None)) -> Field:
        """(n, 13): mean and lowest cosine coefficients, so that no two lines are closer, per sample, than these."""
        waves = dct(self.centred[rows], axis=1, norm="ortho")[:, 1 : LOWEST + 1]
        waves /= np.sqrt(self.centred.shape[1])
        return np.concatenate([self.means[rows, None], waves], axis=1, dtype=np.float32)


def find_abutting(gallery: Gallery, *, check: Callable[[], None]) -> list[Abutment]:
    """Pairs of images that continue each other, of those not turned against each other.

    A match counts if it is the best for both of its lines, and clearly better than the next. `check` is called now and
    then, and may raise to break it off.
    """
    found: list[Abutment] = []
    ways: list[tuple[Literal["right", "below"], Border, Border, int]] = [
        ("below", Border.BOTTOM, Border.TOP, 1),
        ("right", Border.RIGHT, Border.LEFT, 0),
    ]
    for side, last, first, axis in ways:
        for numbers in _group_by_length(gallery, axis):
            ends, starts = _read_lines(gallery, numbers, last), _read_lines(gallery, numbers, first)
            for one, other, concordance in _match(ends, starts, check):
                found.append(Abutment(one, other, side, concordance))
    return sorted(found, key=lambda one: (one.first, one.second))


def _group_by_length(gallery: Gallery, axis: int) -> Iterator[Numbers]:
    """Images whose lines are equally long: heights (axis 0) or widths (axis 1)."""
    lengths = gallery.sizes[gallery.distinct, axis]
    for length in np.unique(lengths[lengths >= SHORTEST]):
        yield gallery.distinct[lengths == length]


def _read_lines(gallery: Gallery, numbers: Numbers, border: Border) -> _Lines:
    """That border of the images where it shows something."""
    values = gallery.borders[numbers, border].astype(np.float32)
    means = values.mean(axis=1)
    values -= means[:, None]
    deviations = np.sqrt((values**2).mean(axis=1))
    shown = deviations >= FLAT
    return _Lines(numbers[shown], values[shown], means[shown], deviations[shown])


def _match(ends: _Lines, starts: _Lines, check: Callable[[], None]) -> Iterator[tuple[int, int, float]]:
    """Last line of one image, first line of another, as image numbers, and how well they agree."""
    if not len(ends.numbers) or not len(starts.numbers):
        return
    onward, agreement = _find_best(ends, np.arange(len(ends.numbers)), starts, check)
    rows = np.flatnonzero(agreement >= SEAMLESS)
    back, certainty = _find_best(starts, onward[rows], ends, check)
    for row in rows[(back == rows) & (certainty >= SEAMLESS)]:
        yield int(ends.numbers[row]), int(starts.numbers[onward[row]]), float(agreement[row])


def _find_best(lines: _Lines, rows: Numbers, among: _Lines, check: Callable[[], None]) -> tuple[Numbers, Field]:
    """For each of `rows` the line that agrees best, and how well; 0 where the next best is nearly as good."""
    best, agreement = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.float32)
    tree = cKDTree(among.points())
    count = min(NEIGHBOURS, len(among.numbers))
    by_reach = np.argsort(lines.deviations[rows])  # lines that look equally far are asked for together
    for start in range(0, len(rows), CHUNK):
        check()
        places = by_reach[start : start + CHUNK]
        chosen = rows[places]
        reach = REACH * float(lines.deviations[chosen[-1]])
        _, near = tree.query(lines.points(chosen), k=np.arange(1, count + 1), distance_upper_bound=reach)
        values = np.pad(_agree(lines, chosen, among, near), ((0, 0), (0, 1)))  # no other: as if one at 0
        first = values.argmax(axis=1)
        ranked = np.sort(values, axis=1)[:, ::-1]
        best[places] = np.pad(near, ((0, 0), (0, 1)))[np.arange(len(chosen)), first] % len(among.numbers)
        agreement[places] = np.where(1 - ranked[:, 0] <= LEAD * (1 - ranked[:, 1]), ranked[:, 0], 0)
    return best, agreement


def _agree(lines: _Lines, rows: Numbers, among: _Lines, near: Numbers) -> Field:
    """(n, k): concordance of each of `rows` with its `near` lines; 0 where there is none, or it is the image itself.

    Lin 1989, "A concordance correlation coefficient to evaluate reproducibility", equation 2: unlike a correlation it
    asks for the same brightness and contrast, which lines a pixel apart have.
    """
    there = near < len(among.numbers)
    near = np.where(there, near, 0)
    covariance = np.einsum("ns,nks->nk", lines.centred[rows], among.centred[near]) / lines.centred.shape[1]
    apart = lines.means[rows][:, None] - among.means[near]
    spread = lines.deviations[rows][:, None] ** 2 + among.deviations[near] ** 2 + apart**2
    itself = among.numbers[near] == lines.numbers[rows][:, None]
    concordance: Field = np.where(there & ~itself, 2 * covariance / spread, 0)
    return concordance
