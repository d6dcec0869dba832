"""Slides in DICOM (VL Whole Slide Microscopy): a file, or a folder with the instances of a series."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from shared.errors import Rejected
from shared.imaging.normalisation import Samples, find_window
from shared.imaging.tiling import Box, Pixels
from shared.slides import dicom_headers
from shared.slides.dicom_frames import Frames
from shared.slides.dicom_headers import DicomHeader, Unsuited, read_header, shows_specimen
from shared.slides.slide import GREY, RGB, Level, Limits, Slide, reraise_if_passing
from shared.slides.windows import Windows, apply_windows

MAGIC, MAGIC_AT = b"DICM", 128
INSTANCES = 1000  # files of a folder
DAMAGE = (*dicom_headers.DAMAGE, RuntimeError, SyntaxError)  # those of the codecs besides
WINDOWING = 8  # bytes per sample that it takes to find and to apply a window
SPARSE = 1000  # tiles for a frame that is stored: less is no image
ALWAYS = 2**28  # px that are looked at however little is stored
WHITE = 255  # glass, where a slide has no tile


class DicomSlide(Slide):
    """The volume of a series, its resolutions from the largest to the smallest: RGB, or grey of each optical path."""

    format = "dicom"

    def __init__(self, path: Path, *, name: str, window: Windows | None, limits: Limits) -> None:
        self._name, self._opened = name, ExitStack()
        with ExitStack() as opened:
            try:
                files = _find_instances(path) if path.is_dir() else [path]
                instances = _sort([(read_header(file), file) for file in files])
                self._check([header for header, _ in instances], limits)
                self._headers = [header for header, _ in instances]
                self._frames = [_open(file, header, opened) for header, file in instances]
                self._describe()
                self.window = window or self._find_windows()
            except DAMAGE as error:
                raise _damaged(name, error) from error
            self._opened = opened.pop_all()

    def _check(self, headers: Sequence[DicomHeader], limits: Limits) -> None:
        """Raise Rejected for what is too large, or announces what is not there."""
        for header in headers:
            limits.check(self._name, height=header.height, width=header.width)
            per_sample = 1 + (0 if header.number.itemsize == 1 else WINDOWING)
            limits.check_decoded(self._name, size=header.frame_bytes * per_sample, mend="export it with smaller tiles")
            limits.check_channels(self._name, len(header.channels))
            tiles = header.places.size
            if header.height * header.width > ALWAYS and tiles > header.frames * SPARSE:
                raise ValueError(f"{header.frames} of {tiles} tiles are there")

    def _describe(self) -> None:
        first = self._headers[0]
        self.levels = tuple(Level(header.height, header.width, header.tile) for header in self._headers)
        self.mpp, self.dtype = first.mpp, str(first.number.newbyteorder("="))
        if first.samples == len(RGB):
            self.channels = RGB
        elif len(first.channels) == 1:
            self.channels = GREY
        else:
            self.channels = tuple(name or f"channel {number}" for number, name in enumerate(first.channels, 1))

    def _find_windows(self) -> Windows | None:
        if self._headers[0].number.itemsize == 1:
            return None
        found = tuple(find_window(self._parts(channel)) for channel in range(len(self.channels)))
        return found[0] if len(found) == 1 else found

    def _parts(self, channel: int) -> Iterator[Samples]:
        return (self._read_path(piece, 0, channel) for piece in self.levels[0].pieces())

    def _read(self, box: Box, level: int) -> Pixels:
        shown = self._show(self._samples(box, level, min(len(self.channels), len(RGB))))
        if shown.shape[2] == 1:
            return shown.repeat(len(RGB), axis=2)
        return np.pad(shown, ((0, 0), (0, 0), (0, len(RGB) - shown.shape[2])))

    def _read_channels(self, box: Box, level: int) -> Pixels:
        return self._show(self._samples(box, level, len(self.channels)))

    def _read_samples(self, box: Box) -> Samples:
        return self._samples(box, 0, len(self.channels))

    def _show(self, samples: Samples) -> Pixels:
        """Samples (H, W, C or fewer) through their windows, the right way between dark and bright."""
        pixels = apply_windows(samples, self.window)
        return 255 - pixels if self._headers[0].photometric == "MONOCHROME1" else pixels

    def _samples(self, box: Box, level: int, count: int) -> Samples:
        """The first `count` channels, in the file's number type."""
        paths = 1 if self.channels == RGB and self._headers[0].samples == len(RGB) else count
        try:
            parts = [self._read_path(box, level, path) for path in range(paths)]
        except DAMAGE as error:
            raise _damaged(self._name, error) from error
        return parts[0] if paths == 1 else np.concatenate(parts, axis=2)

    def _read_path(self, box: Box, level: int, path: int) -> Samples:
        """Samples (box.height, box.width, 1 or 3) of an optical path; glass or darkness where there is no frame."""
        header, frames = self._headers[level], self._frames[level]
        height, width = header.tile
        empty = WHITE if header.samples == len(RGB) else 0
        samples = np.full((box.height, box.width, header.samples), empty, dtype=header.number.newbyteorder("="))
        for row in range(box.top // height, -(-box.bottom // height)):
            for column in range(box.left // width, -(-box.right // width)):
                frame = int(header.places[path, row, column])
                if frame >= 0:
                    tile = Box(row * height, column * width, (row + 1) * height, (column + 1) * width)
                    common = tile.intersect(box)
                    part = frames.read(frame)[common.move(-tile.top, -tile.left).slices()]
                    samples[common.move(-box.top, -box.left).slices()] = part
        return samples

    def close(self) -> None:
        self._opened.close()

    def __del__(self) -> None:
        self.close()  # a number of an open file closes nothing when it is dropped


def is_dicom(path: Path) -> bool:
    """Whether a file bears DICOM's mark."""
    with path.open("rb") as file:
        file.seek(MAGIC_AT)
        return file.read(len(MAGIC)) == MAGIC


def _find_instances(folder: Path) -> list[Path]:
    """The files of a folder that show the specimen."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if len(files) > INSTANCES:
        raise Unsuited(f"a folder of {len(files)} files; send one series of at most {INSTANCES}")
    shown = [path for path in files if is_dicom(path) and shows_specimen(path)]
    if not shown:
        raise Unsuited("no file of the folder shows the specimen; submit the instances of its volume")
    return shown


def _sort(instances: list[tuple[DicomHeader, Path]]) -> list[tuple[DicomHeader, Path]]:
    """The resolutions of one series, the largest first."""
    if len({header.series for header, _ in instances}) > 1:
        raise Unsuited("files of several series; submit each series as an image of its own")
    instances.sort(key=lambda instance: -instance[0].width)
    largest = instances[0][0]
    for (larger, _), (header, _) in itertools.pairwise(instances):
        if header.width == larger.width:
            raise Unsuited("two files of the same size in one series; submit the one that is wanted")
        if _kind(header) != _kind(largest):
            raise Unsuited("the resolutions are of different kinds; submit the largest alone")
        factor = largest.width / header.width
        if abs(largest.height / factor - header.height) > 2:
            raise Unsuited("the files of the series do not show the same; submit the largest alone")
    return instances


def _kind(header: DicomHeader) -> tuple[object, ...]:
    """What the resolutions of a series must have in common."""
    return header.samples, header.number, header.channels, header.photometric == "MONOCHROME1"


def _open(file: Path, header: DicomHeader, opened: ExitStack) -> Frames:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return Frames(descriptor, header)


def _damaged(name: str, error: Exception) -> Rejected:
    reraise_if_passing(error)
    if isinstance(error, Unsuited):
        return Rejected(f"{name}: {error}")
    cause = "its header contradicts itself" if isinstance(error, dicom_headers.CONTRADICTION) else str(error)
    return Rejected(
        f"{name}: the DICOM file is damaged, cut off or of an unusual kind ({cause}); open it in a viewer and export "
        "it again"
    )
