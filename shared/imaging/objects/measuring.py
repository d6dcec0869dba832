"""From figures that add up to the figures of finished objects."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.imaging.objects.pieces import Pieces
from shared.imaging.objects.shapes import fit_ellipses, measure_hulls, measure_perimeters
from shared.imaging.objects.table import Column, ObjectTable


@dataclass(frozen=True)
class Legend:
    """What the figures of an image mean."""

    classes: tuple[str, ...]  # their names, background first
    channels: tuple[str, ...]  # names of the image's, as in the names of columns
    mpp: float | None = None  # µm per pixel
    border_class: int | None = None  # class of the pixels between objects: no object is of it


def finish(pieces: Pieces, legend: Legend, *, labels: NDArray[np.uint32], nearest: NDArray[np.float64]) -> ObjectTable:
    """The table of finished objects. `labels` (n,) ascend; `nearest` (n,) is the way to the next centroid, px, or NaN.

    Raises:
        ValueError: the labels do not ascend, or the legend does not fit the pieces.
    """
    if np.any(labels[1:] <= labels[:-1]):
        raise ValueError("the labels of a table ascend: take the pieces in the order of their labels")
    columns = {"label": labels.astype(np.uint32), **describe(pieces, legend), "nearest_px": nearest.astype(np.float64)}
    if legend.mpp is not None:
        columns |= _to_microns(columns, legend.mpp)
    return ObjectTable(columns, pieces.outlines)


def describe(pieces: Pieces, legend: Legend) -> dict[str, Column]:
    """The columns of `ObjectTable` in pixels, in its order, but for the label and the nearest: (n,) each.

    The perimeter is Crofton's; solidity is the area by that of the hull of the outline; the ellipse is that of
    `shapes.Ellipses`: orientation in degrees from the x axis to the longer axis, anticlockwise as seen, −90 < … ≤ 90.

    Raises:
        ValueError: the legend names other numbers of classes or channels than the pieces have.
    """
    found = pieces.votes.shape[1], pieces.sums.shape[1]
    if found != (len(legend.classes), len(legend.channels)):
        raise ValueError(f"{found[0]} classes and {found[1]} channels were measured, but others are named: {legend}")
    ellipses = fit_ellipses(pieces.areas, pieces.moments)
    top, left, bottom, right = pieces.boxes.T
    return {
        **_classify(pieces, legend),
        "centroid_x_px": ellipses.centroids[:, 0],
        "centroid_y_px": ellipses.centroids[:, 1],
        "left_px": left,
        "top_px": top,
        "right_px": right,
        "bottom_px": bottom,
        "area_px2": pieces.areas,
        "perimeter_px": measure_perimeters(pieces.outlines),
        "equivalent_diameter_px": np.sqrt(4 / np.pi * pieces.areas),
        "eccentricity": ellipses.eccentricities,
        "solidity": pieces.areas / measure_hulls(pieces.outlines),
        "orientation_deg": ellipses.orientations,
        **_describe_channels(pieces, legend.channels),
    }


def locate(pieces: Pieces) -> NDArray[np.float64]:
    """The centroids (n, 2), x and y, px: what the distances to the nearest are found from."""
    return fit_ellipses(pieces.areas, pieces.moments).centroids


def _classify(pieces: Pieces, legend: Legend) -> dict[str, Column]:
    """An object's class is that of most of its pixels, of equals the more probable one, then the first.

    Pixels of the background and of the border class have no vote; if there are no others, the most probable class wins.
    """
    choices = np.array([index for index in range(1, len(legend.classes)) if index != legend.border_class])
    is_single = pieces.planes.shape[1] == 1
    sums = pieces.planes if is_single else pieces.planes[:, choices]
    votes = pieces.votes[:, choices]
    winners = np.where(votes == votes.max(axis=1, keepdims=True), sums, -1).argmax(axis=1)
    full = 255 * pieces.areas
    foreground = pieces.planes[:, 0] if is_single else full - pieces.planes[:, 0]
    return {
        "class": np.array(legend.classes)[choices[winners]],
        "class_probability": np.take_along_axis(sums, winners[:, None], axis=1)[:, 0] / full,
        "probability": foreground / full,
    }


def _describe_channels(pieces: Pieces, channels: tuple[str, ...]) -> dict[str, Column]:
    """Mean, standard deviation (of the pixels, not of a sample), lowest and highest value; NaN where none has one."""
    has_value = pieces.counts > 0
    counts = np.where(has_value, pieces.counts, np.nan)
    means = pieces.sums / counts
    variances = np.where(pieces.lows == pieces.highs, 0, np.maximum(pieces.squares / counts - means * means, 0))
    figures = {
        "mean": means,
        "std": np.sqrt(np.where(has_value, variances, np.nan)),
        "min": np.where(has_value, pieces.lows, np.nan),
        "max": np.where(has_value, pieces.highs, np.nan),
    }
    return {
        f"{figure}_{name}": columns[:, channel]
        for channel, name in enumerate(channels)
        for figure, columns in figures.items()
    }


def _to_microns(columns: Mapping[str, Column], mpp: float) -> dict[str, Column]:
    """The columns in µm and µm² that stand for those in px."""
    lengths = ("perimeter", "equivalent_diameter", "nearest")
    return {
        **{f"centroid_{axis}_um": columns[f"centroid_{axis}_px"] * mpp for axis in ("x", "y")},
        "area_um2": columns["area_px2"] * mpp**2,
        **{f"{length}_um": columns[f"{length}_px"] * mpp for length in lengths},
    }
