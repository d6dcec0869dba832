"""DICOM slides of all kinds: what they show, and what is refused before it does harm."""

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from shared.imaging.tiling import Box
from shared.slides import open_slide
from tests.dicom_files import Written, jpeg, jpeg_2000, write_dicom
from tests.slide_files import NOISE, RAMP, read_all, refusal
from tests.vendor_slides import shrunk

SMOOTH = np.stack([np.add.outer(np.arange(200), np.arange(150)) // 2] * 3, axis=2).astype(np.uint8)
STAINS = np.stack([RAMP, RAMP[::-1] // 2])  # two optical paths


def recoded(planes: np.ndarray) -> np.ndarray:
    """RGB → YCbCr of full range (ITU-T T.871)."""
    red, green, blue = np.moveaxis(planes.astype(float), 2, 0)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    channels = [luminance, 128 + (blue - luminance) / 1.772, 128 + (red - luminance) / 1.402]
    return np.stack([np.clip(np.rint(channel), 0, 255) for channel in channels], axis=2).astype(np.uint8)


class TestWhatItShows:
    def test_optical_paths_are_channels(self, tmp_path: Path) -> None:
        write_dicom(tmp_path / "a.dcm", STAINS, Written(paths=("DAPI", "GFP")))
        with open_slide(tmp_path / "a.dcm") as slide:
            assert slide.channels == ("DAPI", "GFP")
            assert isinstance(slide.window, tuple)
            pixels = read_all(slide)
            np.testing.assert_array_equal(slide.read_channels(Box(0, 0, 200, 150)), pixels[:, :, :2])
            np.testing.assert_array_equal(pixels[:, :, 0], slide.window[0].apply(STAINS[0]))
            np.testing.assert_array_equal(pixels[:, :, 1], slide.window[1].apply(STAINS[1]))
            assert not pixels[:, :, 2].any()

    def test_a_place_without_a_frame_is_glass(self, tmp_path: Path) -> None:
        planes = NOISE.copy()
        planes[:100, :75] = 255
        write_dicom(tmp_path / "a.dcm", planes, Written(sparse=True, tile=(50, 75)))
        with open_slide(tmp_path / "a.dcm") as slide:
            np.testing.assert_array_equal(read_all(slide), planes)

    def test_frames_in_any_order_find_their_places(self, tmp_path: Path) -> None:
        written = Written(sparse=True, tile=(50, 75))
        dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", NOISE, written))
        groups = dataset.PerFrameFunctionalGroupsSequence
        dataset.PerFrameFunctionalGroupsSequence = Items(reversed(groups))
        dataset.PixelData = b"".join(
            dataset.PixelData[start : start + 50 * 75 * 3] for start in range(7 * 50 * 75 * 3, -1, -50 * 75 * 3)
        )
        dataset.save_as(tmp_path / "b.dcm")
        with open_slide(tmp_path / "b.dcm") as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    def test_the_negative_is_inverted(self, tmp_path: Path) -> None:
        values = {"PhotometricInterpretation": "MONOCHROME1"}
        write_dicom(tmp_path / "a.dcm", NOISE[None, :, :, 0].copy(), Written(values=values))
        with open_slide(tmp_path / "a.dcm") as slide:
            np.testing.assert_array_equal(read_all(slide)[:, :, 0], 255 - NOISE[:, :, 0])

    def test_luminance_and_colour_become_rgb(self, tmp_path: Path) -> None:
        values = {"PhotometricInterpretation": "YBR_FULL"}
        write_dicom(tmp_path / "a.dcm", recoded(NOISE), Written(values=values))
        with open_slide(tmp_path / "a.dcm") as slide:
            assert np.abs(read_all(slide).astype(int) - NOISE).max() <= 2

    def test_a_jpeg_that_says_it_is_luminance_is_believed_before_the_header(self, tmp_path: Path) -> None:
        write_dicom(tmp_path / "a.dcm", SMOOTH, Written("jpeg", values={"PhotometricInterpretation": "RGB"}))
        with open_slide(tmp_path / "a.dcm") as slide:
            assert np.abs(read_all(slide).astype(int) - SMOOTH).mean() < 3

    def test_a_picture_of_one_frame_is_an_image_too(self, tmp_path: Path) -> None:
        path = write_dicom(tmp_path / "a.dcm", NOISE, Written(tile=(200, 150)))
        dataset = pydicom.dcmread(path)
        for name in ("TotalPixelMatrixRows", "TotalPixelMatrixColumns", "DimensionOrganizationType", "NumberOfFrames"):
            delattr(dataset, name)
        dataset.save_as(path)
        with open_slide(path) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)

    @pytest.mark.parametrize(("height", "mpp"), [(0.1, 0.5), (0.5, None)])
    def test_without_a_spacing_the_size_tells_the_scale_if_pixels_are_square(
        self, tmp_path: Path, height: float, mpp: float | None
    ) -> None:
        values = {"SharedFunctionalGroupsSequence": Items([]), "ImagedVolumeWidth": 0.075, "ImagedVolumeHeight": height}
        write_dicom(tmp_path / "a.dcm", NOISE, Written(values=values))
        with open_slide(tmp_path / "a.dcm") as slide:
            assert slide.mpp == (pytest.approx(mpp) if mpp else None)

    def test_other_files_of_its_folder_are_passed_over(self, tmp_path: Path) -> None:
        write_dicom(tmp_path / "IM001", NOISE)
        write_dicom(tmp_path / "IM002", NOISE[:50], Written(kind=("ORIGINAL", "PRIMARY", "LABEL", "NONE")))
        (tmp_path / "notes.txt").write_text("scanned on a Monday")
        directory = pydicom.dcmread(tmp_path / "IM002")
        for name in ("PixelData", "Rows", "Columns"):
            delattr(directory, name)
        directory.save_as(tmp_path / "DICOMDIR")
        with open_slide(tmp_path) as slide:
            np.testing.assert_array_equal(read_all(slide), NOISE)


def with_values(syntax: str = "plain", **values: Any) -> Callable[[Path], object]:
    return lambda path: write_dicom(path, NOISE, Written(syntax, values=values))


def edited(edit: Callable[[Dataset], object], written: Written | None = None) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        dataset = pydicom.dcmread(write_dicom(path, NOISE, written))
        edit(dataset)
        dataset.save_as(path)

    return write


def cut(syntax: str, share: float) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        content = write_dicom(path, NOISE, Written(syntax)).read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write


def frame_of_any_size(path: Path) -> None:
    """A frame whose JPEG announces 65,500 × 65,500 px."""
    content = bytearray(write_dicom(path, NOISE, Written("jpeg")).read_bytes())
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, 65_500, 65_500)
    path.write_bytes(content)


def element_of_any_length(path: Path) -> None:
    content = bytearray(write_dicom(path, NOISE, Written()).read_bytes())
    place = content.index(struct.pack("<HH", 0x0048, 0x0105)) + 8  # the optical paths
    struct.pack_into("<I", content, place, 2**32 - 2)
    path.write_bytes(content)


def number_of_odd_length(path: Path) -> None:
    content = bytearray(write_dicom(path, NOISE, Written()).read_bytes())
    struct.pack_into("<H", content, 132 + 6, 15_346)  # of the first element
    path.write_bytes(content)


def nested(path: Path) -> None:
    """A sequence in a sequence in a sequence …"""
    write_dicom(path, NOISE, Written())
    content = path.read_bytes()
    opened = struct.pack("<HH2s2xI", 0x0048, 0x0105, b"SQ", 2**32 - 1) + struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
    place = content.index(struct.pack("<HH2s", 0x0048, 0x0105, b"SQ"))
    path.write_bytes(content[:place] + opened * 20_000)


def two_series(path: Path) -> None:
    path.mkdir()
    write_dicom(path / "a", NOISE)
    write_dicom(path / "b", shrunk(NOISE, 2), Written(values={"SeriesInstanceUID": "1.2.3"}))


def folder_of(*written: tuple[np.ndarray, Written]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.mkdir()
        for index, (planes, each) in enumerate(written):
            write_dicom(path / str(index), planes, each)

    return write


def out_of_place(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSlideSequence[0]
    position.RowPositionInTotalImagePixelMatrix = 13


def outside(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSlideSequence[0]
    position.RowPositionInTotalImagePixelMatrix = 64_001


def several_depths(dataset: Dataset) -> None:
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = str(index % 2)


def huge_and_sparse(dataset: Dataset) -> None:
    dataset.TotalPixelMatrixRows = dataset.TotalPixelMatrixColumns = 200_000


def unplaced(dataset: Dataset) -> None:
    del dataset.DimensionOrganizationType


def without_pixels(dataset: Dataset) -> None:
    del dataset.PixelData


LABEL = ("ORIGINAL", "PRIMARY", "LABEL", "NONE")
SPARSE = Written(sparse=True)
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file cut off": (cut("plain", 0.7), "its pixels end .* bytes beyond what there is"),
    "a compressed file cut off": (cut("jpeg", 0.7), "damaged, cut off or of an unusual kind"),
    "a head only": (lambda path: path.write_bytes(bytes(128) + b"DICM"), "damaged, cut off or of an unusual kind"),
    "a head cut off": (cut("plain", 0.003), "a DICOM file without an image; submit one with pixels"),
    "more frames than there are": (with_values(NumberOfFrames=5000), "5000 frames, where 4 × 2 tiles are needed"),
    "fewer frames than are needed": (with_values(NumberOfFrames=3), "3 frames, where 4 × 2 tiles are needed"),
    "frames without number": (with_values(NumberOfFrames=-8), "an image of 150 × 200 px in -8 frames"),
    "wider than its frames": (with_values(TotalPixelMatrixColumns=90_000), "8 frames, where 4 × 1125 tiles"),
    "without rows": (with_values(Rows=0), "frames of 80 × 0"),
    "other rows": (with_values("jpeg", Rows=63), "a frame of 80 × 63 px announces 80 × 64"),
    "huge frames": (
        with_values("jpeg", Rows=60_000, Columns=60_000, NumberOfFrames=1),
        "is the limit; export it with smaller tiles",
    ),
    "beyond all bounds": (with_values(TotalPixelMatrixRows=2**31, TotalPixelMatrixColumns=2**31), "tiles of 80 × 64"),
    "a frame of any size": (frame_of_any_size, "a frame of 80 × 64 px announces 65500 × 65500"),
    "an element of any length": (element_of_any_length, "without pixels; submit one that has them"),
    "a number of odd length": (number_of_odd_length, "its header contradicts itself"),
    "sequences without end": (nested, "damaged, cut off or of an unusual kind"),
    "tiles without places": (edited(unplaced), "does not say where its tiles lie .* export it again"),
    "a sparse slide of nothing": (edited(huge_and_sparse, SPARSE), "8 of 7812500 tiles are there"),
    "frames off the grid": (edited(out_of_place, SPARSE), "overlap or leave gaps; export it with tiles on a grid"),
    "a frame outside": (edited(outside, SPARSE), "a frame lies outside the image"),
    "several depths": (edited(several_depths, SPARSE), "several focal planes; export the one that is wanted"),
    "focal planes": (with_values(TotalPixelMatrixFocalPlanes=3), "several focal planes; export the one"),
    "a concatenation": (with_values(ConcatenationUID="1.2"), "one part of an image in several files"),
    "a label": (lambda path: write_dicom(path, NOISE, Written(kind=LABEL)), "it shows the label of a slide; submit"),
    "a palette": (with_values(PhotometricInterpretation="PALETTE COLOR"), "of the kind PALETTE COLOR; save it as grey"),
    "samples of 32 bits": (with_values(BitsAllocated=32), "samples of 32 bits; save it with 8 or 16"),
    "without pixels": (edited(without_pixels), "without pixels; submit one that has them"),
    "two series": (two_series, "files of several series; submit each series"),
    "two of a size": (folder_of((NOISE, Written()), (NOISE, Written())), "two files of the same size in one series"),
    "levels of two kinds": (
        folder_of((NOISE, Written()), (RAMP[None, :100, :75], Written())),
        "the resolutions are of different kinds; submit the largest alone",
    ),
    "levels of two scenes": (
        folder_of((NOISE, Written()), (NOISE[:40, :100], Written())),
        "do not show the same; submit the largest alone",
    ),
    "labels only": (folder_of((NOISE, Written(kind=LABEL))), "no file of the folder shows the specimen"),
}


class TestRefused:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_what_cannot_be_read_is_refused_by_name_cause_and_mend(self, tmp_path: Path, kind: str) -> None:
        write, cause = REFUSED[kind]
        write(tmp_path / "sent")
        text = refusal(tmp_path / "sent")
        assert re.search(cause, text), text

    def test_no_memory_is_taken_for_what_they_announce(self, tmp_path: Path) -> None:
        for name, (write, _) in REFUSED.items():
            write(tmp_path / name)
        command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(done.stdout) < 100_000  # KiB

    @pytest.mark.parametrize(("syntax", "encode"), [("jpeg", jpeg), ("jpeg-2000", jpeg_2000)])
    def test_a_frame_that_is_cut_short_is_an_error(
        self, tmp_path: Path, syntax: str, encode: Callable[[np.ndarray], bytes]
    ) -> None:
        """Decoders fill up with grey."""
        path = write_dicom(tmp_path / "a.dcm", NOISE, Written(syntax, tile=(200, 150)))
        content, frame = path.read_bytes(), encode(NOISE)
        place = content.index(frame[:100])
        path.write_bytes(content[: place + 3000] + bytes(len(frame) - 3000) + content[place + len(frame) :])
        assert "damaged, cut off" in refusal(path)


ONE_PROCESS = """
import resource, sys
from pathlib import Path
from shared.errors import Rejected
from shared.slides import open_slide

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        with open_slide(path) as slide:
            slide.overview(64)
        raise SystemExit(f"{path.name} was taken")
    except Rejected:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
