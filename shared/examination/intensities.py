"""What the grey levels of an image say, gathered band by band: any size of image takes the memory of one band."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.imaging.levels import COUNT, find_percentile
from shared.imaging.tiling import Pixels
from shared.slides.windows import Stored

Field = NDArray[np.float32]
Histogram = NDArray[np.int64]  # (3, 256)

WHITE = 255


@dataclass
class Intensities:
    """The sums over all pixels seen so far. Whichever way an image is cut into pieces, they come out the same."""

    histogram: Histogram = field(default_factory=lambda: np.zeros((3, COUNT), dtype=np.int64))
    pixels: int = 0
    saturated: int = 0  # pixels of which a channel is 255
    black: int = 0  # pixels of which all channels are 0
    grey: bool = True  # whether all pixels have three equal channels
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, piece: Pixels) -> None:
        """Count the pixels (h, w, 3) of a piece."""
        red, green, blue = (np.ascontiguousarray(piece[..., channel]) for channel in range(3))
        self._digest.update(np.ascontiguousarray(piece).data)
        self.pixels += red.size
        if np.array_equal(red, green) and np.array_equal(red, blue):
            counts = np.bincount(red.ravel(), minlength=COUNT)
            self.histogram += counts
            self.saturated += int(counts[WHITE])
            self.black += int(counts[0])
            return
        self.grey = False
        for channel, values in enumerate((red, green, blue)):
            self.histogram[channel] += np.bincount(values.ravel(), minlength=COUNT)
        self.saturated += int(np.count_nonzero(np.maximum(np.maximum(red, green), blue) == WHITE))
        self.black += int(np.count_nonzero((red | green | blue) == 0))

    def digest(self, height: int, width: int, window: Stored | None = None) -> str:
        """sha256 of the image's size and of the pixels in the order in which they came.

        And of the intensities that became 0 and 255: twice as bright through a window twice as high is no copy.
        """
        digest = self._digest.copy()
        digest.update(f"{height} {width}".encode())
        if window is not None:
            digest.update(str(np.asarray(window, np.float64).tolist()).encode())
        return digest.hexdigest()

    def means(self) -> list[float]:
        """Mean of each channel, grey levels."""
        return [float(channel @ np.arange(COUNT) / self.pixels) for channel in self.histogram]

    def deviations(self) -> list[float]:
        """Standard deviation of each channel, grey levels."""
        squares = self.histogram @ (np.arange(COUNT, dtype=np.int64) ** 2) / self.pixels
        return [float(np.sqrt(max(square - mean**2, 0))) for square, mean in zip(squares, self.means(), strict=True)]

    def percentiles(self, percent: float) -> list[float]:
        """A percentile of each channel, grey levels."""
        return [find_percentile(channel, percent) for channel in self.histogram]


@dataclass
class Sharpness:
    """Variance of the Laplacian of the grey image, squared grey levels: small where it is out of focus.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy"; the Laplacian of four neighbours. It
    grows with contrast and noise as well, so that only images of one kind compare.
    """

    _count: int = 0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, grey: Field) -> None:
        """Count the pixels inside a piece (h, w) of grey levels; its outermost pixels only lend their values."""
        if min(grey.shape) < 3:
            return
        laplacian = 4 * grey[1:-1, 1:-1]
        for neighbours in (grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]):
            laplacian -= neighbours
        self._count += laplacian.size
        self._sum += float(laplacian.sum(dtype=np.float64))
        self._squares += float(np.einsum("ij,ij->", laplacian, laplacian, dtype=np.float64))

    def variance(self) -> float:
        """0 for an image of fewer than 3 × 3 px."""
        if self._count == 0:
            return 0.0
        return max(self._squares / self._count - (self._sum / self._count) ** 2, 0.0)


def mean_channels(pixels: Pixels) -> Field:
    """Grey levels (h, w) of RGB (h, w, 3): the mean of the channels."""
    total = pixels[..., 0].astype(np.float32)  # plane by plane: numpy is slow along an axis of three
    total += pixels[..., 1]
    total += pixels[..., 2]
    total *= np.float32(1 / 3)
    return total
