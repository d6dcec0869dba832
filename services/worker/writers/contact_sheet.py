"""The contact sheet of a job: small pictures of many images with their outlines, on one page."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from services.worker.reports.contents import choose_contacts
from services.worker.writers.palette import colour_table
from shared.imaging.tiling import Pixels

MOST = 60  # pictures
CELL = 288  # px, the longest side of a picture
COLUMNS = 6
STRENGTH = 0.8  # of contours in a picture that is scaled down; 1: as they were
_GAP = 12  # px, between pictures and around them
_LINE = 20  # px, a line of text with its air
_TEXT = 14  # px, size of the letters
_INK, _FAINT, _PAPER, _GROUND = (34, 34, 34), (105, 105, 105), (255, 255, 255), (238, 238, 238)


@dataclass(frozen=True)
class Contact:
    """An image of the job."""

    name: str
    objects: int | None  # how many were found; None of an image that failed
    overlay: bytes | None  # PNG; None: there is none to show


def choose_pictures(count: int) -> list[int]:
    """Which of the `count` images of a job the sheet shows: all of a few, else 60 spread evenly."""
    return choose_contacts(count, MOST)


def draw_contact_sheet(contacts: Iterable[Contact], *, of: int) -> bytes:
    """A PNG with a cell for each contact: picture, name, number of objects. At most 1812 px wide.

    `of`: how many images the job has, told above if they are not all shown. One overlay at a time is held.

    Raises:
        ValueError: there are no contacts.
    """
    cells = [(contact, _shrink(contact.overlay)) for contact in contacts]
    if not cells:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(COLUMNS, math.ceil(math.sqrt(len(cells))))
    head = 0 if len(cells) == of else _LINE + _GAP
    step = CELL + 2 * _LINE + _GAP
    size = _GAP + columns * (CELL + _GAP), head + _GAP + math.ceil(len(cells) / columns) * step
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    if head:
        pen.text((_GAP, head // 2 + _GAP // 2), f"{len(cells):,} of {of:,} images", _INK, font, anchor="lm")
    for index, (contact, picture) in enumerate(cells):
        left = _GAP + index % columns * (CELL + _GAP)
        top = head + _GAP + index // columns * step
        _draw_picture(sheet, picture, left, top)
        below = top + CELL + _LINE // 2
        pen.text((left, below), _shorten(contact.name), _INK, font, anchor="lm")
        pen.text((left, below + _LINE), _tell(contact), _FAINT, font, anchor="lm")
    png = BytesIO()
    sheet.save(png, "PNG", compress_level=6)
    return png.getvalue()


def _shrink(overlay: bytes | None) -> Image.Image | None:
    """The picture, no longer than a cell; by a whole factor if it is to be enlarged, so that pixels stay squares."""
    if overlay is None:
        return None
    with Image.open(BytesIO(overlay)) as picture:
        shown = picture.convert("RGB")
    factor = max(shown.size) / CELL
    if factor > 1:
        return _shrink_with_contours(shown, factor)
    times = int(1 / factor)
    return shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST)


def _shrink_with_contours(picture: Image.Image, factor: float) -> Image.Image:
    """A mean would wash out contours of one pixel, so they keep their width: they count as much wider than they are."""
    size = max(round(picture.width / factor), 1), max(round(picture.height / factor), 1)
    small = np.asarray(picture.resize(size, Image.Resampling.BOX)).astype(np.float32)
    codes = _pack(np.asarray(picture))
    for colour in np.unique(colour_table()[1:], axis=0):
        contour = codes == _pack(colour)
        if contour.any():
            lines = Image.fromarray(contour.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
            share = np.asarray(lines)[..., None] / 255
            small += (colour - small) * np.minimum(share * factor * STRENGTH, 1)
    return Image.fromarray(np.rint(small).astype(np.uint8))


def _pack(colours: Pixels) -> NDArray[np.uint32]:
    """One number for each colour (..., 3)."""
    wide = colours.astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], dtype=np.uint32)


def _draw_picture(sheet: Image.Image, picture: Image.Image | None, left: int, top: int) -> None:
    """In the middle of its cell, on a ground that shows where the cell is."""
    sheet.paste(_GROUND, (left, top, left + CELL, top + CELL))
    if picture is not None:
        sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))


def _tell(contact: Contact) -> str:
    if contact.objects is None:
        return "failed"
    return "1 object" if contact.objects == 1 else f"{contact.objects:,} objects"


def _shorten(name: str) -> str:
    """The name, its beginning left out if it is too long: names differ at their ends."""
    font = ImageFont.load_default(_TEXT)
    if font.getlength(name) <= CELL:
        return name
    kept = name
    while font.getlength(f"…{kept}") > CELL:
        kept = kept[1:]
    return f"…{kept}"
