"""A Zarr array, region by region: formats 2 and 3, with shards, believing nothing that the metadata announce.

zarr's own reader takes as much memory as a compressed chunk asks for, follows links and decodes ten chunks at once,
which a worker cannot afford with files of strangers. The tests compare the two.
"""

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from shared.imaging.normalisation import Samples
from shared.slides.zarr_files import ZarrFiles
from shared.slides.zarr_metadata import ArrayDescription, Packing, with_spare

INDICES = 32  # of shards, kept in memory
MISSING = 2**64 - 1  # offset and length of a chunk that a shard leaves out
CHECKSUM = 4  # bytes of a checksum behind an index

Place = tuple[int, ...]


class ChunkedArray:
    """The array that lies under `path`. Safe to share between threads while the files are open."""

    def __init__(self, files: ZarrFiles, path: str, about: ArrayDescription) -> None:
        self._files, self._path, self.about = files, path, about
        self._most = with_spare(math.prod(about.chunk) * about.number.itemsize)  # bytes of a chunk as it is stored
        self._shards = _Shards(files, path, about) if about.shard else None

    def read(self, start: Sequence[int], stop: Sequence[int]) -> Samples:
        """Numbers of a region inside the array, from `start` up to `stop` of each axis; left out is filled in.

        Raises:
            inflating.DAMAGE: a chunk is damaged.
        """
        about = self.about
        region = np.full([end - begin for begin, end in zip(start, stop, strict=True)], about.fill, about.number)
        spans = zip(start, stop, about.chunk, strict=True)
        for place in itertools.product(*(range(begin // size, math.ceil(end / size)) for begin, end, size in spans)):
            data = self._fetch(place)
            if data is not None:
                _paste(about.packing.unpack(data, about.chunk), region, place, start)
        return region

    def _fetch(self, place: Place) -> bytes | None:
        """A chunk as it is stored, None if it is left out."""
        if self._shards is not None:
            key, span = self._shards.find(place)
        else:
            key = f"{self._path}/{self.about.key(place)}"
            size = self._files.size(key)
            span = None if size is None else (0, size)
        if span is None:
            return None
        if span[1] > self._most:
            raise ValueError(f"a chunk takes {span[1]} bytes where {self._most} are the most it needs")
        return self._files.read(key, *span)


class _Shards:
    """Files that hold many chunks each, and an index of where these lie."""

    def __init__(self, files: ZarrFiles, path: str, about: ArrayDescription) -> None:
        self._files, self._path, self._about = files, path, about
        self._grid = tuple(shard // chunk for shard, chunk in zip(about.shard or (), about.chunk, strict=True))
        self._lock = threading.Lock()
        self._indices: OrderedDict[str, Samples | None] = OrderedDict()

    def find(self, place: Place) -> tuple[str, tuple[int, int] | None]:
        """The shard of a chunk, and the chunk's offset and length in it; None if it is left out."""
        shard = [index // count for index, count in zip(place, self._grid, strict=True)]
        inside = tuple(index % count for index, count in zip(place, self._grid, strict=True))
        key = f"{self._path}/{self._about.key(shard)}"
        index = self._index(key)
        if index is None:
            return key, None
        offset, count = (int(value) for value in index[inside])
        if offset == count == MISSING:
            return key, None
        if offset + count > (self._files.size(key) or 0):
            raise ValueError("a chunk lies beyond the end of its shard")
        return key, (offset, count)

    def _index(self, key: str) -> Samples | None:
        with self._lock:
            if key in self._indices:
                self._indices.move_to_end(key)
                return self._indices[key]
        index = self._read_index(key, self._about.index)
        with self._lock:
            self._indices[key] = index
            if len(self._indices) > INDICES:
                self._indices.popitem(last=False)
        return index

    def _read_index(self, key: str, packing: Packing | None) -> Samples | None:
        """Offsets and lengths (chunks along each axis …, 2), None if the shard is left out."""
        size = self._files.size(key)
        if size is None or packing is None:
            return None
        shape = (*self._grid, 2)
        count = math.prod(shape) * packing.number.itemsize + CHECKSUM * len(packing.codecs)
        if count > size:
            raise ValueError("a shard is cut off")
        return packing.unpack(self._files.read(key, 0 if self._about.index_first else size - count, count), shape)


def _paste(chunk: Samples, region: Samples, place: Place, start: Sequence[int]) -> None:
    """Copy what the chunk at `place` of the grid has in common with the region that begins at `start`."""
    source, target = [], []
    for size, length, index, begin in zip(chunk.shape, region.shape, place, start, strict=True):
        first = index * size - begin  # of the chunk, counted from the region's
        low, high = max(first, 0), min(first + size, length)
        source.append(slice(low - first, high - first))
        target.append(slice(low, high))
    region[tuple(target)] = chunk[tuple(source)]
