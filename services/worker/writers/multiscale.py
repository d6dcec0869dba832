"""An image of several levels as arrays of a Zarr (NGFF 0.5), of which each block of the image owns whole objects.

A block of `side` px is a shard of level 0, one of side / 2 px of level 1, and so on while it is at least 256 px there:
so writers never meet, and every object is written whole or not at all. The few levels beyond, of hardly any pixels,
are made by one who sees all blocks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from services.worker.writers.pyramid import TILE, Halve, LevelTile, LevelTiles, Planes, find_size, scale_down
from shared.imaging.tiling import Box

SHORTEST = 256  # px; a block that is seen smaller than that makes no object of its own
Json = dict[str, Any]


@dataclass(frozen=True)
class Multiscale:
    """Shape of the levels of one image of `height × width` px, cut into blocks of `side × side` px."""

    folder: str  # below the Zarr's root, with a slash at its end; empty: the root itself
    height: int
    width: int
    side: int  # a multiple of 512
    levels: int
    dtype: str
    planes: int | None = None  # of an image with an axis for them
    keeps_empty: bool = True  # objects that are 0 everywhere are written, too

    @cached_property
    def owned(self) -> int:
        """How many levels are made of the blocks' own objects; the finest ones."""
        level = 1
        while level < self.levels and self.side >> level >= SHORTEST and self.side % 2 ** (level + 1) == 0:
            level += 1
        return level

    def describe_arrays(self) -> dict[str, bytes]:
        """The metadata objects of the levels by key, relative to the Zarr's root."""
        content: dict[str, Buffer] = {}
        for level in range(self.levels):
            self._create(level, content)
        arrays = [f"{self.folder}{level}/zarr.json" for level in range(self.levels)]  # groups above them are made, too
        return {key: content[key].to_bytes() for key in arrays}

    def describe_scales(self, mpp: float | None, stretch: tuple[float, float] = (1.0, 1.0)) -> list[Json]:
        """The `datasets` of the NGFF attributes; `mpp`: µm per pixel of the image that this is about.

        `stretch`: how many of its pixels, down and across, one of level 0 stands for.

        A pixel of level k spans 2^k pixels, so that its middle lies (2^k − 1) / 2 px further right and down than that
        of the first of them. The specification leaves open which point of a pixel is meant; with the middle, and this
        translation, levels lie on each other, while without it a viewer would show them shifted against each other.
        """
        leading = 0 if self.planes is None else 1
        unit, datasets = mpp or 1.0, list[Json]()
        for level in range(self.levels):
            sides = [side * 2**level for side in stretch]
            scale = [1.0] * leading + [unit * side for side in sides]
            transformations: list[Json] = [{"type": "scale", "scale": scale}]
            if sides != [1.0, 1.0]:
                shift = [0.0] * leading + [unit * (side - 1) / 2 for side in sides]
                transformations.append({"type": "translation", "translation": shift})
            datasets.append({"path": str(level), "coordinateTransformations": transformations})
        return datasets

    def encode(self, place: Box, pixels: Planes, halve: Halve) -> dict[str, bytes]:
        """Key → bytes of the objects that the block (..., H, W) at `place` owns: its shard of each of its levels."""
        objects = self._encode_at(0, place, pixels)
        for level in range(1, self.owned):
            pixels = halve(pixels)
            objects.update(self._encode_at(level, scale_down(place, level), pixels))
        return objects

    def decode(self, place: Box, shards: Mapping[str, bytes], *, level: int = 0) -> Planes:
        """The pixels (..., H, W) of `place`, px of that level, one that blocks own, from the objects that hold it.

        Raises:
            KeyError: an object is missing that would have been written. Zarr itself would read zeros there.
        """
        missing = {self._name(level, row, column) for row, column in self._shards_at(place, level)} - shards.keys()
        if missing and self.keeps_empty:
            raise KeyError(f"{place} lies in shards that were not given: {sorted(missing)}")
        content: dict[str, Buffer] = {}
        array = self._create(level, content)
        from_bytes = default_buffer_prototype().buffer.from_bytes
        content.update((key, from_bytes(body)) for key, body in shards.items())
        return np.asarray(array[..., *place.slices()])

    def key_of(self, place: Box, *, level: int = 0) -> str:
        """Key of the object of the level that holds the block at `place`, px of level 0."""
        return self._name(level, place.top // self.side, place.left // self.side)

    def _name(self, level: int, row: int, column: int) -> str:
        plane = "" if self.planes is None else "0/"
        return f"{self.folder}{level}/c/{plane}{row}/{column}"

    def _shards_at(self, place: Box, level: int) -> Iterator[tuple[int, int]]:
        side = self.side >> level
        for row in range(place.top // side, -(-place.bottom // side)):
            for column in range(place.left // side, -(-place.right // side)):
                yield row, column

    def _encode_at(self, level: int, place: Box, pixels: Planes) -> dict[str, bytes]:
        """`place` in px of the level. Beyond the blocks' own levels: a chunk."""
        content: dict[str, Buffer] = {}
        array = self._create(level, content)
        metadata = set(content)
        array[..., *place.slices()] = pixels
        return {key: content[key].to_bytes() for key in set(content) - metadata}

    def encode_tile(self, level: int, row: int, column: int, pixels: Planes) -> dict[str, bytes]:
        """The object of a square of 512 px of a level beyond those of the blocks."""
        height, width = pixels.shape[-2:]
        top, left = row * TILE, column * TILE
        return self._encode_at(level, Box(top, left, top + height, left + width), pixels)

    def _create(self, level: int, content: dict[str, Buffer]) -> Any:
        """The array of a level, in a store of its own that `content` is."""
        height, width = find_size(self.height, self.width, level=level)
        leading = () if self.planes is None else (self.planes,)
        # A chunk, what a viewer fetches at once, is of one plane.
        side, each = self.side >> level, () if self.planes is None else (1,)
        chunk = find_chunk(side)
        by_block = level < self.owned
        return zarr.create_array(
            MemoryStore(content),
            name=f"{self.folder}{level}",
            shape=(*leading, height, width),
            chunks=(*each, chunk, chunk) if by_block else (*leading, TILE, TILE),
            shards=(*leading, side, side) if by_block else None,
            dtype=self.dtype,
            compressors=ZstdCodec(level=1),
            dimension_names=["c", "y", "x"][1 - len(leading) :],
            config={"write_empty_chunks": self.keeps_empty},
        )


def find_chunk(side: int) -> int:
    """The side of the chunks of a shard of `side` px: the longest, up to 512 px, that divides it."""
    return next(chunk for chunk in range(min(TILE, side), 0, -1) if side % chunk == 0)


class CoarseLevels:
    """The objects of the levels that no block owns, made from what blocks show at the last level they own.

    A million pixels become a thousand there or fewer, and of these no more than a row of squares is held.
    """

    def __init__(self, scales: Multiscale, halve: Halve) -> None:
        self._scales, self._halve = scales, halve
        coarse = range(scales.owned, scales.levels)
        self._tiles = LevelTiles(size=(scales.height, scales.width), levels=coarse, halve=halve)

    @property
    def source(self) -> int:
        """The level that `add` wants."""
        return self._scales.owned - 1

    def add(self, place: Box, pixels: Planes) -> dict[str, bytes]:
        """Objects by key that a block completes: `place` in px of level 0, its pixels (..., h, w) of level `source`."""
        if self._scales.owned == self._scales.levels:
            return {}
        done = self._tiles.add(scale_down(place, self._scales.owned), self._halve(pixels))
        return self._encode(done)

    def finish(self) -> dict[str, bytes]:
        """The rest, where some blocks are missing: they count as 0."""
        return self._encode(self._tiles.finish())

    def _encode(self, tiles: Iterable[LevelTile]) -> dict[str, bytes]:
        objects: dict[str, bytes] = {}
        for tile in tiles:
            objects.update(self._scales.encode_tile(tile.level, tile.row, tile.column, tile.pixels))
        return objects


def describe_axes(mpp: float | None, *, channels: bool) -> list[Json]:
    """The `axes` of the NGFF attributes, in micrometers where the scale is known."""
    space: dict[str, str] = {"type": "space", **({"unit": "micrometer"} if mpp else {})}
    leading = [{"name": "c", "type": "channel"}] if channels else []
    return [*leading, {"name": "y", **space}, {"name": "x", **space}]


def describe_group(path: str, attributes: Json) -> dict[str, bytes]:
    """The metadata object of a group, by key relative to the Zarr's root, with its `ome` attributes."""
    content: dict[str, Buffer] = {}
    ome = {"ome": {"version": "0.5", **attributes}}
    zarr.create_group(MemoryStore(content), path=path or None, zarr_format=3, attributes=ome)
    key = f"{path}/zarr.json" if path else "zarr.json"
    return {key: content[key].to_bytes()}
