"""Decompression that ends where it should: no stream takes more memory than its reader allows."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

import google_crc32c
import imagecodecs

Decoded = bytes | bytearray
CHECKSUM = struct.Struct("<I")  # of the crc32c codec, behind the data
LZ4_HEADER = 4  # bytes; the size that numcodecs writes before the stream
LZMA_MEMORY = 2**28  # bytes; what a dictionary may take
# What they raise for damage: imagecodecs' errors are RuntimeErrors.
DAMAGE = (ValueError, RuntimeError, EOFError, OSError, zlib.error, lzma.LZMAError, struct.error)


def inflate(codec: str, data: Decoded, most: int) -> Decoded:
    """The bytes that a codec (by its name in Zarr) made into `data`.

    Raises:
        ValueError: they are more than `most`, or the codec is unknown.
        DAMAGE: the stream is damaged.
    """
    if codec not in CODECS:
        raise ValueError(f"the codec {codec!r} is not known")
    return CODECS[codec](bytes(data), most)


def _deflated(data: bytes, most: int) -> bytes:
    """What zlib or gzip made, whichever the first bytes say."""
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
    return _all_of(stream.decompress(data, most + 1), most, ended=stream.eof)


def _bz2(data: bytes, most: int) -> bytes:
    stream = bz2.BZ2Decompressor()
    return _all_of(stream.decompress(data, most + 1), most, ended=stream.eof)


def _lzma(data: bytes, most: int) -> bytes:
    stream = lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    return _all_of(stream.decompress(data, most + 1), most, ended=stream.eof)


def _all_of(inflated: bytes, most: int, *, ended: bool) -> bytes:
    if len(inflated) > most:
        raise ValueError(f"a compressed part holds more than the {most} bytes that it should")
    if not ended:
        raise ValueError("a compressed part is cut off")
    return inflated


def _into_buffer(decode: Callable[..., Decoded]) -> Callable[[bytes, int], Decoded]:
    """For the decoders of imagecodecs, which fill a buffer of a given size and fail beyond it."""
    return lambda data, most: decode(data, out=most)


def _lz4(data: bytes, most: int) -> Decoded:
    return imagecodecs.lz4_decode(data[LZ4_HEADER:], out=most)


def _checked(data: bytes, _most: int) -> bytes:
    content, (stored,) = data[: -CHECKSUM.size], CHECKSUM.unpack(data[-CHECKSUM.size :])
    if google_crc32c.value(content) != stored:
        raise ValueError("a checksum does not fit its data")
    return content


CODECS: dict[str, Callable[[bytes, int], Decoded]] = {
    # By its successor, which reads it too: the decoder of Blosc 1 writes beyond its buffer where bits are flipped.
    "blosc": _into_buffer(imagecodecs.blosc2_decode),
    "bz2": _bz2,
    "crc32c": _checked,
    "gzip": _deflated,
    "lz4": _lz4,
    "lzma": _lzma,
    "zlib": _deflated,
    "zstd": _into_buffer(imagecodecs.zstd_decode),
}
