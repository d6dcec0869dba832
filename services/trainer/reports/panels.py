"""Samples beside what a network makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.imaging.tiling import Pixels

_CELL = 256  # px, the longest side of a picture
_GAP = 12  # px, between pictures and around them
_LINE = 24  # px, a line of text with its air
_HEAD = _GAP + 2 * _LINE  # px, the legend and the columns' titles
_TEXT = 15  # px, size of the letters
_INK = (51, 51, 51)

# Okabe and Ito 2008: told apart by colour-blind readers, and bright enough on black.
_ORANGE, _SKY, _PURPLE = (230, 159, 0), (86, 180, 233), (204, 121, 167)
_GREEN, _YELLOW, _VERMILION, _BLUE = (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)

_VERDICTS = {"found": _WHITE, "missed": _ORANGE, "not there": _SKY, "wrong class": _PURPLE}
_CLASSES = (_GREEN, _YELLOW, _VERMILION, _BLUE, _ORANGE, _SKY, _PURPLE)  # from 1, then over again
_COLUMNS = ("input", "truth", "prediction", "compared")


@dataclass(frozen=True)
class PanelRow:
    """One sample. The prediction has the size of the image, and so has the truth."""

    name: str
    image: Pixels  # (H, W, 1 or 3)
    truth: Pixels  # (H, W), index of the class, 0 = background
    prediction: Pixels  # (planes, H, W), probability · 255 as the network's planes; or (H, W), index of the class


@dataclass(frozen=True)
class _Window:
    """The part of a sample that is shown."""

    rows: slice
    columns: slice


def draw_panel(rows: Sequence[PanelRow], *, threshold: float = 0.5) -> bytes:
    """PNG with a row for each sample: input, truth, prediction, and where they differ. About 1100 px wide.

    Images larger than 256 px are cut to the part with most foreground, smaller ones enlarged by a whole factor: a pixel
    stays a pixel. A prediction of one plane is shown as grey probability and compared at `threshold`, 0 … 1; of several
    planes, the most probable counts.

    Raises:
        ValueError: there are no rows, or the arrays of one do not fit each other.
    """
    if not rows:
        raise ValueError("a panel needs at least one row")
    for row in rows:
        _refuse_misfit(row)
    classes = max(_count_classes(row) for row in rows)
    pictures = [_draw_cells(row, threshold=threshold, several=classes > 2) for row in rows]
    width = _GAP + len(_COLUMNS) * (_CELL + _GAP)
    height = _HEAD + sum(cells[0].height + _LINE + _GAP for cells in pictures)
    sheet = Image.new("RGB", (width, height), _WHITE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    _write_legend(pen, classes)
    for column, title in enumerate(_COLUMNS):
        pen.text((_left(column), _HEAD - _LINE // 2), title, _INK, font, anchor="lm")
    top = _HEAD
    for row, cells in zip(rows, pictures, strict=True):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_left(column), top))
        top += cells[0].height + _LINE
        pen.text((_GAP, top - _LINE // 2), _shorten(row.name, width - 2 * _GAP), _INK, font, anchor="lm")
        top += _GAP
    png = BytesIO()
    sheet.save(png, "PNG", optimize=True)
    return png.getvalue()


def _refuse_misfit(row: PanelRow) -> None:
    size = row.truth.shape
    fits = row.image.shape in ((*size, 1), (*size, 3)) and row.prediction.shape[-2:] == size
    if len(size) != 2 or 0 in size or not fits or row.prediction.ndim not in (2, 3):
        raise ValueError(
            f"{row.name}: image {row.image.shape}, truth {size} and prediction {row.prediction.shape} do not fit: "
            "(H, W, 1 or 3), (H, W) and (planes, H, W) or (H, W) are needed"
        )


def _count_classes(row: PanelRow) -> int:
    """With the background."""
    planes = row.prediction.shape[0] if row.prediction.ndim == 3 else int(row.prediction.max()) + 1
    return max(planes, int(row.truth.max()) + 1)


def _draw_cells(row: PanelRow, *, threshold: float, several: bool) -> list[Image.Image]:
    """The pictures of a row, all of one size, at most 256 px wide and high."""
    window = _find_window(row.truth)
    image = np.broadcast_to(row.image, (*row.truth.shape, 3))[window.rows, window.columns]
    truth = row.truth[window.rows, window.columns]
    prediction = row.prediction[..., window.rows, window.columns]
    found = _find_classes(prediction, threshold)
    shown = _colour(found, several=several)
    if prediction.ndim == 3 and len(prediction) == 1:
        shown = np.repeat(prediction[0, :, :, None], 3, axis=2)
    pictures = (image, _colour(truth, several=several), shown, _compare(truth, found))
    return [_enlarge(picture) for picture in pictures]


def _find_window(truth: Pixels) -> _Window:
    """Where a picture's worth of the sample holds most foreground: of all places half a picture apart."""
    corners = [(top, left) for top in _list_starts(truth.shape[0]) for left in _list_starts(truth.shape[1])]
    top, left = max(corners, key=lambda at: np.count_nonzero(truth[at[0] : at[0] + _CELL, at[1] : at[1] + _CELL]))
    return _Window(slice(top, top + _CELL), slice(left, left + _CELL))


