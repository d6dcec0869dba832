"""Which reader takes a file: its first bytes decide, never its name."""

from pathlib import Path

from shared.errors import Rejected
from shared.imaging.normalisation import Window
from shared.slides.openslide import OpenSlideSlide, find_vendor
from shared.slides.raster import JPEG, PNG, RasterSlide
from shared.slides.slide import Limits, Slide
from shared.slides.tiff import TiffSlide

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two are BigTIFF
TAKEN = "PNG, JPEG, TIFF and the slide formats that OpenSlide reads"
FLAT_TIFF = {None, "generic-tiff"}  # OpenSlide's names for TIFFs that are no vendor's slide


def open_slide(
    path: Path, *, name: str | None = None, window: Window | None = None, limits: Limits | None = None
) -> Slide:
    """Open an image file.

    `name`: what the user calls it, for messages. `window`: as an earlier opening found it, to save looking again.

    Raises:
        Rejected: empty, of no known format, damaged, or too large; the text says which, and the mend.
    """
    name, limits = name or path.name, limits or Limits()
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise Rejected(f"{name}: the file is empty (0 bytes); upload it again")
    if head.startswith((PNG, JPEG)):
        return RasterSlide(path, name=name, window=window, limits=limits)
    vendor = find_vendor(path, name)
    if vendor not in FLAT_TIFF:
        return OpenSlideSlide(path, name=name, vendor=str(vendor), limits=limits)
    if head.startswith(TIFF):
        return TiffSlide(path, name=name, window=window, limits=limits)
    raise Rejected(f"{name}: not an image of a known format (it begins with {head[:8]!r}); taken are {TAKEN}")
