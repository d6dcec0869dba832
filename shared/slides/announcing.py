"""Tiles that announce a size of their own, which decoders take memory for: it is looked at first."""

import io
import struct

from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from tifffile import COMPRESSION, TiffFileError

# Compressions that are decoded into a buffer of the tile's size, whatever they hold.
BOUNDED = {
    COMPRESSION.NONE,
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITTFAX3,
    COMPRESSION.CCITTFAX4,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
}
END = b"\xff\xd9"  # of a JPEG; never among its pixels, where each 0xff is followed by 0
SCAN, SCANS = b"\xff\xda", 100  # a progressive JPEG's passes over the image: some ten; a bomb has thousands
VP8_START = b"\x9d\x01\x2a"


def check_announced(compression: int, data: bytes, tile: tuple[int, int]) -> None:
    """Raise TiffFileError if a tile or strip of `tile` (height, width) px would be decoded to more than that.

    So it does for a JPEG that is cut off: its decoder would fill it up with grey.
    Whatever its parser raises is raised if it is no image at all.
    """
    read_size = ANNOUNCING.get(COMPRESSION(compression))
    if read_size is None:
        return
    width, height = read_size(data)
    if height > tile[0] or width > tile[1]:
        raise TiffFileError(f"a tile or strip of {tile[1]} × {tile[0]} px announces {width} × {height}")


def check_scans(content: bytes) -> None:
    """Raise ValueError for a JPEG that libjpeg would be busy with for hours."""
    if content.count(SCAN) > SCANS:
        raise ValueError(f"it has more than {SCANS} passes over the image")


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    check_scans(data)
    if data.rfind(END) < data.rfind(SCAN):
        raise TiffFileError("a tile or strip is cut off: the end of its JPEG is missing")
    with JpegImageFile(io.BytesIO(data)) as image:
        return image.size


def _size_of_jpeg2000(data: bytes) -> tuple[int, int]:
    with Jpeg2KImageFile(io.BytesIO(data)) as image:
        return image.size


def _size_of_webp(data: bytes) -> tuple[int, int]:
    """(width, height) by the first chunk of a WebP (RFC 9649, 2.5 to 2.7): lossy, lossless or with a canvas."""
    chunk, body = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(body) < 10:
        raise TiffFileError("a tile or strip is no WebP")
    if chunk == b"VP8X":
        return (
            int.from_bytes(body[4:7], "little") + 1,
            int.from_bytes(body[7:10], "little") + 1,
        )
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk != b"VP8 " or body[3:6] != VP8_START:
        raise TiffFileError("a tile or strip is no WebP")
    width, height = struct.unpack("<HH", body[6:10])
    return width & 0x3FFF, height & 0x3FFF


ANNOUNCING = {
    COMPRESSION.JPEG: _size_of_jpeg,
    COMPRESSION.JPEG2000: _size_of_jpeg2000,
    COMPRESSION.APERIO_JP2000_RGB: _size_of_jpeg2000,
    COMPRESSION.WEBP: _size_of_webp,
}
READABLE = BOUNDED | ANNOUNCING.keys()
