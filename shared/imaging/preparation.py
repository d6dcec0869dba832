"""What happens to a whole image before tiles are cut from it, in training and in segmenting alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from shared.imaging.equalisation import Equalisation
from shared.imaging.tiling import Pixels

WHITE = 255


@dataclass(frozen=True)
class Preparation:
    """First equalised, then inverted. One for the whole image, or tiles would differ at their seams."""

    equalisation: Equalisation | None = None
    invert: bool = False  # v becomes 255 − v

    @classmethod
    def of(cls, parts: Iterable[Pixels], *, equalise: bool, invert: bool) -> Self:
        """The preparation of an image that comes in parts (h, w, C) of the network's channels, without holding it.

        The parts are looked at only if the histogram is to be equalised.

        Raises:
            ValueError: it is, and there are no pixels.
        """
        return cls(Equalisation.of(parts) if equalise else None, invert)

    def apply(self, pixels: Pixels) -> Pixels:
        """Any part (h, w, C) of the image, prepared; the part itself where nothing is asked."""
        if self.equalisation is not None:
            pixels = self.equalisation.apply(pixels)
        return WHITE - pixels if self.invert else pixels
