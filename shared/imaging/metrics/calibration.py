"""Whether probabilities are what they say: of the pixels given 0.8, eight in ten should be foreground."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.imaging.masks import LEVELS
from shared.imaging.metrics.pixels import Counts

Shares = NDArray[np.float64]

BINS = 15  # as many as are usual since Guo et al. 2017


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities of the foreground against how often it is there (a reliability diagram, DeGroot, Fienberg 1983)."""

    pixels: NDArray[np.int64]  # (bins,), how many pixels have a probability of that bin
    predicted: Shares  # (bins,), their mean probability, 0 … 1; NaN of an empty bin
    observed: Shares  # (bins,), which share of them is foreground, 0 … 1; NaN of an empty bin
    error: float  # expected calibration error, 0 … 1: mean of |predicted − observed|, weighted by pixels
    brier: float  # mean squared difference of probability and truth, 0 … 1 (Brier 1950)


def calibrate(levels: Counts, *, bins: int = BINS) -> Calibration:
    """From a histogram (2, 256) of `pixels.count_levels`; those of blocks and images add up.

    The expected calibration error of Naeini et al. 2015 in bins of one width, of the probability of the foreground. The
    Brier score is exact. Of no pixels both are 0.
    """
    probabilities = np.arange(LEVELS + 1) / LEVELS
    bin_of = np.minimum((probabilities * bins).astype(np.intp), bins - 1)
    background, foreground = levels.astype(np.float64)

    def add_up(weights: Shares) -> Shares:
        return np.bincount(bin_of, weights=weights, minlength=bins).astype(np.float64)

    pixels, true = add_up(background + foreground), add_up(foreground)
    sums = add_up((background + foreground) * probabilities)
    total = max(float(pixels.sum()), 1.0)
    squares = background @ probabilities**2 + foreground @ (1 - probabilities) ** 2
    return Calibration(
        pixels.astype(np.int64),
        _divide(sums, pixels),
        _divide(true, pixels),
        float(np.abs(sums - true).sum()) / total,
        float(squares) / total,
    )


def _divide(sums: Shares, pixels: Shares) -> Shares:
    shares: Shares = np.divide(sums, pixels, out=np.full(pixels.shape, np.nan), where=pixels > 0)
    return shares
