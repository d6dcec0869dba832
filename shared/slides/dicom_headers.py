"""What a DICOM file says of its image, checked; without its pixels, and within bounds."""

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info

from shared.slides.slide import believable_mpp

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # values a little too long do no harm

HEADER = 2**24  # bytes before the pixels: the places of some 30,000 frames that lie anywhere
TILES = 2**24  # of an image
DEFLATED = "1.2.840.10008.1.2.1.99"  # all of the file is compressed, with no bound
BESIDE = {"LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER"}  # pictures of the glass, not of the specimen
ALIKE = 0.02  # by which pixels may differ from squares
# What pydicom stumbles over when a file is damaged; the texts mean nothing to users.
CONTRADICTION = (
    BytesLengthException,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,  # for a type of value that does not exist
    RecursionError,
    MemoryError,
    struct.error,
)
DAMAGE = (InvalidDicomError, OSError, EOFError, ValueError, *CONTRADICTION)


class Unsuited(ValueError):
    """It is well formed, but no image that can be taken; the text says why, and the mend."""


@dataclass(frozen=True)
class DicomHeader:
    """An instance. `tile`: (height, width) of its frames, px. `pixels_at`: where its pixel data begin, bytes.

    `places`: the frame (from 0) at (channel, row, column) of the grid of tiles, -1 where there is none.
    """

    series: str
    syntax: str
    height: int
    width: int
    tile: tuple[int, int]
    frames: int
    samples: int  # per pixel
    photometric: str
    planar: bool
    number: np.dtype[Any]  # of a sample
    channels: tuple[str, ...]  # one for each optical path; of colours one besides
    places: NDArray[np.int64]
    mpp: float | None
    pixels_at: int
    implicit: bool  # its elements do not tell their type

    @property
    def frame_bytes(self) -> int:
        """Of a frame, once decoded."""
        return math.prod(self.tile) * self.samples * self.number.itemsize


def shows_specimen(path: Path) -> bool:
    """Whether a file holds an image, and none of the label or the glass as a whole. Raises DAMAGE."""
    dataset, _ = _read(path)
    return "Rows" in dataset and not set(_kind(dataset)) & BESIDE


def read_header(path: Path) -> DicomHeader:
    """The header of a file.

    Raises:
        Unsuited: no image, or none of a kind that is taken.
        DAMAGE: the file is damaged.
    """
    dataset, pixels_at = _read(path)
    beside = set(_kind(dataset)) & BESIDE
    if beside:
        raise Unsuited(f"it shows the {min(beside).lower()} of a slide; submit the instances of its volume")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise Unsuited("a DICOM file without an image; submit one with pixels")
    if "ConcatenationUID" in dataset:
        raise Unsuited("one part of an image in several files (a concatenation); join them, or export it as one")
    tile, frames = (int(dataset.Rows), int(dataset.Columns)), int(dataset.get("NumberOfFrames") or 1)
    height, width = _size(dataset, tile, frames)
    if min(*tile, frames, height, width) < 1:
        raise ValueError(f"an image of {width} × {height} px in {frames} frames of {tile[1]} × {tile[0]}")
    channels, places = _find_places(dataset, (height, width), tile, frames)
    return DicomHeader(
        series=str(dataset.get("SeriesInstanceUID", "")),
        syntax=str(dataset.file_meta.TransferSyntaxUID),
        height=height,
        width=width,
        tile=tile,
        frames=frames,
        samples=int(dataset.get("SamplesPerPixel", 1)),
        photometric=str(dataset.get("PhotometricInterpretation", "")),
        planar=bool(dataset.get("PlanarConfiguration", 0)),
        number=_number(dataset),
        channels=channels,
        places=places,
        mpp=_find_mpp(dataset, width, height),
        pixels_at=pixels_at,
        implicit=bool(dataset.file_meta.TransferSyntaxUID.is_implicit_VR),
    )


def _read(path: Path) -> tuple[Dataset, int]:
    """The data set without its pixels, and where these begin."""
    if str(read_file_meta_info(path).TransferSyntaxUID) == DEFLATED:
        raise Unsuited("a DICOM file that is compressed as a whole; save it with another transfer syntax")
    with path.open("rb") as file:
        head = io.BytesIO(file.read(HEADER))  # an element can ask for no more than this
    dataset = pydicom.dcmread(head, stop_before_pixels=True)
    if head.tell() >= HEADER:
        raise Unsuited(f"it has more than {HEADER / 1e6:.0f} MB before its pixels; save it as TILED_FULL")
    return dataset, head.tell()


