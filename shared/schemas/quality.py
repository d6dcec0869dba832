"""Wire shape of what a model's training images look like, as its contract keeps it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Quantiles = Annotated[tuple[float, ...], Field(min_length=5, max_length=5)]
Example = Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]


class ImageStatistics(BaseModel):
    """By which an image is told that is unlike all of them; see `shared.imaging.familiarity`."""

    model_config = ConfigDict(frozen=True)

    images: int = Field(ge=1, description="how many the model learnt from")
    quantiles: dict[str, Quantiles] = Field(description="1, 5, 50, 95 and 99 % over these images, by feature")
    examples: list[Example] = Field(
        min_length=1, max_length=512, description="some of them, or all, by the features that make images alike"
    )
    reach: float = Field(ge=0, description="how far 99 % of them are from the nearest example but themselves")