def _list_starts(side: int) -> list[int]:
    last = max(side - _CELL, 0)
    return [*range(0, last, _CELL // 2), last]


def _find_classes(prediction: Pixels, threshold: float) -> Pixels:
    """Probability planes, or classes already, to classes (h, w)."""
    if prediction.ndim == 2:
        return prediction
    one = len(prediction) == 1
    classes: NDArray[np.integer] = (prediction[0] >= 255 * threshold) if one else prediction.argmax(axis=0)
    return classes.astype(np.uint8)


def _colour(classes: Pixels, *, several: bool) -> Pixels:
    """(h, w) → (h, w, 3)."""
    foreground = _CLASSES if several else (_WHITE,)
    repeated = [foreground[number % len(foreground)] for number in range(255)]
    return np.array([_BLACK, *repeated], np.uint8)[classes]


def _compare(truth: Pixels, found: Pixels) -> Pixels:
    """(h, w) twice → (h, w, 3) in the colours of the verdicts."""
    picture = np.zeros((*truth.shape, 3), np.uint8)
    there, seen = truth > 0, found > 0
    cases: tuple[tuple[str, NDArray[np.bool_]], ...] = (
        ("found", there & (found == truth)),
        ("missed", there & ~seen),
        ("not there", ~there & seen),
        ("wrong class", there & seen & (found != truth)),
    )
    for verdict, pixels in cases:
        picture[pixels] = _VERDICTS[verdict]
    return picture


def _enlarge(picture: Pixels) -> Image.Image:
    factor = _CELL // max(picture.shape[:2])
    return Image.fromarray(np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1))


def _write_legend(pen: ImageDraw.ImageDraw, classes: int) -> None:
    """What the colours of the last column mean and, of more than one class, those of the middle ones."""
    font = ImageFont.load_default(_TEXT)
    several = classes > 2
    keys: list[tuple[str, tuple[int, int, int] | None]] = [("compared:", None)]
    keys += [(name, colour) for name, colour in _VERDICTS.items() if several or name != "wrong class"]
    if several:
        keys += [("", None), ("classes:", None)]
        keys += [(str(number), colour) for number, colour in enumerate(_CLASSES[: classes - 1], 1)]
    left, middle = _GAP, _GAP + _LINE // 2
    for text, colour in keys:
        if colour is not None:
            pen.rectangle((left, middle - 7, left + 14, middle + 7), fill=colour, outline=_INK)
            left += 22
        pen.text((left, middle), text, _INK, font, anchor="lm")
        left += int(font.getlength(text)) + 20


def _left(column: int) -> int:
    return _GAP + column * (_CELL + _GAP)


def _shorten(name: str, width: int) -> str:
    """The name, its beginning left out if it is too long: names differ at their ends."""
    font = ImageFont.load_default(_TEXT)
    if font.getlength(name) <= width:
        return name
    kept = name
    while kept and font.getlength(f"…{kept}") > width:
        kept = kept[1:]
    return f"…{kept}"
