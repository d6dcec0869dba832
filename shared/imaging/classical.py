"""Nuclei without learning: what a laboratory gets from a threshold, to compare a network with.

Otsu's threshold (1979) of the brightness; where light went through stained tissue, of the haematoxylin, told from other
stains by colour deconvolution (Ruifrok and Johnston 2001). Two facts are found once, in a sample of the image; then any
part of it is cut by itself, pixel by pixel, so that parts and whole agree exactly.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from shared.imaging.drawing import DAB, EOSIN, HAEMATOXYLIN
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.stain import LAMP
from shared.imaging.tiling import Pixels

Method = Literal["bright", "dark", "haematoxylin"]
Tables = NDArray[np.int32]
Reals = NDArray[np.float64]

COLOURFUL = 4.0  # grey levels between the channels of a pixel, on average, from which an image is in colour
LIT = 90.0  # grey level that half of an image in transmitted light exceeds; no fluorescence does
STEPS = 2**16  # of a grey level or an amount of stain: terms are rounded so, and their sums are exact
BINS = 256
# Least contrast between what is found and what is not: sensors' noise of 3 grey levels parts by 4.9 and 0.05. Of 400
# images of the 2018 Data Science Bowl none has less than 13.6 and 0.31; of 432 patches of CoNSeP four have 0.09 … 0.13,
# with 1 … 3 % of nuclei, where the threshold took 16 … 28 % for them.
FAINTEST_GREY, FAINTEST_STAIN = 5.0, 0.15  # grey levels, amount of haematoxylin
UNREACHED = 1024.0  # no grey level and no amount: of an even image nothing is found
HIGHEST = 99.0  # percentile of the amounts of stain beyond which there is dirt
# A threshold alone leaves specks: every textbook pipeline cleans them away. Sizes that hold for nuclei at 20× and 40×.
RULES = ObjectRules(threshold=0.5, median=1, fill_holes=64, min_area=30)


@dataclass(frozen=True)
class Baseline:
    """How the foreground of one image is found."""

    method: Method  # what nuclei are: bright, dark, or rich in haematoxylin
    threshold: float  # grey levels, or amount of haematoxylin

    def as_json(self) -> dict[str, Any]:
        """As it is kept with an image."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """What `as_json` wrote."""
        return cls(**stored)


def plan_baseline(sample: Pixels) -> Baseline:
    """How an image is cut, from RGB pixels (h, w, 3) that stand for all of it; see `sampling.read_sample`.

    Without colour, nuclei are whichever side of the threshold has fewer pixels: they cover less than half of nearly
    every image, whether they are bright on dark or dark on bright. In what is even but for noise there are none.

    Raises:
        ValueError: the sample is not RGB.
    """
    if sample.ndim != 3 or sample.shape[2] != 3:
        raise ValueError(f"a sample is RGB (h, w, 3), not {sample.shape}")
    grey = sample.mean(axis=2)
    if float(np.median(grey)) >= LIT and float(np.ptp(sample.astype(np.int16), axis=2).mean()) >= COLOURFUL:
        return _plan_haematoxylin(sample)
    threshold = find_otsu(grey.ravel(), low=0, high=256)
    if _find_contrast(grey, threshold) < FAINTEST_GREY:
        return Baseline("bright", UNREACHED)
    bright = 2 * np.count_nonzero(grey >= threshold) <= grey.size
    return Baseline("bright" if bright else "dark", threshold)


def apply_baseline(pixels: Pixels, baseline: Baseline) -> Pixels:
    """RGB pixels (h, w, 3), any part of the image → "probabilities" (1, h, w): 255 where there is a nucleus, else 0."""
    found = _measure(pixels, baseline.method) >= round(baseline.threshold * STEPS)
    if baseline.method == "dark":
        found = ~found
    return np.where(found, np.uint8(255), np.uint8(0))[None]


def find_otsu(values: Reals, *, low: float, high: float) -> float:
    """The threshold that parts values best into two classes, by the variance between them (Otsu 1979, eq. 18).

    In 256 bins from `low` to `high`; of several that part equally well the middle one. What reaches it is the upper
    class. Where all values are in one bin, nothing reaches it.
    """
    counts, edges = np.histogram(values, bins=BINS, range=(low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = counts.cumsum()[:-1].astype(np.float64), (counts * centres).cumsum()[:-1]
    above, total = counts.sum() - below, float(counts @ centres)
    parted = (below > 0) & (above > 0)
    if not parted.any():
        return high
    between = np.zeros(BINS - 1)
    apart = sums[parted] / below[parted] - (total - sums[parted]) / above[parted]
    between[parted] = below[parted] * above[parted] * apart**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[best[best.size // 2] + 1])


def _plan_haematoxylin(sample: Pixels) -> Baseline:
    amounts = _measure(sample, "haematoxylin").ravel() / STEPS
    most = max(float(np.percentile(amounts, HIGHEST)), 1e-6)
    threshold = find_otsu(np.clip(amounts, 0, most), low=0, high=most)
    is_faint = _find_contrast(amounts, threshold) < FAINTEST_STAIN  # glass, or a stain without haematoxylin
    return Baseline("haematoxylin", UNREACHED if is_faint else threshold)


def _find_contrast(values: Reals, threshold: float) -> float:
    """By how much the mean of what reaches the threshold exceeds the mean of the rest; 0 without one of them."""
    reaches = values >= threshold
    if reaches.all() or not reaches.any():
        return 0.0
    return float(values[reaches].mean() - values[~reaches].mean())


def _measure(pixels: Pixels, method: Method) -> Tables:
    """What is compared with the threshold (h, w), in STEPS: the mean of the channels, or the amount of haematoxylin.

    Sums of whole numbers: what becomes of a pixel never depends on which others it is computed with.
    """
    red, green, blue = _tabulate(method)
    total: Tables = red.take(pixels[..., 0])
    total += green.take(pixels[..., 1])
    total += blue.take(pixels[..., 2])
    return total


@cache
def _tabulate(method: Method) -> Tables:
    """What a value of red, green or blue adds, (3, 256), in STEPS."""
    values = np.arange(256)
    terms = np.stack([values / 3] * 3)
    if method == "haematoxylin":
        stains = np.stack([HAEMATOXYLIN, EOSIN, DAB])
        unmixing = np.linalg.inv(stains / np.linalg.norm(stains, axis=1, keepdims=True))
        terms = unmixing[:, :1] * -np.log((values + 1) / LAMP)
    return np.rint(terms * STEPS).astype(np.int32)
