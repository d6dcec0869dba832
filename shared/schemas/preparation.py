"""What a network asks to be done to a whole image before tiles are cut, as orders and contracts say it."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_Density = Annotated[float, Field(ge=0, le=10)]
_Amount = Annotated[float, Field(gt=0, le=100)]
LEAST_ANGLE = 10.0  # degrees between the two stains of a reference; those of the default are 22 apart


def _rises(percentiles: tuple[float, float]) -> tuple[float, float]:
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles rise from 0 at least to 100 at most, got {low:g} and {high:g}")
    return percentiles


Percentiles = Annotated[tuple[float, float], AfterValidator(_rises)]


class StainContract(BaseModel):
    """Stain normalisation of pictures in transmitted light: their two stains are brought to those of a reference.

    The optical density of a value v is −ln((v + 1) / 240). The default reference is an H&E one: the values in common
    use since Mitko Veta's implementation (mitkovetta/staining-normalization, 2013) of Macenko et al. 2009. For other
    pairs of stains, give their own.

    How the image's own stains are found, once for it: `shared.imaging.stain.find_stains`, on the pixels that
    `shared.imaging.sampling.read_sample` chooses. An image with too little tissue, or without two stains, stays as it
    is; what is neither of the two stains stays as much as it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")  # who does not know what is asked cannot serve it

    method: Literal["macenko"] = "macenko"
    reference: tuple[tuple[_Density, _Density, _Density], tuple[_Density, _Density, _Density]] = Field(
        ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)),
        description="optical densities of red, green and blue of the two stains; first the one that absorbs more red, "
        "haematoxylin as a rule",
    )
    concentrations: tuple[_Amount, _Amount] = Field(
        (1.9705, 1.0308), description="99th percentile of the amount of each in the reference's tissue"
    )

    @model_validator(mode="after")
    def _is_a_pair_of_stains(self) -> Self:
        first, second = self.reference
        if not first[0] > second[0]:
            raise ValueError("the first stain of a reference absorbs more red than the second; exchange them")
        product = sum(a * b for a, b in zip(first, second, strict=True))
        if product > math.cos(math.radians(LEAST_ANGLE)) * math.hypot(*first) * math.hypot(*second):
            raise ValueError(f"the two stains of a reference are less than {LEAST_ANGLE:g}° apart: they are one")
        return self


def check_levels(*, equalise: bool, stretch: tuple[float, float] | None) -> None:
    """Raise ValueError if an image would be given new levels twice."""
    if equalise and stretch is not None:
        raise ValueError("equalise and stretch exclude each other: both give an image new levels; leave one out")


def check_stain(stain: StainContract | None, channels: int) -> None:
    """Raise ValueError if the stains of an image without colours are asked for."""
    if stain is not None and channels != 3:
        raise ValueError(f"stain needs a network of 3 channels: stains are told apart by colour, not in {channels}")


class PreparationIn(BaseModel):
    """What happens to a whole image before the network sees it, in training and in serving alike, in this order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stain: StainContract | None = Field(
        None, description="brightfield: bring the image's two stains to a reference's; {} takes one of H&E"
    )
    equalise: bool = Field(False, description="histogram equalisation of the whole image, each channel for itself")
    stretch: Percentiles | None = Field(
        None, description="instead of equalise: the percentiles of each channel that become 0 and 255, such as [1, 99]"
    )
    invert: bool = Field(False, description="bright becomes dark")

    @model_validator(mode="after")
    def _gives_levels_once(self) -> Self:
        check_levels(equalise=self.equalise, stretch=self.stretch)
        return self
