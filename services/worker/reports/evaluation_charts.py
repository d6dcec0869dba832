"""Charts of an evaluation as SVG: curves over thresholds, and probabilities against how often they are right.

What the page's style says is said in attributes as well, for programs that apply no style to pictures.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from shared.imaging.masks import LEVELS
from shared.imaging.metrics.calibration import Calibration
from shared.imaging.metrics.pixels import Sweep

WIDTH, HEIGHT = 480, 300
LEFT, BOTTOM, TOP, RIGHT = 46, 40, 10, 12  # margins
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
KINDS = ("first", "second")  # of lines, by model
COLOURS = {"first": "#0072b2", "second": "#b35900"}

Points = Sequence[tuple[float, float]]


def draw_thresholds(sweeps: Sequence[tuple[str, Sweep, float | None]]) -> Markup:
    """IoU over thresholds: of each model the mean over images and, thin, that of all pixels pooled.

    `sweeps`: title, curve, and the threshold that was used, marked by a line of its own; None of a model that chooses
    between classes by none.
    """
    drawn = Markup("")
    for kind, (_, sweep, used) in zip(KINDS, sweeps, strict=False):
        drawn += _line(_curve(sweep.pooled_ious), f"{kind} thin")
        drawn += _line(_curve(sweep.mean_ious), kind) + _mark(used, kind)
    return _frame("IoU over thresholds", "IoU of the foreground for each threshold", ("threshold", "IoU"), drawn)


def draw_f1(sweeps: Sequence[tuple[str, Sweep, float | None]]) -> Markup:
    """F1 over thresholds, the mean over images; `sweeps` as above."""
    drawn = Markup("")
    for kind, (_, sweep, used) in zip(KINDS, sweeps, strict=False):
        drawn += _line(_curve(sweep.mean_f1s), kind) + _mark(used, kind)
    return _frame("F1 over thresholds", "Mean F1 of the foreground for each threshold", ("threshold", "F1"), drawn)


def draw_reliability(calibrations: Sequence[tuple[str, Calibration]]) -> Markup:
    """How often pixels of a probability are foreground; on the diagonal, as often as the probability says."""
    drawn = _line([(0.0, 0.0), (1.0, 1.0)], "ideal")
    for kind, (_, found) in zip(KINDS, calibrations, strict=False):
        filled = np.flatnonzero(found.pixels)
        points = [(float(found.predicted[k]), float(found.observed[k])) for k in filled]
        drawn += _line(points, kind) + Markup("").join(_dot(point, kind) for point in points)
    axes = "probability", "share that is foreground"
    return _frame("Calibration", "Share of foreground among pixels of each probability", axes, drawn)


def _curve(values: NDArray[np.float64]) -> Points:
    return [(level / LEVELS, float(value)) for level, value in enumerate(values)]


def _place(point: tuple[float, float]) -> tuple[float, float]:
    across, up = point
    return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + (1 - up) * (HEIGHT - TOP - BOTTOM)


def _line(points: Points, kind: str) -> Markup:
    placed = " ".join("{:.1f},{:.1f}".format(*_place(point)) for point in points)
    colour = COLOURS.get(kind.split(maxsplit=1)[0], "grey")
    return Markup('<polyline class="curve {}" fill="none" stroke="{}" points="{}"/>').format(kind, colour, placed)


def _mark(threshold: float | None, kind: str) -> Markup:
    return Markup("") if threshold is None else _line([(threshold, 0.0), (threshold, 1.0)], f"{kind} used")


def _dot(point: tuple[float, float], kind: str) -> Markup:
    return Markup('<circle class="dot {}" fill="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(
        kind, COLOURS[kind], *_place(point)
    )


def _frame(title: str, description: str, axes: tuple[str, str], content: Markup) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}{}</svg>'
    ).format(WIDTH, HEIGHT, title, description, _draw_axes(axes), content)


def _draw_axes(names: tuple[str, str]) -> Markup:
    """A grid with numbers from 0 to 1 both ways."""
    drawn = Markup("")
    for tick in TICKS:
        for ends in (((tick, 0.0), (tick, 1.0)), ((0.0, tick), (1.0, tick))):
            (left, top), (right, bottom) = map(_place, ends)
            drawn += Markup(
                '<line class="axis" stroke="lightgrey" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            ).format(left, top, right, bottom)
        across, base = _place((tick, 0.0))
        drawn += _write(across, base + 16, f"{tick:g}", "middle")
        edge, up = _place((0.0, tick))
        drawn += _write(edge - 6, up + 4, f"{tick:g}", "end")
    middle, low = _place((0.5, 0.0))
    return drawn + _write(middle, low + 34, names[0], "middle") + _write(LEFT + 6, TOP + 14, names[1], "start")


def _write(left: float, top: float, text: str, anchor: str) -> Markup:
    return Markup('<text text-anchor="{}" font-size="12" x="{:.1f}" y="{:.1f}">{}</text>').format(
        anchor, left, top, text
    )
