"""How much the gaps between objects count: those between touching cells are few pixels, but decide the count."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from services.trainer.data.masks import Labels
from shared.schemas.training import BorderIn

REACH = 5.0  # σ; where d1 + d2 is larger, the weight is below 4e-6 of w0, and 0 is written


def weigh_borders(labels: Labels, order: BorderIn) -> NDArray[np.float16]:
    """w0 · exp(−(d1 + d2)² / 2σ²) at each pixel: Ronneberger et al. 2015, equation 2, without the class weights.

    `labels`: (H, W), 1, 2, … for the objects, 0 for background. d1 and d2 are the distances, in px, to the nearest and
    the second nearest object, 0 within an object; with fewer than two objects there is no border, and all is 0.
    """
    nearest, second = find_distances(labels, reach=REACH * order.sigma)
    total = nearest + second
    weights = np.where(total < REACH * order.sigma, order.w0 * np.exp(-((total / order.sigma) ** 2) / 2), 0.0)
    return weights.astype(np.float16)


def find_distances(labels: Labels, *, reach: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances (H, W) to the nearest and the second nearest object, px; exact up to `reach`, larger beyond it.

    Each object is measured in a box around it that holds all pixels within reach, so that hundreds of objects cost
    hundreds of small distance transforms instead of as many of the whole image. "Larger" may be infinite.
    """
    margin = int(np.ceil(reach))
    nearest, second = (np.full(labels.shape, np.inf, np.float32) for _ in range(2))
    for number, extent in enumerate(find_objects(labels), 1):
        if extent is None:
            continue
        box = tuple(slice(max(0, axis.start - margin), axis.stop + margin) for axis in extent)
        distances = distance_transform_edt(labels[box] != number).astype(np.float32)
        second[box] = np.minimum(second[box], np.maximum(nearest[box], distances))
        nearest[box] = np.minimum(nearest[box], distances)
    return nearest, second
