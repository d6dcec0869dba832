"""What every image format must offer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from shared.errors import Rejected
from shared.imaging.normalisation import Window
from shared.imaging.tiling import Box, Pixels


@dataclass(frozen=True)
class Limits:
    """Sizes above which an image is refused, before memory is taken for it."""

    decoded_bytes: int = 1_500_000_000  # of what must be decoded in one piece: a whole PNG, a strip of a TIFF
    pixels: int = 1_000_000_000_000  # of the whole image, whatever is read of it at once
    side: int = 10_000_000

    def check(self, name: str, *, height: int, width: int) -> None:
        """Raise Rejected if the image is empty or beyond all bounds."""
        if height < 1 or width < 1:
            raise Rejected(f"{name}: the image has no pixels ({width} × {height})")
        if height * width > self.pixels or max(height, width) > self.side:
            raise Rejected(f"{name}: {width} × {height} px is beyond what is taken; the header may be damaged")

    def check_decoded(self, name: str, *, size: int, mend: str) -> None:
        """Raise Rejected if `size` bytes would have to be held at once."""
        if size > self.decoded_bytes:
            raise Rejected(
                f"{name}: {size / 1e9:.1f} GB would be decoded in one piece, "
                f"{self.decoded_bytes / 1e9:.1f} GB is the limit; {mend}"
            )


class Slide(ABC):
    """An open image. Safe to share between threads.

    `height`, `width`: px at full resolution. `mpp`: µm per pixel, None if the file does not say.
    `window`: the intensities that became 0 and 255, None where the file holds uint8.
    """

    format: str
    height: int
    width: int
    mpp: float | None = None
    window: Window | None = None

    @abstractmethod
    def read(self, box: Box) -> Pixels:
        """The pixels (box.height, box.width, 3) of a box inside the image. Raises Rejected for damaged data."""

    @abstractmethod
    def overview(self, side: int) -> Pixels:
        """The whole image (h, w, 3), scaled down by a whole factor or more until neither side exceeds `side` px."""

    def close(self) -> None:  # noqa: B027  # most formats hold nothing open
        """Give back what is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
