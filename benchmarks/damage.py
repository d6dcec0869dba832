"""Ways in which files are damaged: by accident, and by headers that lie. Bytes in, bytes out; the same for a seed."""

import io
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np

Random = np.random.Generator
Damage = Callable[[bytes, Random], bytes]

HEADER = 1024  # bytes at the beginning that mostly describe the rest
LIES = (0, 1, 2, 3, 7, 255, 256, 4096, 65_535, 65_536, 1_000_000, 2**31 - 1, 2**31, 2**32 - 1)
# What is what in the pixels: sizes, kinds, where tiles and strips lie, other pages.
TIFF_TAGS = {*range(254, 260), 262, 273, 274, 277, 278, 279, 284, 317, 320, *range(322, 326), 330, 338, 339, 530}
# Rows, columns, samples per pixel, bits; columns and rows of the whole slide.
DICOM_TAGS = ((0x28, 0x10), (0x28, 0x11), (0x28, 0x02), (0x28, 0x100), (0x48, 0x06), (0x48, 0x07))
NUMBER = re.compile(rb"-?\d+(\.\d+)?")
ODD_NUMBERS = (b"0", b"-1", b"1", b"65536", b"1e999", b"2147483648", b"99999999999999999999", b"null", b"[]", b'"x"')


def cut(content: bytes, random: Random) -> bytes:
    """Ends anywhere."""
    return content[: int(random.integers(0, len(content)))]


def flip_in_header(content: bytes, random: Random) -> bytes:
    """Some bits at the beginning are others."""
    return _flip(content, random, min(HEADER, len(content)))


def flip_anywhere(content: bytes, random: Random) -> bytes:
    """Some bits are others."""
    return _flip(content, random, len(content))


def swap(content: bytes, random: Random) -> bytes:
    """Two parts have changed places."""
    first, second, third = sorted(int(place) for place in random.integers(0, len(content) + 1, 3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def blank(content: bytes, random: Random) -> bytes:
    """A part is zeros."""
    start, end = sorted(int(place) for place in random.integers(0, len(content) + 1, 2))
    return content[:start] + bytes(end - start) + content[end:]


def insert(content: bytes, random: Random) -> bytes:
    """Something has come between."""
    place = int(random.integers(0, len(content) + 1))
    return content[:place] + random.bytes(int(random.integers(1, 2000))) + content[place:]


ACCIDENTS: tuple[Damage, ...] = (cut, flip_in_header, flip_anywhere, swap, blank, insert)


def lie(content: bytes, random: Random) -> bytes:
    """The header says another size, type or place, as far as its format is known; else as an accident."""
    for mark, damage in LIARS:
        if content[mark[0] : mark[0] + len(mark[1])] == mark[1]:
            return damage(content, random)
    return flip_in_header(content, random)


def lie_in_numbers(content: bytes, random: Random) -> bytes:
    """Some numbers of a text, such as JSON, are others."""
    numbers = list(NUMBER.finditer(content))
    if not numbers:
        return flip_anywhere(content, random)
    match = numbers[int(random.integers(len(numbers)))]
    return content[: match.start()] + ODD_NUMBERS[int(random.integers(len(ODD_NUMBERS)))] + content[match.end() :]


def _flip(content: bytes, random: Random, length: int) -> bytes:
    damaged = bytearray(content)
    for place in random.integers(0, length, int(random.integers(1, 9))):
        damaged[int(place)] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def _lie(random: Random) -> int:
    return LIES[int(random.integers(len(LIES)))]


def _lie_in_png(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    if random.random() < 0.7:
        struct.pack_into(">I", damaged, int(random.choice([16, 20])), _lie(random))
    else:
        damaged[int(random.integers(24, 29))] = int(random.integers(256))  # depth, colours, filter …
    struct.pack_into(">I", damaged, 29, zlib.crc32(damaged[12:29]))
    return bytes(damaged)


def _lie_in_jpeg(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    frames = [match.start() for match in re.finditer(rb"\xff[\xc0-\xc2]\x00", content)]
    if not frames:
        return flip_in_header(content, random)
    place = frames[int(random.integers(len(frames)))]
    struct.pack_into(">H", damaged, place + int(random.choice([5, 7])), _lie(random) % 65_536)
    return bytes(damaged)


def _lie_in_tiff(content: bytes, random: Random) -> bytes:
    """One of the tags of the first pages says something else; classic TIFF and BigTIFF."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    tags = _find_tags(content, order, big=big)
    if not tags:
        return flip_in_header(content, random)
    damaged, place = bytearray(content), tags[int(random.integers(len(tags)))]
    what, width = int(random.integers(4)), 8 if big else 4
    if what == 0:  # how many values there are
        struct.pack_into(order + ("Q" if big else "I"), damaged, place + 4, _lie(random))
    elif what == 1:  # of which type
        struct.pack_into(order + "H", damaged, place + 2, int(random.integers(20)))
    else:
        kind = struct.unpack_from(order + "H", damaged, place + 2)[0]
        letter = {1: "B", 3: "H", 4: "I"}.get(kind, "I")
        value = _lie(random) % 2 ** (8 * struct.calcsize(letter))
        struct.pack_into(order + letter, damaged, place + 4 + width, value)
    return bytes(damaged)


def _find_tags(content: bytes, order: str, *, big: bool) -> list[int]:
    """Where the entries of known tags lie."""
    place = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)[0]
    size, head = (20, 8) if big else (12, 2)
    found: list[int] = []
    for _ in range(8):
        if not 0 < place < len(content) - head:
            break
        count = struct.unpack_from(order + ("Q" if big else "H"), content, place)[0]
        entries = [place + head + size * index for index in range(min(count, 100))]
        inside = [entry for entry in entries if entry + size <= len(content)]
        found += [entry for entry in inside if struct.unpack_from(order + "H", content, entry)[0] in TIFF_TAGS]
        end = place + head + size * count
        if end + 8 > len(content):
            break
        place = struct.unpack_from(order + ("Q" if big else "I"), content, end)[0]
    return found


def _lie_in_npy(content: bytes, random: Random) -> bytes:
    """Another shape, or another type of the same kind of header."""
    file = io.BytesIO()
    shape = tuple(_lie(random) for _ in range(int(random.integers(1, 5))))
    kind = ["|u1", "<f8", "<i8", "|O", "<U9999999", "<c16"][int(random.integers(6))]
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + content[128:]


def _lie_in_dicom(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    for tag in random.permutation(len(DICOM_TAGS)):
        place = content.find(struct.pack("<HH", *DICOM_TAGS[int(tag)]))
        if place >= 0:
            width = struct.unpack_from("<H", content, place + 6)[0]
            letter = {2: "H", 4: "I"}.get(width, "H")
            struct.pack_into("<" + letter, damaged, place + 8, _lie(random) % 2 ** (8 * struct.calcsize(letter)))
            break
    return bytes(damaged)


LIARS: tuple[tuple[tuple[int, bytes], Damage], ...] = (
    ((0, b"\x89PNG"), _lie_in_png),
    ((0, b"\xff\xd8\xff"), _lie_in_jpeg),
    ((0, b"II"), _lie_in_tiff),
    ((0, b"MM"), _lie_in_tiff),
    ((0, b"\x93NUMPY"), _lie_in_npy),
    ((128, b"DICM"), _lie_in_dicom),
    ((0, b"{"), lie_in_numbers),
    ((0, b"["), lie_in_numbers),
)
