"""What a TIFF's lists of tags announce, looked at before anybody takes memory for it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tifffile import TiffFileError

from shared.slides.source import Source

PAGES = 20_000  # in the chain and below it; a stack of a microscope has some thousands
TAGS = 1000  # of a page; there are some hundred of them
TAG_BYTES = 64_000_000  # of one value: where 8 million tiles lie, in a BigTIFF
TEXT_BYTES = 16_000_000  # of a description: OME's XML of thousands of planes has some
ALL_BYTES = 256_000_000  # of all values together
TEXT = 2  # the type of a tag
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SUB_IFDS, NDPI = 330, 65420


@dataclass(frozen=True)
class _Dialect:
    """How offsets and counts are written."""

    order: str  # struct's byte order
    big: bool  # BigTIFF

    @property
    def head(self) -> int:
        """Bytes that hold the number of tags."""
        return 8 if self.big else 2

    @property
    def entry(self) -> str:
        """A tag: its number, type, count, and the value or where it lies."""
        return self.order + ("HHQ8s" if self.big else "HHI4s")

    def number(self, content: bytes) -> int:
        """An offset or a count in 2, 4 or 8 bytes."""
        return int(struct.unpack(self.order + {2: "H", 4: "I", 8: "Q"}[len(content)], content)[0])


@dataclass(frozen=True)
class _Tag:
    code: int
    kind: int
    count: int
    value: bytes  # or where it lies

    @property
    def bytes(self) -> int:
        return self.count * SIZES.get(self.kind, 1)


class Directories:
    """The lists of tags of a TIFF, followed from one to the next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        head = source.read(0, 16)
        big = head[2:4] in (b"+\0", b"\0+")
        self._dialect = _Dialect("<" if head.startswith(b"II") else ">", big)
        self._first = self._dialect.number(head[8:16] if big else head[4:8])
        self._seen = set[int]()
        self._bytes = 0

    def check(self) -> None:
        """Raise TiffFileError if there are too many, if they run in a circle, or if a value is out of proportion."""
        offset, chain = self._first, set[int]()
        while 8 <= offset < self._source.size:  # else it is the end, or cut off: whoever reads pixels will miss them
            if offset in chain:
                raise TiffFileError("its list of pages runs in a circle")
            chain.add(offset)
            below, offset = self._check_page(offset)
            for smaller in below:
                if smaller not in self._seen and 8 <= smaller < self._source.size:
                    self._check_page(smaller)

    def _check_page(self, offset: int) -> tuple[list[int], int]:
        """Check the tags of one page, then give the offsets of the pages that lie below it, and of the next."""
        dialect, source = self._dialect, self._source
        self._seen.add(offset)
        if len(self._seen) > PAGES:
            raise TiffFileError(f"it has more than {PAGES} pages")
        head = source.read(offset, dialect.head)
        count = dialect.number(head) if len(head) == dialect.head else 0
        if count > TAGS:
            raise TiffFileError(f"a page has {count} tags, {TAGS} is the limit")
        step = struct.calcsize(dialect.entry)
        content = source.read(offset + dialect.head, count * step + 8)
        tags = [_Tag(*entry) for entry in struct.iter_unpack(dialect.entry, content[: len(content) // step * step])]
        for tag in tags[:count]:
            self._check_tag(tag)
        below = [offset for tag in tags[:count] if tag.code == SUB_IFDS for offset in self._offsets_in(tag)]
        # Hamamatsu's NDPI writes the next one in eight bytes, in a file that is no BigTIFF.
        width = 8 if dialect.big or any(tag.code == NDPI for tag in tags[:count]) else 4
        following = content[count * step : count * step + width]
        return below, dialect.number(following) if len(following) == width else 0

    def _check_tag(self, tag: _Tag) -> None:
        limit = TEXT_BYTES if tag.kind == TEXT else TAG_BYTES
        self._bytes += tag.bytes
        if tag.bytes > min(limit, self._source.size) or self._bytes > ALL_BYTES:
            raise TiffFileError(f"its tag {tag.code} announces {tag.count} values, more than any image needs")

    def _offsets_in(self, tag: _Tag) -> Iterator[int]:
        width = SIZES.get(tag.kind, 4)
        if tag.count > PAGES or width not in (4, 8):
            raise TiffFileError(f"a page lists {tag.count} smaller ones of {width} bytes each")
        inline = tag.bytes <= len(tag.value)
        content = tag.value if inline else self._source.read(self._dialect.number(tag.value), tag.bytes)
        for start in range(0, min(tag.bytes, len(content)) - width + 1, width):
            yield self._dialect.number(content[start : start + width])


def check_directories(source: Source) -> None:
    """Raise TiffFileError if the file announces more pages or longer tags than an image can need."""
    Directories(source).check()
