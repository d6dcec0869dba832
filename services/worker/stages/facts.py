"""What planning found out about an image; every later block of it works by the same facts."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from services.worker.writers.probability import ProbabilityMap
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

    @classmethod
    def of(cls, image: JobImage) -> "ImageFacts":
        """As they were stored when the image was planned."""
        return cls.model_validate(image.facts)

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
