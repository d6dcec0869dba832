"""The history as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from services.trainer.history import Epoch

_WIDTH, _HEIGHT, _DPI = 12.0, 4.2, 100  # inches; 1200 × 420 px

# Vermilion and blue, which colour-blind readers tell apart: Okabe and Ito 2008.
_COLOURS = {"train": "#D55E00", "validation": "#0072B2"}
_INK = "#333333"
_FAINT = "#999999"

_FEW = 30  # epochs; so few are marked one by one
_CLOSEST = 0.13  # of the axis' height; labels of two lines nearer to each other would overlap


@dataclass(frozen=True)
class _Measure:
    """What one of the axes shows: the fields `train_<name>` and `validation_<name>`."""

    name: str
    title: str
    bounded: bool = True  # 0 … 1, more is better


_MEASURES = (_Measure("loss", "Loss", bounded=False), _Measure("dice", "Dice"), _Measure("iou", "IoU"))


def draw_curves(history: Sequence[Epoch], best: Epoch) -> bytes:
    """PNG, 1200 × 420 px: loss, Dice and IoU of training and validation, side by side, the best epoch marked.

    The same history gives the same bytes. Safe in any thread: nothing of matplotlib's global state is used.

    Raises:
        ValueError: there is no epoch to draw.
    """
    if not history:
        raise ValueError("a history without epochs has no curves")
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.03)
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"◆ best validation Dice {best.validation_dice:.3f} in epoch {best.epoch} of {history[-1].epoch}",
        fontsize=14,
        color=_INK,
    )
    for axes, measure in zip(figure.subplots(1, len(_MEASURES)), _MEASURES, strict=True):
        _draw(axes, measure, history, best)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()


def _draw(axes: Axes, measure: _Measure, history: Sequence[Epoch], best: Epoch) -> None:
    epochs = np.array([epoch.epoch for epoch in history])
    curves = {side: _read(history, side, measure) for side in _COLOURS}
    _style(axes, measure, epochs)
    _limit(axes, measure, curves)
    axes.axvline(best.epoch, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for side, values in curves.items():
        marker = "o" if len(epochs) <= _FEW else ""
        width = 3 if side == "train" else 2  # where both are equal, the one below still shows
        axes.plot(epochs, values, color=_COLOURS[side], linewidth=width, marker=marker, markersize=4, zorder=2)
    reached = getattr(best, f"validation_{measure.name}")
    axes.plot(best.epoch, reached, marker="D", markersize=8, color=_COLOURS["validation"], mec="white", zorder=3)
    _label(axes, curves)


def _read(history: Sequence[Epoch], side: str, measure: _Measure) -> NDArray[np.float64]:
    return np.array([getattr(epoch, f"{side}_{measure.name}") for epoch in history], float)


def _style(axes: Axes, measure: _Measure, epochs: NDArray[np.int64]) -> None:
    axes.set_title(measure.title, fontsize=12, color=_INK, loc="left")
    axes.set_xlabel("epoch", fontsize=10, color=_INK)
    axes.tick_params(labelsize=9, color=_FAINT, labelcolor=_INK)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    first, last = int(epochs[0]), int(epochs[-1])
    margin = max(0.03 * (last - first), 0.1)
    axes.set_xlim(first - margin, last + margin)


def _limit(axes: Axes, measure: _Measure, curves: dict[str, NDArray[np.float64]]) -> None:
    """Dice and IoU end at 1. Losses begin at 0, and a rare leap does not flatten all the rest: it leaves the top."""
    values = np.concatenate(list(curves.values()))
    if measure.bounded:
        lowest = np.clip(np.floor(10 * values.min() - 0.3) / 10, 0.0, 0.9)
        margin = 0.02 * (1 - lowest)
        axes.set_ylim(lowest - margin, 1 + margin)
        return
    usual = 3 * float(np.percentile(values, 90))
    highest = min(float(values.max()), usual) if usual > 0 else float(values.max())
    highest = highest if highest > 0 else 1.0
    axes.set_ylim(min(0.0, float(values.min())) - 0.02 * highest, 1.08 * highest)
    if values.max() > highest:
        note = axes.text(1, 0.98, f"↑ up to {values.max():.3g}", transform=axes.transAxes, ha="right", va="top")
        note.set(fontsize=9, color=_INK, backgroundcolor="white")


def _label(axes: Axes, curves: dict[str, NDArray[np.float64]]) -> None:
    """Write name and last value beside the end of each curve, instead of a legend."""
    bottom, top = axes.get_ylim()
    heights = [float((values[-1] - bottom) / (top - bottom)) for values in curves.values()]
    place = axes.get_yaxis_transform() + ScaledTranslation(4 / 72, 0, axes.figure.dpi_scale_trans)  # 4 points
    for (side, values), height in zip(curves.items(), _spread(heights), strict=True):
        axes.text(
            1,
            bottom + height * (top - bottom),
            f"{side}\n{values[-1]:.3f}",
            transform=place,
            color=_COLOURS[side],
            fontsize=9,
            va="center",
        )


def _spread(heights: Sequence[float]) -> list[float]:
    """Two heights on an axis, 0 … 1, moved apart if they are too close and into the axis if they are outside."""
    low, high = sorted(min(max(height, 0.0), 1.0) for height in heights)
    if high - low < _CLOSEST:
        middle = min(max((low + high) / 2, _CLOSEST / 2), 1 - _CLOSEST / 2)
        low, high = middle - _CLOSEST / 2, middle + _CLOSEST / 2
    return [low, high] if heights[0] <= heights[1] else [high, low]
