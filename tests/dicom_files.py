"""DICOM slides of our own making."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

SERIES = "1.2.3.4.5"
SPACING = 0.0005  # mm


def jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=95)
    return file.getvalue()


def jpeg_2000(frame: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k"))


SYNTAXES: dict[str, tuple[UID, Callable[[np.ndarray], bytes] | None, str]] = {
    "plain": (ExplicitVRLittleEndian, None, "RGB"),
    "implicit": (ImplicitVRLittleEndian, None, "RGB"),
    "jpeg": (JPEGBaseline8Bit, jpeg, "YBR_FULL_422"),
    "jpeg-2000": (JPEG2000Lossless, jpeg_2000, "YBR_RCT"),
}


@dataclass
class Written:
    """How a slide is written. `sparse`: each frame tells its place, and those of one colour are left out."""

    syntax: str = "plain"
    sparse: bool = False
    tile: tuple[int, int] = (64, 80)
    kind: Sequence[str] = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")
    paths: Sequence[str] = ("1",)
    fragments: int = 1  # of a frame
    spacing: float = SPACING
    values: dict[str, Any] = field(default_factory=dict)  # of the header, whatever they lead to


def write_dicom(path: Path, planes: np.ndarray, written: Written | None = None) -> Path:
    """`planes`: (height, width, 3) uint8, or (paths, height, width) of any type that DICOM has."""
    written = written or Written()
    syntax, encode, coloured = SYNTAXES[written.syntax]
    is_colour = planes.ndim == 3 and planes.shape[2] == 3
    paths = [planes] if is_colour else list(planes)
    placed = [(index, *place) for index, plane in enumerate(paths) for place in _cut(plane, written)]
    frames = [frame for *_, frame in placed]
    dataset = _header(planes, len(frames), written, coloured if is_colour else "MONOCHROME2")
    if written.sparse:
        dataset.DimensionOrganizationType = "TILED_SPARSE"
        dataset.PerFrameFunctionalGroupsSequence = Items([_place(written, *place[:3]) for place in placed])
    if encode is None:
        dataset.PixelData = b"".join(frame.tobytes() for frame in frames)
    else:
        dataset.PixelData = encapsulate([encode(frame) for frame in frames], fragments_per_frame=written.fragments)
        dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name, value in written.values.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _header(planes: np.ndarray, frames: int, written: Written, photometric: str) -> Dataset:
    is_colour = planes.ndim == 3 and planes.shape[2] == 3
    height, width = planes.shape[:2] if is_colour else planes.shape[1:]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = VLWholeSlideMicroscopyImageStorage, generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = SERIES, "SM"
    dataset.ImageType = list(written.kind)
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.NumberOfFrames = frames
    dataset.Rows, dataset.Columns = written.tile
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = height, width
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    bits = planes.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(planes.dtype.kind == "i")
    measures = Dataset()
    measures.PixelSpacing = [written.spacing, written.spacing]
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([measures])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.OpticalPathSequence = Items([_path(name) for name in written.paths])
    return dataset


def _path(name: str) -> Dataset:
    path = Dataset()
    path.OpticalPathIdentifier = name
    return path


def _cut(plane: np.ndarray, written: Written) -> list[tuple[int, int, np.ndarray]]:
    """(row, column, frame) of whole frames, row by row."""
    rows, columns = written.tile
    places = []
    for top in range(0, plane.shape[0], rows):
        for left in range(0, plane.shape[1], columns):
            frame = np.zeros((rows, columns, *plane.shape[2:]), plane.dtype)
            part = plane[top : top + rows, left : left + columns]
            frame[: part.shape[0], : part.shape[1]] = part
            if not (written.sparse and part.min() == part.max() == 255):
                places.append((top, left, frame))
    return places


def _place(written: Written, index: int, top: int, left: int) -> Dataset:
    position = Dataset()
    position.RowPositionInTotalImagePixelMatrix, position.ColumnPositionInTotalImagePixelMatrix = top + 1, left + 1
    group = Dataset()
    group.PlanePositionSlideSequence = Items([position])
    group.OpticalPathIdentificationSequence = Items([_path(written.paths[index])])
    return group
