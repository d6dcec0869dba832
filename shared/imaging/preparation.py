"""What happens to a whole image before tiles are cut from it, in training and in segmenting alike."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from shared.imaging.levels import Levels, count_values
from shared.imaging.sampling import read_sample
from shared.imaging.stain import Density, Restaining, Stains, find_restaining
from shared.imaging.tiling import Pixels

WHITE = 255


class StainAsked(Protocol):
    """The reference that images are restained to."""

    @property
    def reference(self) -> tuple[Density, Density]:
        """Optical densities of its two stains."""
        ...

    @property
    def concentrations(self) -> tuple[float, float]:
        """99th percentiles of their amounts."""
        ...


class Asked(Protocol):
    """What a model asks for; an order and a contract both say it."""

    @property
    def stain(self) -> StainAsked | None:
        """Two stains are brought to those of a reference."""
        ...

    @property
    def equalise(self) -> bool:
        """The histogram is equalised."""
        ...

    @property
    def stretch(self) -> tuple[float, float] | None:
        """The percentiles that become 0 and 255."""
        ...

    @property
    def invert(self) -> bool:
        """Bright becomes dark."""
        ...


@dataclass(frozen=True)
class Preparation:
    """First restained, then given new levels, then inverted.

    One for the whole image, or tiles would differ at their seams.
    """

    restaining: Restaining | None = None
    levels: Levels | None = None
    invert: bool = False  # v becomes 255 − v

    @classmethod
    def of(cls, parts: Iterable[Pixels], asked: Asked, *, look: Callable[[], Pixels]) -> Self:
        """The preparation of an image that comes in parts (h, w, C) of the network's channels, without holding it.

        Args:
            parts: gone over once, and only if a histogram is asked for.
            asked: by the model.
            look: gives the image's sample (h, w, 3), see `shared.imaging.sampling`; called only for its stains.

        Raises:
            ValueError: a histogram is asked for, and there are no pixels.
        """
        restaining = None if asked.stain is None else find_restaining(look(), reference_of(asked.stain))
        restained = cls(restaining)
        levels = _find_levels((restained.apply(part) for part in parts), asked)
        return cls(restaining, levels, asked.invert)

    def apply(self, pixels: Pixels) -> Pixels:
        """Any part (h, w, C) of the image, prepared; the part itself where nothing is asked."""
        if self.restaining is not None:
            pixels = self.restaining.apply(pixels)
        if self.levels is not None:
            pixels = self.levels.apply(pixels)
        return WHITE - pixels if self.invert else pixels


def prepare(image: Pixels, asked: Asked) -> Pixels:
    """A whole image (H, W, C), prepared; the image itself where nothing is asked."""

    def look() -> Pixels:
        return read_sample(lambda box: image[box.slices()], *image.shape[:2])

    return Preparation.of([image], asked, look=look).apply(image)


def reference_of(asked: StainAsked) -> Stains:
    """The stains that images are to have."""
    return Stains(asked.reference, asked.concentrations)


def _find_levels(parts: Iterable[Pixels], asked: Asked) -> Levels | None:
    if asked.equalise:
        return Levels.equalising(count_values(parts))
    if asked.stretch is not None:
        return Levels.stretching(count_values(parts), *asked.stretch)
    return None
