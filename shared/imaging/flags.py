"""Warnings about an image: each says what was measured, what is usual, and what mends it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from shared.imaging.familiarity import Known, find_distance, find_reach
from shared.imaging.quality import Features
from shared.imaging.tiling import Pixels

# Chosen on the 402 + 134 images of the 2018 Data Science Bowl: docs/results.md has the rates.
BLURRED = -7.0  # focus that no sharp image fell below: a 128th of the contrast
BELOW_USUAL = 0.1, 0.125  # log2, of focus and of details of 2 px, below the first percentile of what was learnt from
FEW = 4.0  # divided by the images that were learnt from, more than that below: of few the percentile is uncertain
OVEREXPOSED = 0.01  # share of pixels, of an image on dark ground
ABOVE_USUAL = 0.005, 0.1  # share of pixels above the 99th percentile, of images on dark and on bright ground
BRIGHT = 128.0  # median grey level of an image on bright ground: white glass is not overexposed
UNSURE = (64, 191)  # probabilities × 255 that are neither: from a quarter to three quarters
DOUBTFUL = 0.6  # share of what was found
LEAST = 100  # px; less says nothing

NAMES = {  # of features, as people call them
    "darkest": "darkest grey level",
    "median": "median grey level",
    "brightest": "brightest grey level",
    "colour": "strength of colour",
    "red_blue": "hue, red against blue",
    "red_green": "hue, red against green",
    "detail_2": "detail of 2 px, against that of 4 px",
    "detail_4": "detail of 4 px, against that of 8 px",
    "detail_8": "detail of 8 px, against that of 16 px",
}


@dataclass
class Confidence:
    """How sure the model was, in sums over pixels: whichever way an image is cut into blocks, they are the same."""

    sure: int = 0  # px of objects
    unsure: int = 0  # px that may be of objects

    def add(self, planes: Pixels) -> None:
        """Count the probabilities (C, h, w) of a block.

        One plane: the foreground's probability. More: what may be foreground is sure if one class is.
        """
        low, high = UNSURE
        if planes.shape[0] == 1:
            counts = np.bincount(planes.ravel(), minlength=256)
            self.unsure += int(counts[low : high + 1].sum())
            self.sure += int(counts[high + 1 :].sum())
            return
        found = planes[0] <= high  # the background is not sure
        sure = found & (planes[1:].max(axis=0) > high)
        self.sure += int(np.count_nonzero(sure))
        self.unsure += int(np.count_nonzero(found) - np.count_nonzero(sure))

    @property
    def doubt(self) -> float | None:
        """Share of what was found that is unsure; None if that is next to nothing."""
        found = self.sure + self.unsure
        return round(self.unsure / found, 4) if found >= LEAST else None


@dataclass(frozen=True)
class Flag:
    """A warning. `text` is for the user: figure, usual range, mend."""

    code: str  # out_of_focus, saturated, unfamiliar or low_confidence
    text: str
    severity: str = "warning"


@dataclass(frozen=True)
class Quality:
    """What was measured of an image, and what of that is unusual."""

    features: Features
    doubt: float | None
    learnt_from: int | None  # images that it was compared with; None: whether it is like them could not be told
    flags: list[Flag] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the image's row."""
        return asdict(self)


def find_flags(features: Features, confidence: Confidence, familiar: Known | None, name: str) -> Quality:
    """The flags of the image called `name`.

    `familiar`: what the images look like that the model learnt from; without it, focus and saturation are judged by
    absolute limits, and likeness cannot be.
    """
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: _find_blur(features, familiar),
        lambda: _find_saturation(features, familiar),
        lambda: _find_unlikeness(features, familiar),
        lambda: _find_doubt(confidence),
    )
    codes = ("out_of_focus", "saturated", "unfamiliar", "low_confidence")
    found = [(code, check()) for code, check in zip(codes, checks, strict=True)]
    flags = [Flag(code, f"{name}: {text}") for code, text in found if text is not None]
    return Quality(features, confidence.doubt, None if familiar is None else familiar.images, flags)


def _find_blur(features: Features, familiar: Known | None) -> str | None:
    limit, told = BLURRED, "sharp images have"
    if familiar is not None:
        below = [margin + FEW / familiar.images for margin in BELOW_USUAL]
        limit, told = familiar.quantiles["focus"][0] - below[0], "those that the model learnt from have"
        coarser = familiar.quantiles["detail_2"][0] - below[1]
        if features.focus >= limit and features.detail_2 < coarser:  # noise looks like fine detail
            return (
                f"out of focus: its details of 2 px vary {2**features.detail_2:.2g} times as much as those of 4 px, "
                f"{told} {2**coarser:.2g} or more; take the picture again, or leave it out"
            )
    if features.focus >= limit:
        return None
    return (
        f"out of focus: {2**features.focus:.2%} of its contrast are details of 1 px, {told} {2**limit:.2%} or more; "
        "take the picture again, or leave it out"
    )


def _find_saturation(features: Features, familiar: Known | None) -> str | None:
    bright = features.median >= BRIGHT
    usual = None if familiar is None else familiar.quantiles["saturated"][-1] + ABOVE_USUAL[bright]
    limit = 1.0 if bright and usual is None else max(OVEREXPOSED, usual or 0.0)
    if features.saturated <= limit:
        return None
    return (
        f"overexposed: {features.saturated:.1%} of its pixels are at the highest value, usual is {limit:.1%} at most; "
        "what touches cannot be told apart there; take the picture again with a shorter exposure"
    )


def _find_unlikeness(features: Features, familiar: Known | None) -> str | None:
    if familiar is None:
        return None
    distance, most = find_distance(features, familiar)
    reach = find_reach(familiar)
    if distance <= reach:
        return None
    usual = familiar.quantiles[most]
    figure = asdict(features)[most]
    value, low, high = (_show(most, each) for each in (figure, usual[0], usual[-1]))
    inside = usual[0] <= figure <= usual[-1]
    told = "which is usual, but not with all the rest" if inside else f"where theirs are {low} … {high}"
    return (
        f"unlike each of the images that the model learnt from ({distance / reach:.3g} times as far from the nearest "
        f"as 99 % of these are from one another), most in its {NAMES[most]}: {value}, {told}; look at its result, and "
        "train the model on such images if it is wrong"
    )


def _show(name: str, figure: float) -> str:
    """The figure of a feature; of details, how many times they are what coarser ones are."""
    return f"{2**figure:.2g} ×" if name.startswith("detail") else f"{figure:.3g}"


def _find_doubt(confidence: Confidence) -> str | None:
    doubt = confidence.doubt
    if doubt is None or doubt <= DOUBTFUL:
        return None
    return (
        f"the model is unsure: {doubt:.0%} of what it found has a probability between 25 and 75 %, usual is "
        f"{DOUBTFUL:.0%} at most; look at its result, and train the model on such images if it is wrong"
    )
