"""What is looked at before OpenSlide opens a file: it believes headers, and aborts the process where memory ends.

Sakura's databases, Zeiss's and Hamamatsu's single files (svslide, czi, ndpi) have no checks of their own here.
"""

import re
from collections.abc import Callable
from pathlib import Path

from tifffile import TiffFileError, TiffPage

from shared.slides.planes import check_segments, open_tiff

TEXT_BYTES = 2**24  # of an index in words
LARGEST_GRID = 2**24  # tiles, however many areas there are
LARGEST_TILE = 2**26  # px
LARGEST_NUMBER = 100_000  # of tiles along a side, files or pixels of a tile in an index
INDEX_LINE = re.compile(r"^\s*([A-Za-z_0-9(),]+)\s*=\s*(.*?)\s*$", re.MULTILINE)
NAMES_A_FILE = re.compile(r"FILE_\d+|INDEXFILE|(ImageFile|MapFile|OptimisationFile|MacroImage)(\(\d+,\d+\))?")
COUNTS = re.compile(
    r"IMAGENUMBER_[XY]|CameraImageDivisionsPerSide|\w*_COUNT|DIGITIZER_(WIDTH|HEIGHT)|No(Layers|Jpeg(Columns|Rows))"
)
AREA = re.compile(r"""Num(?:Rows|Cols)\s*=\s*["'](\d{1,18})["']""")
OVERLAPS = re.compile(r"OverlapsXY:?([-\d ]*)")
XMP = 700  # the tag where Ventana keeps its XML


def check(path: Path, vendor: str) -> None:
    """Look at the file as its vendor needs it.

    Raises:
        ValueError: it refers to files that are not its own, or announces what cannot be.
        tiff.DAMAGED_HEADER: a TIFF that is damaged, or of which a tile or strip leaves the file.
    """
    guard = GUARDS.get(vendor)
    if guard is not None:
        guard(path)


def _check_tiff(path: Path) -> None:
    with open_tiff(path) as file:
        for page in file.pages:
            check_segments(file, page)
            if isinstance(page, TiffPage) and page.tilewidth * page.tilelength > LARGEST_TILE:
                raise TiffFileError(f"its tiles are {page.tilewidth} × {page.tilelength} px")


def _check_ventana(path: Path) -> None:
    """Its XML tells how many tiles there are, besides the TIFF."""
    _check_tiff(path)
    with open_tiff(path) as file:
        tags = [page.tags for page in file.pages if isinstance(page, TiffPage)]
        packets = [page[XMP].value for page in tags if XMP in page]
    for packet in packets:
        text = packet.decode(errors="replace") if isinstance(packet, bytes) else str(packet)
        numbers = [int(number) for number in AREA.findall(text)]
        if any(first * second > LARGEST_GRID for first, second in zip(numbers[::2], numbers[1::2], strict=False)):
            raise TiffFileError(f"it announces more than {LARGEST_GRID} tiles")


def _check_trestle(path: Path) -> None:
    """Tiles that overlap wholly leave nothing to show."""
    _check_tiff(path)
    with open_tiff(path) as file:
        page = file.pages.first
        smallest = min(page.tilewidth or 1, page.tilelength or 1)
        found = OVERLAPS.search(page.description)
    if found and any(not 0 <= int(number) < smallest for number in found.group(1).split() if number.isdigit()):
        raise TiffFileError("its tiles overlap by more than their size")


def _check_mirax(path: Path) -> None:
    _check_index(path.with_suffix("") / "Slidedat.ini")


def _check_index(path: Path) -> None:
    """The files that an index names must lie beside it, and its numbers be such as slides have."""
    if not path.is_file():
        raise ValueError(f"{path.name} is missing; send the slide with all files that belong to it")
    with path.open("rb") as file:
        text = file.read(TEXT_BYTES + 1)
    if len(text) > TEXT_BYTES:
        raise ValueError(f"{path.name} is longer than an index is")
    for key, value in INDEX_LINE.findall(text.decode("utf-8-sig", errors="replace").replace("\r", "")):
        if NAMES_A_FILE.fullmatch(key) and value and not _is_beside(path.parent, value):
            raise ValueError(f"{path.name} names a file that is not its own: {value}")
        if COUNTS.fullmatch(key) and value.isdigit() and int(value) > LARGEST_NUMBER:
            raise ValueError(f"{path.name} says {key} = {value}")


def _is_beside(folder: Path, name: str) -> bool:
    plain = not {"/", "\\"} & set(name) and name not in (".", "..")
    return plain and not (folder / name).is_symlink()


def _check_hamamatsu(path: Path) -> None:
    """VMS and VMU are an index themselves."""
    with path.open("rb") as file:
        is_tiff = file.read(2) in (b"II", b"MM")  # NDPI
    if not is_tiff:
        _check_index(path)


GUARDS: dict[str, Callable[[Path], None]] = {
    "aperio": _check_tiff,
    "hamamatsu": _check_hamamatsu,
    "huron": _check_tiff,
    "leica": _check_tiff,
    "mirax": _check_mirax,
    "philips": _check_tiff,
    "trestle": _check_trestle,
    "ventana": _check_ventana,
}