def _kind(dataset: Dataset) -> list[str]:
    kind = dataset.get("ImageType") or ()
    return [kind] if isinstance(kind, str) else [str(value) for value in kind]


def _size(dataset: Dataset, tile: tuple[int, int], frames: int) -> tuple[int, int]:
    """(height, width) of the whole, px."""
    if "TotalPixelMatrixRows" in dataset:
        return int(dataset.TotalPixelMatrixRows), int(dataset.TotalPixelMatrixColumns)
    if frames > 1:
        raise Unsuited(f"a stack of {frames} frames that are no tiles; submit each frame as an image of its own")
    return tile


def _number(dataset: Dataset) -> np.dtype[Any]:
    bits, signed = int(dataset.get("BitsAllocated", 8)), bool(dataset.get("PixelRepresentation", 0))
    if bits not in (8, 16) or (bits == 8 and signed):
        raise Unsuited(f"samples of {bits} bits; save it with 8 or 16")
    return np.dtype("<i2" if signed else f"<u{bits // 8}")


def _find_places(
    dataset: Dataset, size: tuple[int, int], tile: tuple[int, int], frames: int
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the optical paths, and which frame lies where."""
    rows, columns = math.ceil(size[0] / tile[0]), math.ceil(size[1] / tile[1])
    if rows * columns > TILES:
        raise ValueError(f"{rows * columns} tiles of {tile[1]} × {tile[0]} px")
    if int(dataset.get("TotalPixelMatrixFocalPlanes") or 1) > 1:
        raise Unsuited("several focal planes; export the one that is wanted")
    listed = [str(path.get("OpticalPathIdentifier", "")) for path in dataset.get("OpticalPathSequence") or ()]
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if dataset.get("DimensionOrganizationType") != "TILED_FULL" and len(groups) == frames and frames > 1:
        return _place_each(groups, listed, (rows, columns), tile)
    if dataset.get("DimensionOrganizationType") != "TILED_FULL" and frames > 1:
        raise Unsuited("it does not say where its tiles lie (neither TILED_FULL nor a place for each); export it again")
    paths, left = divmod(frames, rows * columns)
    if left or not 1 <= paths <= max(len(listed), 1):
        raise ValueError(f"{frames} frames, where {rows} × {columns} tiles are needed")
    places = np.arange(frames, dtype=np.int64).reshape(paths, rows, columns)
    return tuple(listed[:paths]) or ("",), places


def _place_each(
    groups: Any, listed: list[str], grid: tuple[int, int], tile: tuple[int, int]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The same for frames that each tell their place (TILED_SPARSE)."""
    paths = listed or [""]
    if len(paths) * math.prod(grid) > TILES:
        raise ValueError(f"{len(paths)} × {grid[0]} × {grid[1]} tiles")
    places, depths = np.full((len(paths), *grid), -1, dtype=np.int64), set()
    for frame, group in enumerate(groups):
        position = group.PlanePositionSlideSequence[0]
        row, down = divmod(int(position.RowPositionInTotalImagePixelMatrix) - 1, tile[0])
        column, right = divmod(int(position.ColumnPositionInTotalImagePixelMatrix) - 1, tile[1])
        if down or right:
            raise Unsuited("its frames overlap or leave gaps; export it with tiles on a grid")
        if not (0 <= row < grid[0] and 0 <= column < grid[1]):
            raise ValueError("a frame lies outside the image")
        depths.add(position.get("ZOffsetInSlideCoordinateSystem"))
        path = group.get("OpticalPathIdentificationSequence")
        channel = paths.index(str(path[0].OpticalPathIdentifier)) if path and listed else 0
        places[channel, row, column] = frame
    if len(depths) > 1:
        raise Unsuited("several focal planes; export the one that is wanted")
    return tuple(paths), places


def _find_mpp(dataset: Dataset, width: int, height: int) -> float | None:
    """µm per pixel along x, by the spacing or the size of what was imaged."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    measures = shared[0].get("PixelMeasuresSequence") if shared else None
    spacing = (measures[0] if measures else dataset).get("PixelSpacing")
    if spacing is not None and len(spacing) == 2:  # between rows, between columns, mm
        return believable_mpp(float(spacing[1]) * 1000)
    across, down = dataset.get("ImagedVolumeWidth"), dataset.get("ImagedVolumeHeight")
    if not across or not down:
        return None
    mpp, beside = float(across) / width * 1000, float(down) / height * 1000
    return believable_mpp(mpp) if abs(mpp - beside) <= ALIKE * mpp else None
