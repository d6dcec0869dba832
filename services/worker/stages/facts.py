"""What planning found out about an image; every later block of it works by the same facts."""

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict

from services.worker.writers.probability import ProbabilityMap
from shared.imaging.equalisation import Equalisation
from shared.imaging.preparation import Preparation
from shared.imaging.tiling import Box, plan_blocks
from shared.schemas.contracts import TilingContract
from shared.tables import JobImage


class ImageFacts(BaseModel):
    """Stored with the image as JSON."""

    model_config = ConfigDict(frozen=True)

    format: str
    height: int
    width: int
    mpp: float | None
    window: tuple[float, float] | None
    core: int  # side of a tile's core, px
    block_side: int  # px
    equalisation: list[list[int]] | None = None  # (C, 256): new values for old, if the model wants it
    theta: list[list[float]] | None = None  # (3, 3): where the image is warped to, if the model wants it

    @classmethod
    def of(cls, image: JobImage) -> "ImageFacts":
        """As they were stored when the image was planned."""
        return cls.model_validate(image.facts)

    def preparation(self, contract: TilingContract) -> Preparation:
        """What happens to the image's pixels before tiles of the model are cut."""
        if self.equalisation is None:
            return Preparation(invert=contract.invert)
        return Preparation(Equalisation(np.array(self.equalisation, dtype=np.uint8)), contract.invert)

    def blocks(self) -> Iterator[Box]:
        """The regions of the predict blocks, in the order of their ordinals."""
        return plan_blocks(self.height, self.width, side=self.block_side)


def probability_map(contract: TilingContract, facts: ImageFacts) -> ProbabilityMap:
    """The map that a model of that contract makes of an image."""
    return ProbabilityMap(
        classes=tuple(contract.classes[-contract.planes :]),  # a sigmoid's one plane is the last class
        height=facts.height,
        width=facts.width,
        side=facts.block_side,
        mpp=facts.mpp,
    )
