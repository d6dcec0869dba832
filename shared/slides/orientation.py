"""Which way up an image is shown: the Orientation tag of TIFF 6.0 and EXIF, 1 … 8."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tifffile import TiffFile

from shared.imaging.normalisation import Samples
from shared.imaging.tiling import Box


@dataclass(frozen=True)
class Orientation:
    """How stored rows and columns become shown ones: exchanged first, if at all, then each reversed, or not."""

    exchanged: bool = False
    upside_down: bool = False
    mirrored: bool = False

    @classmethod
    def of(cls, tag: int) -> "Orientation":
        """By the tag's value; upright for any that the specification does not know."""
        return ORIENTATIONS.get(tag, UPRIGHT)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The shown (height, width) of what is stored in so many rows and columns, or the other way round."""
        return (width, height) if self.exchanged else (height, width)

    def stored_box(self, box: Box, *, height: int, width: int) -> Box:
        """Where a box of the shown image, of `height` × `width` px, is stored."""
        top, bottom = (height - box.bottom, height - box.top) if self.upside_down else (box.top, box.bottom)
        left, right = (width - box.right, width - box.left) if self.mirrored else (box.left, box.right)
        return Box(left, top, right, bottom) if self.exchanged else Box(top, left, bottom, right)

    def turn(self, stored: Samples) -> Samples:
        """Stored samples (h, w, …) as they are shown, as a view."""
        shown = stored.swapaxes(0, 1) if self.exchanged else stored
        flips = tuple(axis for axis, flipped in enumerate((self.upside_down, self.mirrored)) if flipped)
        return np.flip(shown, flips) if flips else shown


UPRIGHT = Orientation()
ORIENTATIONS = {
    1: UPRIGHT,
    2: Orientation(mirrored=True),
    3: Orientation(upside_down=True, mirrored=True),
    4: Orientation(upside_down=True),
    5: Orientation(exchanged=True),
    6: Orientation(exchanged=True, mirrored=True),
    7: Orientation(exchanged=True, upside_down=True, mirrored=True),
    8: Orientation(exchanged=True, upside_down=True),
}


def find_orientation(file: TiffFile, page: Any) -> Orientation:
    """Which way up a TIFF's page (tifffile's) is shown: as its tag says, but for Aperio's, where no reader looks."""
    tag = page.tags.get("Orientation")
    return UPRIGHT if tag is None or file.is_svs else Orientation.of(int(tag.value))
