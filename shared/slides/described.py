"""What a TIFF says about itself in words: names of its channels, its scale, whose scanner wrote it."""

import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile
from tifffile import PHOTOMETRIC, RESUNIT

from shared.slides.slide import GREY, RGB, believable_mpp

MICROMETRES = ("micron", "µm", "um")  # as ImageJ writes them
# µm in a unit of length as OME's schema (2016-06, UnitsLength) names it.
UNITS = {
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "Å": 1e-4,
    "pm": 1e-6,
    "in": 25400.0,
}
APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")
COLOURED = {PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.PALETTE}
# By what OpenSlide tells the TIFFs that it reads otherwise than we would: the beginning of the tag Software, or a
# part of the description. One too many costs a download, one too few shows other pixels.
SOFTWARE = ("MedScan", "Philips", "ScanOutputManager", "Ventana", "VENTANA", "NDP")
DESCRIPTIONS = ("leica-microsystems.com/scn", "Huron", "DPUfsImport")
NDPI, XMP, VENTANA = 65420, 700, b"iScan"


@dataclass(frozen=True)
class _Ome:
    """The first image of an OME-TIFF's description."""

    names: tuple[str | None, ...]  # of its channels
    mpp: float | None


def find_format(file: tifffile.TiffFile) -> str:
    """OpenSlide's name for Aperio's slides, "ome-tiff", or "tiff"."""
    if file.is_svs:
        return "aperio"
    return "ome-tiff" if file.is_ome else "tiff"


def is_for_openslide(file: tifffile.TiffFile) -> bool:
    """Whether the file may be a vendor's slide that only OpenSlide reads rightly."""
    page = file.pages.first
    return (
        bool(file.is_scn or file.is_bif or file.is_philips)
        or NDPI in page.tags
        or VENTANA in _bytes_of(page.tags.get(XMP))
        or str(page.software).startswith(SOFTWARE)
        or any(part in str(page.description) for part in DESCRIPTIONS)
    )


def _bytes_of(tag: Any) -> bytes:
    value = getattr(tag, "value", b"")
    return value if isinstance(value, bytes) else str(value).encode()


def find_channels(file: tifffile.TiffFile, page: Any, channels: int) -> tuple[str, ...]:
    """Names of so many channels (alpha is not one of them) of an image of pages like `page`."""
    if channels in (1, 3) and page.photometric in COLOURED:
        return RGB
    if channels == 1:
        (name,) = _named(file, 1)
        return (name,) if name else GREY
    names = _named(file, channels)
    return tuple(name or f"channel {number}" for number, name in enumerate(names, start=1))


def find_mpp(file: tifffile.TiffFile, page: Any) -> float | None:
    """µm per pixel: Aperio's and OME's own words; else the resolution tags, in the unit these or ImageJ name."""
    if file.is_svs:
        said = APERIO_MPP.search(str(page.description))
        return _number(said.group(1)) if said else None
    ome = _read_ome(file)
    return ome.mpp if ome is not None and ome.mpp else _by_resolution(file, page)


def _by_resolution(file: tifffile.TiffFile, page: Any) -> float | None:
    if "XResolution" not in page.tags:
        return None
    described = (file.imagej_metadata or {}).get("unit") in MICROMETRES
    if page.resolutionunit not in (RESUNIT.INCH, RESUNIT.CENTIMETER) and not described:
        return None
    per_micrometre = page.resolution[0] if described else page.get_resolution(unit="MICROMETER")[0]
    return believable_mpp(1.0 / per_micrometre) if per_micrometre else None


def _named(file: tifffile.TiffFile, channels: int) -> tuple[str | None, ...]:
    """What OME or ImageJ call the channels; None for those without a name."""
    ome = _read_ome(file)
    if ome is not None:
        return (ome.names + (None,) * channels)[:channels]
    labels = (file.imagej_metadata or {}).get("Labels") or []
    if channels > 1 and len(labels) == channels:
        return tuple(str(label) for label in labels)
    return (None,) * channels


def _read_ome(file: tifffile.TiffFile) -> _Ome | None:
    """None where there is no description in OME's XML."""
    if not file.is_ome:
        return None
    pixels = ElementTree.fromstring(file.ome_metadata or "").find("{*}Image/{*}Pixels")  # noqa: S314  # expat bounds it
    if pixels is None:
        return None
    names = tuple(channel.get("Name") or None for channel in pixels.iterfind("{*}Channel"))
    size = _number(pixels.get("PhysicalSizeX"), UNITS.get(pixels.get("PhysicalSizeXUnit", "µm"), 0.0))
    return _Ome(names, size)


def _number(text: str | None, micrometres: float = 1.0) -> float | None:
    try:
        return believable_mpp(float(text or 0) * micrometres)
    except ValueError:
        return None
