"""The objects of an image as a label image in the Zarr of its probabilities, block by block."""

import numpy as np
from numpy.typing import NDArray

from services.worker.context import Context
from services.worker.stages.subject import Subject
from services.worker.writers.multiscale import CoarseLevels
from services.worker.writers.probability import FOLDER
from services.worker.writers.pyramid import scale_down
from shared.domain.blocks import NewArtifact
from shared.imaging.objects.table import ObjectTable
from shared.imaging.tiling import Box
from shared.storage import image_key

Labels = NDArray[np.uint32]


class LabelShards:
    """Each block's shards go to the store when they are made."""

    def __init__(self, context: Context, subject: Subject) -> None:
        self._context, self._subject, self._map = context, subject, subject.label_map
        self._coarse: CoarseLevels = self._map.coarse()
        self._artifacts = list[NewArtifact]()
        self._put(self._map.describe())

    def add(self, block: Box, labels: Labels, table: ObjectTable) -> None:  # noqa: ARG002  # the pixels say it all
        """The labels (h, w) of a block; nothing is stored where there is none."""
        shards = self._map.encode_levels(block, labels)
        self._put(shards)
        level = self._coarse.source
        if level == self._map.levels - 1:  # of a small image: there are no further levels
            return
        self._put(self._coarse.add(block, self._map.decode(scale_down(block, level), shards, level=level)))

    def store(self) -> list[NewArtifact]:
        """What was stored, now that it is all."""
        self._put(self._coarse.finish())
        return self._artifacts

    def _put(self, objects: dict[str, bytes]) -> None:
        image = self._subject.image
        for key, body in sorted(objects.items()):
            stored = self._context.storage.put(image_key(image.job_id, image.id, f"{FOLDER}/{key}"), body)
            kind = "application/json" if key.endswith(".json") else "application/octet-stream"
            self._artifacts.append(NewArtifact("labels", f"{image.name}.{FOLDER}/{key}", kind, stored))
