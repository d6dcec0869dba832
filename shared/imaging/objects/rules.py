"""By which rules objects are told apart."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["watershed", "components"]


@dataclass(frozen=True)
class ObjectRules:
    """Of one model, or one order. Lengths are pixels of the image.

    The foreground is found as in a mask: one plane, or two, from `threshold` on; more planes by the most probable
    class. It is cleaned (median, closing, holes), and split where it is narrow: `watershed` climbs from every pixel to
    the top of its smoothed distance from the outline; `components` leaves together what is connected.
    """

    threshold: float  # probability, 0 … 1
    method: Method = "watershed"
    seed_threshold: float | None = None  # probability from which a pixel is surely inside; None: `threshold`
    border_class: int | None = None  # class of the pixels between objects: they belong to one, but begin none
    median: int = 0  # radius, px
    closing: int = 0  # radius, px
    fill_holes: int = 0  # px² of the largest hole that is filled
    farthest: int = 64  # px; what lies deeper than this in an object counts as this deep
    smoothing: float = 1.0  # σ of the heights, px
    # By how much a top must stand out of the saddle to the next to be an object of its own: so many px at least, and
    # this share of its distance from the outline.
    depth: float = 0.3
    relative_depth: float = 0.06
    min_area: int = 1  # px²
    max_area: int | None = None  # px²
