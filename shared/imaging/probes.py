"""Pictures that test an engine, the same ones on every machine and with every version of numpy."""

import numpy as np
from numpy.typing import NDArray

_BLOBS = 48


def known_question(side: int, channels: int, seed: int) -> NDArray[np.uint8]:
    """Bright and dark smooth blobs with noise on grey, (side, side, channels) of 0 … 255.

    Blobs have nuclear sizes (5 … 25 px), so that a network trained on cells answers with more than one value. Made
    without numpy's generators, whose streams may change between versions: the answer is stored with the model.
    """
    draw = _uniform(_BLOBS * (4 + channels), seed).reshape(4 + channels, _BLOBS)
    rows, columns, sizes = draw[0] * side, draw[1] * side, 5 + 20 * draw[2]
    amplitudes = 400 * (draw[3] - 0.5) + 150 * (draw[4:] - 0.5)  # mostly grey, a little colour
    pixels = np.arange(side)[:, None]
    across = np.exp(-(((pixels - columns) / sizes) ** 2) / 2)  # (side, blobs)
    down = np.exp(-(((pixels - rows) / sizes) ** 2) / 2)
    blobs = np.stack([(down * amplitude) @ across.T for amplitude in amplitudes], axis=-1)
    noise = _uniform(side * side * channels, seed + 1).reshape(side, side, channels)
    return np.clip(np.rint(112 + blobs + 32 * noise), 0, 255).astype(np.uint8)


def _uniform(count: int, seed: int) -> NDArray[np.float64]:
    """`count` numbers of 0 … 1 that look random: SplitMix64 (Steele et al. 2014), in exact integer arithmetic."""
    state = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / np.float64(2**53)
