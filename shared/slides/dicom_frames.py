"""The frames of a DICOM file: where they lie, and their samples."""

import io
import os
import struct
from collections.abc import Callable, Sequence

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile

from shared.imaging.normalisation import Samples
from shared.slides.dicom_headers import DicomHeader, Unsuited

PLAIN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
JPEG = {"1.2.840.10008.1.2.4.50"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
GREYS = {"MONOCHROME1", "MONOCHROME2"}
LUMINANCES = {"YBR_FULL", "YBR_FULL_422"}
DECODED_TO_RGB = {"RGB", "YBR_ICT", "YBR_RCT", *LUMINANCES}
PIXEL_DATA, ITEM, END = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
NO_PIXELS = "a DICOM file without pixels; submit one that has them"
UNDEFINED = 0xFFFFFFFF
FRAGMENTS = 2**23
STREAM_END = b"\xff\xd9"  # of JPEG and of JPEG 2000
PADDING = 4  # bytes at the end of a frame among which that mark lies
ELEMENT = struct.Struct("<HHI")  # group, element, length
TYPED = struct.Struct("<HH2s2xI")  # the same with its type
# YCbCr of full range → RGB (ITU-T T.871)
FROM_LUMINANCE = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]])


class Frames:
    """The frames of an open file. Safe to share between threads."""

    def __init__(self, descriptor: int, header: DicomHeader) -> None:
        _check_kind(header)
        self._descriptor, self._header = descriptor, header
        self._size = os.fstat(descriptor).st_size
        start, length = self._pixels()
        if header.syntax in PLAIN:
            self._spans = self._plain_spans(start, length)
        else:
            self._spans = _group(*self._fragments(start), header.frames)

    def read(self, frame: int) -> Samples:
        """Samples (tile height, tile width, samples per pixel): grey, or RGB.

        Raises:
            ValueError, RuntimeError, OSError, SyntaxError: the frame is damaged.
        """
        data = b"".join(os.pread(self._descriptor, count, offset) for offset, count in self._spans(frame))
        samples = self._decode(data)
        wanted = (*self._header.tile, self._header.samples)
        samples = samples.reshape(*samples.shape[:2], -1)
        if samples.shape != wanted or samples.dtype.itemsize > 2:
            raise ValueError(f"a frame is of {samples.shape} samples instead of {wanted}")
        return samples

    def _decode(self, data: bytes) -> Samples:
        header = self._header
        if header.syntax in PLAIN:
            return self._arrange(data)
        if STREAM_END not in data[-PADDING:]:  # decoders would fill up with grey
            raise ValueError("a frame is cut off")
        if header.syntax in JPEG:
            _check_announced(data, JpegImageFile, header.tile)
            stored = "RGB" if _is_rgb(data, header.photometric) else None
            decoded: Samples = imagecodecs.jpeg8_decode(data, colorspace=stored, outcolorspace=stored)
            return decoded
        _check_announced(data, Jpeg2KImageFile, header.tile)
        decoded = imagecodecs.jpeg2k_decode(data)
        return _from_luminance(decoded) if header.photometric in LUMINANCES else decoded

    def _arrange(self, data: bytes) -> Samples:
        """Samples that were stored as they are."""
        header = self._header
        stored = np.frombuffer(data, header.number)
        if header.planar:
            samples = stored.reshape(header.samples, *header.tile).transpose(1, 2, 0)
        else:
            samples = stored.reshape(*header.tile, header.samples)
        native = samples.astype(header.number.newbyteorder("="))
        return _from_luminance(native) if header.photometric in LUMINANCES else native

    def _pixels(self) -> tuple[int, int]:
        """Where the pixels begin, behind their element's head, and its length."""
        form = ELEMENT if self._header.implicit else TYPED
        if self._header.pixels_at >= self._size:
            raise Unsuited(NO_PIXELS)
        group, element, *_, length = form.unpack(self._read_exactly(self._header.pixels_at, form.size))
        if (group, element) != PIXEL_DATA:
            raise Unsuited(NO_PIXELS)
        return self._header.pixels_at + form.size, length

    def _plain_spans(self, start: int, length: int) -> "Spans":
        header = self._header
        each = header.frame_bytes
        beyond = start + each * header.frames - self._size
        if beyond > 0 or length < each * header.frames:
            raise ValueError(f"its pixels end {max(beyond, 1)} bytes beyond what there is")
        return lambda frame: [(start + frame * each, each)]

    def _fragments(self, start: int) -> tuple[NDArray[np.int64], list[int]]:
        """(offset, count) of each fragment, and the table of the frames' first ones, by offset; perhaps empty."""
        table_length = self._item(start)
        if table_length is None:
            raise ValueError("its frames are not wrapped up")
        table = self._read_exactly(start + ELEMENT.size, table_length)
        first = place = start + ELEMENT.size + table_length
        spans: list[tuple[int, int]] = []
        while (length := self._item(place)) is not None:
            place += ELEMENT.size
            spans.append((place, length))
            place += length
            if len(spans) > FRAGMENTS:
                raise ValueError(f"more than {FRAGMENTS} fragments")
        offsets = np.frombuffer(table[: len(table) // 4 * 4], "<u4") + np.int64(first + ELEMENT.size)
        return np.array(spans, dtype=np.int64).reshape(-1, 2), offsets.tolist()

    def _item(self, place: int) -> int | None:
        """Length of the item at a place, None at the end of them."""
        group, element, length = ELEMENT.unpack(self._read_exactly(place, ELEMENT.size))
        if (group, element) == END:
            return None
        if (group, element) != ITEM or length == UNDEFINED:
            raise ValueError("its frames are not where they should be")
        if place + ELEMENT.size + length > self._size:
            raise ValueError("its frames end beyond the end of the file")
        return int(length)

    def _read_exactly(self, place: int, count: int) -> bytes:
        data = os.pread(self._descriptor, min(count, max(self._size - place, 0)), place)
        if len(data) < count:
            raise ValueError("it ends before its pixels do")
        return data


Spans = Callable[[int], Sequence[tuple[int, int]]]  # frame → (offset, count) of its parts, bytes


def _group(fragments: NDArray[np.int64], table: list[int], frames: int) -> Spans:
    """Which fragments make up a frame: one each, or those from one entry of the table to the next."""
    if len(fragments) == frames:
        return lambda frame: [_span(fragments, frame)]
    if frames == 1:
        return lambda frame: [_span(fragments, index) for index in range(frame, len(fragments))]
    if len(table) != frames:
        raise ValueError(
            f"{frames} frames in {len(fragments)} fragments, and no table that tells which belong together"
        )
    firsts = np.searchsorted(fragments[:, 0], table)
    if not np.array_equal(fragments[np.minimum(firsts, len(fragments) - 1), 0], table) or (np.diff(firsts) < 1).any():
        raise ValueError("the table of its frames does not fit them")
    ends = [*firsts[1:].tolist(), len(fragments)]
    return lambda frame: [_span(fragments, index) for index in range(int(firsts[frame]), ends[frame])]


def _span(fragments: NDArray[np.int64], index: int) -> tuple[int, int]:
    return int(fragments[index, 0]), int(fragments[index, 1])


def _check_kind(header: DicomHeader) -> None:
    """Raise Unsuited for what cannot be turned into grey or RGB."""
    mend = "save it as grey or RGB, uncompressed or in JPEG or JPEG 2000"
    if header.syntax not in PLAIN | JPEG | JPEG_2000:
        raise Unsuited(f"a DICOM file in the transfer syntax {header.syntax}; {mend}")
    grey = header.samples == 1 and header.photometric in GREYS
    coloured = header.samples == 3 and header.photometric in DECODED_TO_RGB and header.number == np.uint8
    halved = header.syntax in PLAIN and header.photometric == "YBR_FULL_422"
    if not (grey or coloured) or halved:
        raise Unsuited(f"a DICOM file with {header.samples} samples per pixel of the kind {header.photometric}; {mend}")


def _check_announced(data: bytes, read_size: Callable[[io.BytesIO], ImageFile], tile: tuple[int, int]) -> None:
    with read_size(io.BytesIO(data)) as image:
        width, height = image.size
    if (height, width) != tile:
        raise ValueError(f"a frame of {tile[1]} × {tile[0]} px announces {width} × {height}")


def _is_rgb(data: bytes, photometric: str) -> bool:
    """Whether a JPEG holds RGB. Its own markers are believed before the header, which programs forget to adapt."""
    with JpegImageFile(io.BytesIO(data)) as image:
        if "adobe" in image.info:
            return image.info.get("adobe_transform") == 0
        return photometric == "RGB" and "jfif" not in image.info


def _from_luminance(samples: Samples) -> Samples:
    """YCbCr (H, W, 3) uint8 → RGB."""
    centred = samples.astype(np.float32) - np.array([0, 128, 128], dtype=np.float32)
    return np.clip(np.rint(centred @ FROM_LUMINANCE.astype(np.float32)), 0, 255).astype(np.uint8)
