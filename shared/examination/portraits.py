"""The images of a dataset as the search for duplicates and neighbours sees them."""

from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.examination.fingerprints import unpack_fingerprints
from shared.examination.images import ImageExamination
from shared.imaging.tiling import Pixels


@dataclass(frozen=True)
class Portrait:
    """An image by what it is recognised by: about 1.7 kB."""

    height: int  # px
    width: int  # px
    pixels_sha256: str
    fingerprint: bytes

    @classmethod
    def of(cls, examination: ImageExamination) -> Self:
        """What examining the image found."""
        fingerprint = b64decode(examination.fingerprint)
        return cls(examination.height, examination.width, examination.pixels_sha256, fingerprint)


@dataclass(frozen=True, eq=False)
class Gallery:
    """The portraits of a dataset, in its order: an image is a number from here on."""

    portraits: Sequence[Portrait]

    @cached_property
    def miniatures(self) -> Pixels:
        """(N, 32, 32)."""
        return self._unpacked[0]

    @cached_property
    def borders(self) -> Pixels:
        """(N, 4, 128), as `Border` orders them."""
        return self._unpacked[1]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(N, 2): height and width, px."""
        return np.array([(one.height, one.width) for one in self.portraits], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def same(self) -> list[tuple[int, ...]]:
        """Images with the same pixels, two or more each."""
        found: dict[str, list[int]] = {}
        for number, one in enumerate(self.portraits):
            found.setdefault(one.pixels_sha256, []).append(number)
        return [tuple(numbers) for numbers in found.values() if len(numbers) > 1]

    @cached_property
    def distinct(self) -> NDArray[np.int64]:
        """One image of each that are the same."""
        repeated = {number for numbers in self.same for number in numbers[1:]}
        return np.array([number for number in range(len(self.portraits)) if number not in repeated], dtype=np.int64)

    @cached_property
    def _unpacked(self) -> tuple[Pixels, Pixels]:
        return unpack_fingerprints([one.fingerprint for one in self.portraits])


def join(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Groups of numbers that are linked by pairs, directly or through others, each in order; the groups likewise."""
    leader: dict[int, int] = {}

    def find(number: int) -> int:
        while leader.setdefault(number, number) != number:
            leader[number] = leader[leader[number]]  # halves the way for the next one
            number = leader[number]
        return number

    for one, other in pairs:
        first, second = sorted((find(one), find(other)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for number in sorted(leader):
        groups.setdefault(find(number), []).append(number)
    return [tuple(group) for group in groups.values()]
