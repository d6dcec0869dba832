"""The probability map: an OME-Zarr (NGFF 0.5) of uint8 planes, one shard per block.

A block owns its shard, so writers never meet; a shard is one object, so a block is written whole or not at all.
Encoding happens in memory: the store only ever sees whole objects under fixed keys.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from shared.imaging.tiling import Box, Pixels

CHUNK = 512  # px; what a viewer fetches at once
FOLDER = "probability.zarr"
LEVEL = "0"  # full resolution


@dataclass(frozen=True)
class ProbabilityMap:
    """Shape of a map: a plane per class name, `height × width` px, shards of `side × side` px."""

    classes: tuple[str, ...]
    height: int
    width: int
    side: int
    mpp: float | None

    def describe(self) -> dict[str, bytes]:
        """The metadata objects by relative key; they make the shards an OME-Zarr."""
        return dict(_describe(self))

    def encode(self, place: Box, planes: Pixels) -> tuple[str, bytes]:
        """Relative key and bytes of the shard at `place` (one block), from its probabilities (planes, H, W)."""
        content: dict[str, Buffer] = {}
        array = _create(self, content)
        metadata = set(content)
        array[:, *place.slices()] = planes
        (key,) = set(content) - metadata
        return key, content[key].to_bytes()

    def decode(self, place: Box, shards: Mapping[str, bytes]) -> Pixels:
        """The probabilities (planes, H, W) of `place`, from the shards that hold it, by relative key.

        Raises:
            KeyError: a shard is missing. Zarr itself would read zeros there.
        """
        missing = {self.key_of(block) for block in self._blocks_at(place)} - shards.keys()
        if missing:
            raise KeyError(f"{place} lies in shards that were not given: {sorted(missing)}")
        content: dict[str, Buffer] = {}
        array = _create(self, content)
        from_bytes = default_buffer_prototype().buffer.from_bytes
        content.update((key, from_bytes(body)) for key, body in shards.items())
        return np.asarray(array[:, *place.slices()], dtype=np.uint8)

    def key_of(self, place: Box) -> str:
        """Relative key of the shard that holds the block at `place`."""
        return f"{LEVEL}/c/0/{place.top // self.side}/{place.left // self.side}"

    def _blocks_at(self, place: Box) -> Iterator[Box]:
        """The blocks that hold a part of `place`, uncut."""
        for top in range(place.top // self.side * self.side, place.bottom, self.side):
            for left in range(place.left // self.side * self.side, place.right, self.side):
                yield Box(top, left, top + self.side, left + self.side)


def _create(probability: ProbabilityMap, content: dict[str, Buffer]) -> Any:
    """The array, in a store of its own that `content` is."""
    group = zarr.create_group(
        MemoryStore(content), zarr_format=3, attributes=_ngff(probability.classes, probability.mpp)
    )
    return group.create_array(
        LEVEL,
        shape=(len(probability.classes), probability.height, probability.width),
        chunks=(1, CHUNK, CHUNK),
        shards=(len(probability.classes), probability.side, probability.side),
        dtype="uint8",
        compressors=ZstdCodec(level=1),
        dimension_names=["c", "y", "x"],
        config={"write_empty_chunks": True},  # every shard must be there to be counted and verified
    )


@lru_cache(maxsize=256)
def _describe(probability: ProbabilityMap) -> dict[str, bytes]:
    """Of thousands of crops most have the size of one before."""
    content: dict[str, Buffer] = {}
    _create(probability, content)
    return {key: value.to_bytes() for key, value in content.items()}


def _ngff(classes: tuple[str, ...], mpp: float | None) -> dict[str, Any]:
    """Attributes by the NGFF 0.5 specification (ngff.openmicroscopy.org/0.5)."""
    space: dict[str, str] = {"type": "space", **({"unit": "micrometer"} if mpp else {})}
    scale = {"type": "scale", "scale": [1.0, mpp or 1.0, mpp or 1.0]}
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [
                {
                    "name": "probability",
                    "axes": [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}],
                    "datasets": [{"path": LEVEL, "coordinateTransformations": [scale]}],
                }
            ],
            "omero": {"channels": [{"label": c, "color": "FFFFFF", "active": True, "window": window} for c in classes]},
        }
    }
