"""The probability map: an OME-Zarr (NGFF 0.5) of uint8 planes in levels, one shard of each per block.

A block owns its shards, so writers never meet; a shard is one object, so it is written whole or not at all.
Encoding happens in memory: the store only ever sees whole objects under fixed keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from services.worker.writers.multiscale import CoarseLevels, Multiscale, describe_axes, describe_group
from services.worker.writers.pyramid import count_levels, halve_means
from shared.imaging.tiling import Box, Pixels

CHUNK = 512  # px; what a viewer fetches at once
FOLDER = "probability.zarr"


@dataclass(frozen=True)
class ProbabilityMap:
    """Shape of a map: a plane per class name, `height × width` px, shards of `side × side` px."""

    classes: tuple[str, ...]
    height: int
    width: int
    side: int
    mpp: float | None  # µm per pixel of the image itself
    stretch: tuple[float, float] = (1.0, 1.0)  # pixels of the image, down and across, that one of the map stands for

    def describe(self) -> dict[str, bytes]:
        """The metadata objects by relative key; they make the shards an OME-Zarr."""
        return dict(_describe(self))

    @property
    def levels(self) -> int:
        """How many there are, with that of full resolution."""
        return self._scales.levels

    def encode_levels(self, place: Box, planes: Pixels) -> dict[str, bytes]:
        """Relative key → bytes of all that a block owns: its shard of each of the finer levels, the finest first."""
        return self._scales.encode(place, planes, halve_means)

    def decode(self, place: Box, shards: Mapping[str, bytes], *, level: int = 0) -> Pixels:
        """The probabilities (planes, H, W) of `place`, from the shards that hold it, by relative key.

        `place` is in px of the level, one of those that blocks own.

        Raises:
            KeyError: a shard is missing. Zarr itself would read zeros there.
        """
        return np.asarray(self._scales.decode(place, shards, level=level), dtype=np.uint8)

    def key_of(self, place: Box, *, level: int = 0) -> str:
        """Relative key of the shard, of a level that blocks own, that holds the block at `place`, px of level 0."""
        return self._scales.key_of(place, level=level)

    def coarse(self) -> CoarseLevels:
        """What makes the levels beyond those of the blocks."""
        return CoarseLevels(self._scales, halve_means)

    @cached_property
    def _scales(self) -> Multiscale:
        return Multiscale(
            folder="",
            height=self.height,
            width=self.width,
            side=self.side,
            levels=count_levels(self.height, self.width),
            dtype="uint8",
            planes=len(self.classes),
        )

    def describe_image(self) -> dict[str, Any]:
        """Attributes of the image."""
        window = {"start": 0, "end": 255, "min": 0, "max": 255}
        channels = [{"label": name, "color": "FFFFFF", "active": True, "window": window} for name in self.classes]
        return {
            "multiscales": [
                {
                    "name": "probability",
                    "axes": describe_axes(self.mpp, channels=True),
                    "datasets": self._scales.describe_scales(self.mpp, self.stretch),
                    "type": "mean",
                    "metadata": {"description": "rounded mean of 2 × 2 pixels"},
                }
            ],
            "omero": {"channels": channels},
        }

    def describe_arrays(self) -> dict[str, bytes]:
        """The metadata objects of the levels, by relative key."""
        return self._scales.describe_arrays()


@lru_cache(maxsize=256)
def _describe(probability: ProbabilityMap) -> dict[str, bytes]:
    """Of thousands of crops most have the size of one before."""
    return {**describe_group("", probability.describe_image()), **probability.describe_arrays()}
