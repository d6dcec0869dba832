"""Images and masks to learn from: loaded, divided, cut into crops."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.trainer.augment import flip_and_turn
from shared.errors import Rejected
from shared.imaging.normalisation import to_channels
from shared.imaging.tiling import Box, Pixels, read_mirrored
from shared.slides import open_slide
from shared.slides.planes import open_tiff
from shared.slides.tiff import DAMAGE

LARGEST_SET = 8_000_000_000  # bytes of all images and masks: they are held in memory
_TIFF = (b"II", b"MM")


@dataclass(frozen=True)
class Sample:
    """An image with its truth."""

    name: str
    image: Pixels  # (H, W, channels)
    mask: Pixels  # (H, W), index of the class, 0 = background


@dataclass(frozen=True)
class Batch:
    """Crops that the network sees at once."""

    images: Pixels  # (N, H, W, channels)
    masks: Pixels  # (N, H, W)


def load_samples(pairs: Iterable[tuple[str, Path, Path]], *, channels: int, classes: int) -> list[Sample]:
    """Read (name, image file, mask file) triples, all into memory.

    A mask is a PNG or TIFF with one integer per pixel. For one class everything above 0 is foreground, so instance
    labels will do; for more, the value is the index of the class.

    Raises:
        Rejected: a file is damaged, a mask does not fit its image, or it holds a class that was not ordered.
    """
    samples: list[Sample] = []
    for name, image, mask in pairs:
        room = LARGEST_SET - sum(sample.image.size + sample.mask.size for sample in samples)
        samples.append(_load(name, image, mask, channels=channels, classes=classes, room=room))
    return samples


def split(samples: Sequence[Sample], *, fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples, at least one each; `fraction` is the share for validation.

    The same names and seed give the same split, whatever the order of the samples.

    Raises:
        Rejected: fewer than two samples.
    """
    if len(samples) < 2:
        raise Rejected(f"training needs at least 2 images with masks, one of them to validate with; got {len(samples)}")
    held = min(max(round(fraction * len(samples)), 1), len(samples) - 1)
    by_name = sorted(samples, key=lambda sample: sample.name)
    shuffled = [by_name[index] for index in np.random.default_rng(seed).permutation(len(by_name))]
    return shuffled[held:], shuffled[:held]


class Crops:
    """Batches of random crops, flipped and turned; an epoch shows about as many pixels as the images have.

    Images smaller than the crop are mirrored at their border. The same seed and epoch give the same batches.
    """

    def __init__(self, samples: Sequence[Sample], *, side: int, batch_size: int, seed: int) -> None:
        self._samples, self._side, self._batch_size, self._seed = samples, side, batch_size, seed
        crops = [-(-sample.mask.size // side**2) for sample in samples]
        self._of_epoch = np.repeat(np.arange(len(samples)), crops)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._of_epoch) // self._batch_size)

    def draw(self, epoch: int) -> Iterable[Batch]:
        """The batches of an epoch, in a new order each time, all of full size."""
        generator = np.random.default_rng((self._seed, epoch))
        order = np.resize(generator.permutation(self._of_epoch), self.steps * self._batch_size)
        for indices in order.reshape(self.steps, self._batch_size):
            crops = [self._cut(self._samples[index], generator) for index in indices]
            yield Batch(np.stack([image for image, _ in crops]), np.stack([mask for _, mask in crops]))

    def _cut(self, sample: Sample, generator: np.random.Generator) -> tuple[Pixels, Pixels]:
        top, left = (
            int(generator.integers(min(0, size - self._side), max(0, size - self._side) + 1))
            for size in sample.mask.shape
        )
        box = Box(top, left, top + self._side, left + self._side)
        image = read_mirrored(sample.image, box)
        mask = read_mirrored(sample.mask[:, :, None], box)[:, :, 0]
        return flip_and_turn(image, mask, generator)


def _load(name: str, image_path: Path, mask_path: Path, *, channels: int, classes: int, room: int) -> Sample:
    with open_slide(image_path, name=name) as slide:
        if slide.height * slide.width * (channels + 1) > room:
            raise Rejected(
                f"{name}: with this image of {slide.width} × {slide.height} px the training set is larger than "
                f"{LARGEST_SET / 1e9:.0f} GB in memory; cut slides into smaller images, or train on fewer"
            )
        image = np.array(to_channels(slide.read(Box(0, 0, slide.height, slide.width)), channels))
    values = _read_mask(mask_path, name)
    if values.shape != image.shape[:2]:
        (height, width), (rows, columns) = image.shape[:2], values.shape
        raise Rejected(
            f"{name}: the image has {width} × {height} px but its mask {columns} × {rows} px; make them the same size"
        )
    return Sample(name, image, _to_classes(values, name, classes))


def _read_mask(path: Path, name: str) -> NDArray[np.generic]:
    """One value per pixel (H, W), of any integer type or bool."""
    try:
        with path.open("rb") as file:
            is_tiff = file.read(2) in _TIFF
        if is_tiff:
            with open_tiff(path) as tiff:
                values: NDArray[np.generic] = tiff.asarray()
        else:
            with Image.open(path, formats=("PNG",)) as image:
                values = np.asarray(image)
        if values.size == 0:
            raise ValueError("no pixels")
    except (*DAMAGE, SyntaxError, Image.DecompressionBombError) as error:
        raise Rejected(f"{name}: the mask is no readable PNG or TIFF ({error}); export it again") from error
    values = _drop_colour(values.squeeze() if values.ndim > 3 else values)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise Rejected(
            f"{name}: a mask has one whole number per pixel, this one has shape {values.shape} of {values.dtype}; "
            "save it as a grey PNG or TIFF of 8 or 16 bits"
        )
    return values


def _drop_colour(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """(H, W, 3 or 4) → (H, W) if it is grey saved as colour; otherwise as it is."""
    if values.ndim == 3 and values.shape[2] in (3, 4) and (values[:, :, :3] == values[:, :, :1]).all():
        return values[:, :, 0]
    return values


def _to_classes(values: NDArray[np.generic], name: str, classes: int) -> Pixels:
    if classes == 1:
        return (values > np.zeros((), values.dtype)).astype(np.uint8)
    numbers = values.astype(np.int64)
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if wrong.size:
        raise Rejected(
            f"{name}: the mask holds the value {wrong.flat[0]}, but with {classes} classes only 0 … {classes - 1} have "
            f"a meaning; order more classes, or classes = 1 if the values number single cells"
        )
    return numbers.astype(np.uint8)
