"""The probabilities of an image, read back from the store, each object compared with what was committed."""

from collections import OrderedDict

import numpy as np

from services.worker.context import Context
from services.worker.stages.facts import ImageFacts, probability_map
from services.worker.writers.probability import FOLDER
from services.worker.writers.pyramid import halve_means, scale_down
from shared.domain import artifacts, blocks
from shared.imaging.masks import find_classes
from shared.imaging.tiling import Box, Pixels
from shared.schemas.contracts import TilingContract
from shared.storage import image_key
from shared.tables import JobImage
from shared.tables.jobs import Stage

KEPT = 12  # blocks of classes: the neighbours of one, and some to come


class Shards:
    """The map of an image whose blocks are done. `read_classes` is for one thread alone."""

    def __init__(self, context: Context, image: JobImage, facts: ImageFacts, contract: TilingContract) -> None:
        self._storage, self._image, self._facts, self._contract = context.storage, image, facts, contract
        self._map = probability_map(contract, facts)
        with context.sessions() as session:
            done = blocks.results_of_image(session, image, Stage.PREDICT)
            is_told = all("shards" in result for _, result in done)
            # Blocks of the version before told the hash of their one shard with their artifact.
            listed = {} if is_told else artifacts.hashes_of_image(session, image, kind="probability")
        self._digests = {
            self._map.key_of(Box(*spec["box"]), level=level): digest
            for spec, result in done
            for level, digest in enumerate(result.get("shards") or [listed[self._key(Box(*spec["box"]))]])
        }
        self._classes: OrderedDict[Box, Pixels] = OrderedDict()

    def verify(self, block: Box) -> None:
        """Read the block's shard back. Raises Unavailable if it is another than the one committed, NotFound if gone."""
        if self._is_predicted(block):
            self._get(block)

    def read_level(self, block: Box, level: int) -> Pixels | None:
        """What a block shows of a level that blocks own (planes, h, w); None if nothing of it was predicted."""
        if not self._is_predicted(block):
            return None
        if self._map.key_of(block, level=level) not in self._digests:  # as of blocks of the version before
            planes = self.read(block)
            for _ in range(level):
                planes = halve_means(planes)
            return planes
        shard = {self._map.key_of(block, level=level): self._get(block, level)}
        return self._map.decode(scale_down(block, level), shard, level=level)

    def read(self, box: Box) -> Pixels:
        """The probabilities (planes, H, W) of a box inside the image; 0 where nothing was predicted."""
        planes = np.zeros((self._contract.planes, box.height, box.width), dtype=np.uint8)
        for block in self._facts.blocks_at(box):
            if self._is_predicted(block):
                common = box.intersect(block)
                found = self._map.decode(common, {self._map.key_of(block): self._get(block)})
                planes[:, *common.move(-box.top, -box.left).slices()] = found
        return planes

    def read_classes(self, box: Box, *, threshold: float) -> Pixels:
        """The classes (H, W) of a box inside the image. The blocks that were asked for last are kept."""
        classes = np.zeros((box.height, box.width), dtype=np.uint8)
        for block in self._facts.blocks_at(box):
            common = box.intersect(block)
            found = self._find_classes(block, threshold)[common.move(-block.top, -block.left).slices()]
            classes[common.move(-box.top, -box.left).slices()] = found
        return classes

    def _find_classes(self, block: Box, threshold: float) -> Pixels:
        if block not in self._classes:
            self._classes[block] = find_classes(self.read(block), threshold=threshold)
        self._classes.move_to_end(block)
        while len(self._classes) > KEPT:
            self._classes.popitem(last=False)
        return self._classes[block]

    def _is_predicted(self, block: Box) -> bool:
        return bool(self._facts.find_tiles(block, halo=0))

    def _get(self, block: Box, level: int = 0) -> bytes:
        digest = self._digests[self._map.key_of(block, level=level)]
        return self._storage.get_verified(self._key(block, level), sha256=digest)

    def _key(self, block: Box, level: int = 0) -> str:
        return image_key(self._image.job_id, self._image.id, f"{FOLDER}/{self._map.key_of(block, level=level)}")
