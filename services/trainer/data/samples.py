"""Images with their truth, from files to arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.trainer.data.border_weights import weigh_borders
from services.trainer.data.masks import Labels, find_truth
from shared.annotations import read_values
from shared.errors import Rejected
from shared.imaging.normalisation import to_channels
from shared.imaging.preparation import prepare
from shared.imaging.quality import Features, measure_features
from shared.imaging.tiling import Box, Pixels, reflect
from shared.schemas.training import TrainIn
from shared.slides import open_slide

LARGEST_SET = 8_000_000_000  # bytes of all images, masks and border weights: they are held in memory


@dataclass(frozen=True)
class Sample:
    """An image with its truth."""

    name: str
    image: Pixels  # (H, W, channels), prepared
    mask: Pixels  # (H, W), index of the class, 0 = background
    border: NDArray[np.float16] | None = None  # (H, W), what the loss adds to the class weights
    labels: Labels | None = None  # (H, W), a number for each object, where the mask tells them apart
    features: Features | None = None  # of the image in its own size, before it was prepared

    def read_mirrored(self, box: Box) -> "Sample":
        """The part of the sample within `box`, mirrored where the box leaves the image."""
        height, width = self.mask.shape
        at = np.ix_(reflect(box.top, box.bottom, size=height), reflect(box.left, box.right, size=width))
        return Sample(self.name, self.image[at], self.mask[at], None if self.border is None else self.border[at])


_BYTES_READ = 6  # per pixel, while RGB becomes grey and the mask is decoded


def load_samples(pairs: Iterable[tuple[str, Path, Path]], order: TrainIn) -> list[Sample]:
    """Read (name, image file, mask file) triples as ordered, all into memory.

    Images are converted to the network's channels, scaled to `order.resize` and prepared; what the numbers in the
    masks mean is said by `order.masks`. Border weights are computed if `order.loss` has them.

    Raises:
        Rejected: a file is damaged, a mask does not fit its image or its network, or memory would not hold them all.
    """
    samples: list[Sample] = []
    room = LARGEST_SET
    for name, image, mask in pairs:
        samples.append(_load(name, image, mask, order=order, room=room))
        room -= samples[-1].mask.size * _bytes_per_pixel(order)
    return samples


def load_images(files: Iterable[tuple[str, Path]], order: TrainIn) -> list[Pixels]:
    """Read (name, file) pairs of images without masks as `load_samples` reads images with masks.

    Raises:
        Rejected: a file is damaged, or memory would not hold them all.
    """
    images: list[Pixels] = []
    room = LARGEST_SET
    for name, path in files:
        image = _read_image(path, name, order=order, room=room)
        images.append(prepare(_resize(image, order.resize), order.preparation))
        room -= images[-1].size
    return images


def _load(name: str, image_path: Path, mask_path: Path, *, order: TrainIn, room: int) -> Sample:
    image = _read_image(image_path, name, order=order, room=room)
    values = read_values(mask_path, name)
    if values.shape != image.shape[:2]:
        (height, width), (rows, columns) = image.shape[:2], values.shape
        raise Rejected(
            f"{name}: the image has {width} × {height} px but its mask {columns} × {rows} px; make them the same size"
        )
    if order.resize is not None:
        values = _scale_mask(values, order.resize)
    features = measure_features(lambda box: image[box.slices()], *image.shape[:2])
    scaled = _resize(image, order.resize)
    truth = find_truth(values, order.masks, name=name, classes=order.network.classes)
    border = _weigh(truth.labels, order)
    return Sample(name, prepare(scaled, order.preparation), truth.mask, border, truth.labels, features)


def _read_image(path: Path, name: str, *, order: TrainIn, room: int) -> Pixels:
    """(H, W, channels) in its own size, if the training set may still grow by it."""
    with open_slide(path, name=name) as slide:
        held = slide.height * slide.width if order.resize is None else order.resize**2
        read = slide.height * slide.width * _BYTES_READ  # for a moment, whatever it is scaled to
        if max(held * _bytes_per_pixel(order), read) > room:
            raise Rejected(
                f"{name}: with this image of {slide.width} × {slide.height} px the training set is larger than "
                f"{LARGEST_SET / 1e9:.0f} GB in memory; cut slides into smaller images, or train on fewer"
            )
        pixels = slide.read(Box(0, 0, slide.height, slide.width))
        return np.array(to_channels(pixels, order.network.channels), order="C")


def _bytes_per_pixel(order: TrainIn) -> int:
    """Of a sample in memory."""
    labels = 4 if order.masks.kind == "instances" else 0
    return order.network.channels + 1 + labels + (2 if order.loss.border is not None else 0)


def _weigh(labels: Labels | None, order: TrainIn) -> NDArray[np.float16] | None:
    if labels is None or order.loss.border is None:
        return None
    return weigh_borders(labels, order.loss.border)


def _resize(image: Pixels, side: int | None) -> Pixels:
    return image if side is None else _scale_image(image, side)


def _scale_image(image: Pixels, side: int) -> Pixels:
    """(H, W, C) → (side, side, C): means of areas where it shrinks, bilinear where either side grows."""
    method = Image.Resampling.BOX if side <= min(image.shape[:2]) else Image.Resampling.BILINEAR
    planes = [Image.fromarray(image[:, :, channel]).resize((side, side), method) for channel in range(image.shape[2])]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def _scale_mask(values: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """(H, W) → (side, side): the value at the centre of each new pixel, so that no new values arise."""
    rows, columns = (((2 * np.arange(side) + 1) * size) // (2 * side) for size in values.shape)
    return values[np.ix_(rows, columns)]
