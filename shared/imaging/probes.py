"""Pictures that test an engine, the same ones on every machine and with every version of numpy; and what they test."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.imaging.tiling import Box, Pixels, plan_tiles

_BLOBS = 48
_FLIP = np.uint8(128)  # a value and the one with this bit turned are 128 apart, whatever the value

Predict = Callable[[Pixels], Pixels]  # a tile (core + 2 halo, core + 2 halo, C) → its answer (planes, core, core)


class PredictTiles(Protocol):
    """Tiles (N, core + 2 halo, core + 2 halo, C) → their answers (N, planes, core, core), each a mean over `views`."""

    def __call__(self, tiles: Pixels, views: int = 1) -> Pixels: ...


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


def measure_seam(predict: Predict, *, core: int, halo: int, channels: int, seed: int) -> int:
    """Largest difference between a tile of two cores a side and the four tiles that make it up, in 1/255."""
    question = known_question(2 * (core + halo), channels, seed)
    whole = predict(question)
    worst = 0
    for tile in plan_tiles(Box(0, 0, 2 * core, 2 * core), core=core, halo=halo):
        answer = predict(np.ascontiguousarray(question[tile.read.move(halo, halo).slices()]))
        worst = max(worst, _largest_difference(answer, whole[:, *tile.write.slices()]))
    return worst


def measure_beyond_halo(predict: Predict, *, grid: int, halo: int, channels: int, seed: int) -> int:
    """Largest change of a grid cell, in 1/255, when every pixel further than the halo from it is another.

    The cell holds every phase of the grid. It is the middle one of the three by three that the tile answers for, so
    that there is one cell on each side to change.
    """
    question = known_question(3 * grid + 2 * halo, channels, seed)
    changed = question ^ _FLIP
    near, cell = slice(grid, -grid), slice(grid, 2 * grid)
    changed[near, near] = question[near, near]
    return _largest_difference(predict(question)[:, cell, cell], predict(changed)[:, cell, cell])


def measure_together(predict_tiles: PredictTiles, tiles: Pixels) -> int:
    """Largest difference of the answers to tiles (N, H, W, C) of one request from that to each alone, in 1/255.

    Raises:
        ValueError: an answer has another shape than that of each alone, or is not of bytes.
    """
    together = predict_tiles(tiles)
    alone = np.concatenate([predict_tiles(tile[None]) for tile in tiles])
    _check_like(together, alone, asked=f"{len(tiles)} tiles")
    return _largest_difference(together, alone)


def measure_views(predict_tiles: PredictTiles, tile: Pixels) -> int:
    """Largest difference of the answer to four views of a tile (side, side, C) from the mean over its flips, in 1/255.

    Raises:
        ValueError: the answer has another shape than that to one view, or is not of bytes.
    """
    views = predict_tiles(tile[None], views=4)
    flips = [(down, across) for down in (1, -1) for across in (1, -1)]
    answers = [
        predict_tiles(np.ascontiguousarray(tile[None, ::down, ::across]))[:, :, ::down, ::across]
        for down, across in flips
    ]
    _check_like(views, answers[0], asked="4 views")
    return _largest_difference(views, np.rint(np.mean(answers, axis=0)).astype(np.uint8))


def _check_like(answer: Pixels, expected: Pixels, *, asked: str) -> None:
    if answer.shape != expected.shape or answer.dtype != np.uint8:
        raise ValueError(f"{asked} are answered by {answer.dtype} {answer.shape}, not by uint8 {expected.shape}")


def _largest_difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())


def _uniform(count: int, seed: int) -> NDArray[np.float64]:
    """`count` numbers of 0 … 1 that look random: SplitMix64 (Steele et al. 2014), in exact integer arithmetic."""
    state = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / np.float64(2**53)
