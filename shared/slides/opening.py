"""Which reader takes a file: its first bytes decide, never its name."""

from pathlib import Path

from shared.errors import Rejected
from shared.slides.dicom import DicomSlide, is_dicom
from shared.slides.folders import find_main
from shared.slides.openslide import OpenSlideSlide, find_vendor
from shared.slides.png import PNG
from shared.slides.raster import JPEG, RasterSlide
from shared.slides.slide import Limits, Slide
from shared.slides.source import LocalSource, Source
from shared.slides.tiff import ForOpenSlide, TiffSlide
from shared.slides.windows import Windows
from shared.slides.zarr import ZIP, ZarrSlide, is_zarr

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two are BigTIFF
MIRAX = ".mrxs"  # looks like a JPEG, but that is its thumbnail
TAKEN = "PNG, JPEG, TIFF, OME-Zarr, DICOM and the slide formats that OpenSlide reads"
OUR_TIFFS = {None, "generic-tiff", "aperio"}  # OpenSlide's names for TIFFs that are read here, by ranges too


class NotByRanges(Exception):
    """Nothing can be read of this file before all of it lies on a disk."""


def open_slide(
    place: Path | Source,
    *,
    name: str | None = None,
    window: Windows | None = None,
    limits: Limits | None = None,
    page: int | None = None,
) -> Slide:
    """Open an image: a file on disk, or a TIFF wherever its bytes come from (the slide closes the source).

    `name`: what the user calls it, for messages. `window`: as an earlier opening found it, to save looking again.
    `page`: which plane of a TIFF that is a stack, from 0; see `count_pages`.

    Raises:
        Rejected: empty, of no known format, damaged, or too large; the text says which, and the mend.
        NotByRanges: a source that must be brought to disk first.
    """
    limits = limits or Limits()
    if isinstance(place, Source):
        return _open_source(place, name or "image", window, limits=limits, page=page)
    name = name or place.name
    if place.is_dir():
        place = find_main(place, name)
    reader = _find_reader(place, name)
    if reader is not None:
        return reader(place, name=name, window=window, limits=limits)
    with place.open("rb") as file:
        head = file.read(16)
    vendor = find_vendor(place, name)
    if vendor in OUR_TIFFS and head.startswith(TIFF):
        try:
            return TiffSlide(LocalSource(place), name=name, window=window, limits=limits, page=page, known=True)
        except ForOpenSlide:
            pass
    if vendor not in OUR_TIFFS or vendor == "aperio":
        return OpenSlideSlide(place, name=name, vendor=str(vendor), limits=limits)
    raise Rejected(f"{name}: not an image of a known format (it begins with {head[:8]!r}); taken are {TAKEN}")


def _find_reader(place: Path, name: str) -> type[RasterSlide] | type[ZarrSlide] | type[DicomSlide] | None:
    """Who reads a folder, or a file that is neither a TIFF nor for OpenSlide; None for those."""
    if place.is_dir():
        return ZarrSlide if is_zarr(place) else DicomSlide
    with place.open("rb") as file:
        head = file.read(16)
    if not head:
        raise Rejected(f"{name}: the file is empty (0 bytes); upload it again")
    if head.startswith((PNG, JPEG)) and place.suffix.lower() != MIRAX:
        return RasterSlide
    if head.startswith(ZIP):
        return ZarrSlide
    return DicomSlide if is_dicom(place) else None


def _open_source(source: Source, name: str, window: Windows | None, *, limits: Limits, page: int | None) -> Slide:
    if not source.read(0, 4).startswith(TIFF):
        raise NotByRanges
    try:
        return TiffSlide(source, name=name, window=window, limits=limits, page=page)
    except ForOpenSlide as error:
        raise NotByRanges from error
