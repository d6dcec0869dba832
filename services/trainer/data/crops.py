"""What the network sees of the images, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.trainer.data.samples import Sample
from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels

MOST_CROPS = 10_000_000  # of an epoch


@dataclass(frozen=True)
class Batch:
    """Crops that the network sees at once."""

    images: Pixels  # (N, H, W, channels)
    masks: Pixels  # (N, H, W)
    borders: NDArray[np.float16] | None  # (N, H, W)
    names: list[str]  # of the samples they were cut from


class Crops:
    """Batches of random crops. An image gives `per_image` of them in an epoch, or as many as its area holds.

    A crop is a square of `side` px within the image and `margin` px more all around, mirrored where that leaves the
    image; so are images smaller than a crop. All batches are full: the last one of an epoch begins again at its start.

    Any batch can be had at any time, and depends on nothing but the samples, the seed, its epoch and its step.
    """

    def __init__(
        self, samples: Sequence[Sample], *, side: int, margin: int, batch_size: int, seed: int, per_image: int | None
    ) -> None:
        self._samples, self._side, self._margin = samples, side, margin
        self._batch_size, self._seed = batch_size, seed
        crops = [per_image or -(-sample.mask.size // side**2) for sample in samples]
        if sum(crops) > MOST_CROPS:
            raise Rejected(f"an epoch has {sum(crops)} crops, more than {MOST_CROPS}: lower crops_per_image")
        self._of_epoch = np.repeat(np.arange(len(samples)), crops)
        self._order: tuple[int, NDArray[np.intp]] = (-1, self._of_epoch)  # of the epoch it was last asked for

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._of_epoch) // self._batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch of `step`, 0 … steps − 1."""
        if not 0 <= step < self.steps:
            raise IndexError(f"an epoch has the steps 0 … {self.steps - 1}, not {step}")
        order = self._shuffle(epoch)
        chosen = np.arange(step * self._batch_size, (step + 1) * self._batch_size) % len(order)
        generator = np.random.default_rng((self._seed, epoch, 1 + step))  # the order's own one ends in 0
        crops = [self._cut(self._samples[index], generator) for index in order[chosen]]
        borders = [crop.border for crop in crops if crop.border is not None]
        return Batch(
            images=np.stack([crop.image for crop in crops]),
            masks=np.stack([crop.mask for crop in crops]),
            borders=np.stack(borders) if borders else None,
            names=[crop.name for crop in crops],
        )

    def _shuffle(self, epoch: int) -> NDArray[np.intp]:
        """Whose crops come when."""
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self._seed, epoch, 0)).permutation(self._of_epoch)
        return self._order[1]

    def _cut(self, sample: Sample, generator: np.random.Generator) -> Sample:
        top, left = (
            int(generator.integers(min(0, size - self._side), max(0, size - self._side) + 1))
            for size in sample.mask.shape
        )
        return sample.read_mirrored(Box(top, left, top + self._side, left + self._side).grow(self._margin))
