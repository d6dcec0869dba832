"""Changes to a crop that leave its truth true."""

import numpy as np

from shared.imaging.tiling import Pixels


def flip_and_turn(image: Pixels, mask: Pixels, generator: np.random.Generator) -> tuple[Pixels, Pixels]:
    """One of the eight symmetries of the square, the same for a square image (S, S, C) and its mask (S, S)."""
    turns, flip = int(generator.integers(4)), bool(generator.integers(2))
    image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    if flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)
