"""What planning found out about an image; every later block of it works by the same facts."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from services.worker.writers.probability import ProbabilityMap
from shared.imaging.levels import Levels
from shared.imaging.preparation import Preparation, reference_of
from shared.imaging.stain import Restaining, Stains
from shared.imaging.steps.resizing import Axis, read_nearest
from shared.imaging.tiling import Box, Pixels, Tile, plan_blocks, plan_tiles
from shared.imaging.tissue import decode_tiles
from shared.schemas.contracts import TilingContract
from shared.tables import JobImage


class ImageFacts(BaseModel):
    """Stored with the image as JSON."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    format: str
    height: int
    width: int
    mpp: float | None
    window: tuple[float, float] | tuple[tuple[float, float], ...] | None  # of all channels, or of each
    core: int  # side of a tile's core, px
    block_side: int  # px
    tiles: int = 0  # that cover the image
    skipped: int = 0  # of these, for want of tissue
    redundancy: float = 0.0  # share of the pixels the engine sees that are halo, or beyond the image
    tissue: str | None = None  # which tiles hold some, see `shared.imaging.tissue.encode_tiles`; none: all may
    stains: Stains | None = None  # the image's own, if the model wants others and they could be told
    # (C, 256): new values for old, if the model wants it. Stored under the name that workers of before look for.
    levels: list[list[int]] | None = Field(None, alias="equalisation")
    step_facts: list[dict[str, Any]] = []  # what each of the contract's steps must know of the whole image
    # The image's own height and width, px, and µm per pixel, where the contract's steps give it another size: then all
    # the rest is about the resized one, but mask and overlay are given back in the image's own pixels.
    own: tuple[int, int] | None = None
    own_mpp: float | None = None
    theta: list[list[float]] | None = None  # (3, 3): where the image is warped to, if the model wants it

    @classmethod
    def of(cls, image: JobImage) -> "ImageFacts":
        """As they were stored when the image was planned."""
        return cls.model_validate(image.facts)

    def preparation(self, contract: TilingContract) -> Preparation:
        """What happens to the image's pixels before tiles of the model are cut."""
        restaining, levels = None, None
        if self.stains is not None and contract.stain is not None:
            restaining = Restaining(self.stains, reference_of(contract.stain))
        if self.levels is not None:
            levels = Levels(np.array(self.levels, dtype=np.uint8))
        return Preparation(restaining, levels, contract.invert)

    def remember(self, preparation: Preparation) -> "ImageFacts":
        """These facts with what the preparation found out about the image."""
        stains = None if preparation.restaining is None else preparation.restaining.found
        levels = None if preparation.levels is None else preparation.levels.table.tolist()
        return self.model_copy(update={"stains": stains, "levels": levels})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image itself, px: those of its mask."""
        return self.own or (self.height, self.width)

    @property
    def mask_mpp(self) -> float | None:
        """µm per pixel of the image itself."""
        return self.mpp if self.own is None else self.own_mpp

    def own_blocks(self) -> Iterator[Box]:
        """The regions that the mask is written in, row by row."""
        return plan_blocks(*self.size, side=self.block_side)

    def find_own(self, box: Box) -> Box:
        """The part of the image itself that a box is made of."""
        (height, width), frame = self.size, (self.height, self.width)
        top, bottom = Axis(height, frame[0]).find_seen(box.top, box.bottom)
        left, right = Axis(width, frame[1]).find_seen(box.left, box.right)
        return Box(top, left, bottom, right)

    def find_shown(self, box: Box) -> Box:
        """The part of the resized image that a box of the image itself is given back from."""
        (height, width), frame = self.size, (self.height, self.width)
        rows = Axis(frame[0], height).nearest(box.top, box.bottom)
        columns = Axis(frame[1], width).nearest(box.left, box.right)
        return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)

    def read_own(self, read: Callable[[Box], Pixels], box: Box) -> Pixels:
        """The classes (h, w) of a box of the image itself; `read` gives those of a box of the resized one."""
        if self.own is None:
            return read(box)
        return read_nearest(read, box, source=(self.height, self.width), target=self.size)

    def read_own_planes(self, read: Callable[[Box], Pixels], box: Box) -> Pixels:
        """As `read_own`, of probabilities (planes, h, w)."""
        if self.own is None:
            return read(box)
        planes = self.read_own(lambda part: np.moveaxis(read(part), 0, -1), box)
        return np.ascontiguousarray(np.moveaxis(planes, -1, 0))

    def blocks(self) -> Iterator[Box]:
        """The regions that the image is worked on in, row by row; each a shard of its map."""
        return plan_blocks(self.height, self.width, side=self.block_side)

    def blocks_at(self, box: Box) -> Iterator[Box]:
        """The blocks that hold a part of a box inside the image."""
        side = self.block_side
        for top in range(box.top // side * side, box.bottom, side):
            for left in range(box.left // side * side, box.right, side):
                yield Box(top, left, min(top + side, self.height), min(left + side, self.width))

    def find_tiles(self, region: Box, *, halo: int) -> list[Tile]:
        """Those tiles of a region of whole blocks that are to be predicted."""
        tiles = plan_tiles(region, core=self.core, halo=halo)
        if self.tissue is None:
            return tiles
        return [tile for tile in tiles if self._wanted[tile.write.top // self.core, tile.write.left // self.core]]

    def is_predicted(self, box: Box) -> bool:
        """Whether every tile that holds a part of a box inside the image was wanted."""
        if self.tissue is None:
            return True
        rows = slice(box.top // self.core, -(-box.bottom // self.core))
        return bool(self._wanted[rows, box.left // self.core : -(-box.right // self.core)].all())

    @cached_property
    def _wanted(self) -> NDArray[np.bool_]:
        """(rows, columns) of tiles."""
        rows, columns = -(-self.height // self.core), -(-self.width // self.core)
        return decode_tiles(self.tissue or "", rows * columns).reshape(rows, columns)


def probability_map(contract: TilingContract, facts: ImageFacts) -> ProbabilityMap:
    """The map that a model of that contract makes of an image."""
    return ProbabilityMap(
        classes=tuple(contract.classes[-contract.planes :]),  # a sigmoid's one plane is the last class
        height=facts.height,
        width=facts.width,
        side=facts.block_side,
        mpp=facts.mask_mpp,
        stretch=(facts.size[0] / facts.height, facts.size[1] / facts.width),
    )
