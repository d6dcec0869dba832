"""The objects in the Zarr of their image's probabilities: a label image by the NGFF 0.5 specification ("labels")."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from services.worker.writers.multiscale import CoarseLevels, Multiscale, describe_axes, describe_group
from services.worker.writers.pyramid import Labels, halve_labels
from shared.imaging.tiling import Box

NAME = "objects"
FOLDER = f"labels/{NAME}/"  # in the Zarr of the probabilities


@dataclass(frozen=True)
class LabelMap:
    """Shape of the label image of `height × width` px, cut into blocks of `side × side` px.

    Keys are relative to the root of the Zarr. Where there is no object in a block, there is no shard either: by the
    metadata it reads as 0, and on a slide most blocks that hold glass or fat would be nothing but an object to store.
    """

    height: int
    width: int
    side: int
    mpp: float | None  # µm per pixel
    levels: int  # as many as the probabilities have: the specification wants it

    def describe(self) -> dict[str, bytes]:
        """The metadata objects by key, those of the groups among them."""
        return dict(_describe(self))

    def encode_levels(self, place: Box, labels: Labels) -> dict[str, bytes]:
        """Key → bytes of what the block (H, W) at `place` owns: a shard of each of the finer levels, if not empty."""
        return self._scales.encode(place, labels, halve_labels)

    def decode(self, place: Box, shards: dict[str, bytes], *, level: int = 0) -> Labels:
        """The labels (H, W) of `place`, px of a level that blocks own; 0 where no shard is given."""
        return np.asarray(self._scales.decode(place, shards, level=level), dtype=np.uint32)

    def key_of(self, place: Box, *, level: int = 0) -> str:
        """Key of the shard, of a level that blocks own, of the block at `place`, px of level 0."""
        return self._scales.key_of(place, level=level)

    def coarse(self) -> CoarseLevels:
        """What makes the levels beyond those of the blocks."""
        return CoarseLevels(self._scales, halve_labels)

    @cached_property
    def _scales(self) -> Multiscale:
        return Multiscale(
            folder=FOLDER,
            height=self.height,
            width=self.width,
            side=self.side,
            levels=self.levels,
            dtype="uint32",
            keeps_empty=False,
        )

    def describe_image(self) -> dict[str, object]:
        """Attributes of the label image."""
        return {
            "multiscales": [
                {
                    "name": NAME,
                    "axes": describe_axes(self.mpp, channels=False),
                    "datasets": self._scales.describe_scales(self.mpp),
                    "type": "mode",
                    "metadata": {
                        "description": "most frequent of 2 × 2 pixels; of equals, an object before background"
                    },
                }
            ],
            # A colour of its own for each of perhaps a million objects is left to the viewer.
            "image-label": {"version": "0.5", "source": {"image": "../../"}},
        }

    def describe_arrays(self) -> dict[str, bytes]:
        """The metadata objects of the levels, by key."""
        return self._scales.describe_arrays()


@lru_cache(maxsize=256)
def _describe(label_map: LabelMap) -> dict[str, bytes]:
    """Of thousands of crops most have the size of one before."""
    return {
        **describe_group("labels", {"labels": [NAME]}),
        **describe_group(FOLDER.rstrip("/"), label_map.describe_image()),
        **label_map.describe_arrays(),
    }
