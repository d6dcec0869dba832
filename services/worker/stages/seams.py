"""How far the tiled answer is from one computed without seams: measured on the image itself, not promised."""

import random

import numpy as np
from numpy.typing import NDArray

from services.worker.context import Context
from services.worker.predictor import ServedModel
from services.worker.stages.facts import ImageFacts
from services.worker.stages.shards import Shards
from services.worker.stages.source import find_source
from shared.execution import Work
from shared.imaging.tiling import Box, Pixels, mirror_read
from shared.schemas.contracts import TilingContract
from shared.schemas.jobs import SegmentParameters
from shared.slides import Slide
from shared.tables.base import Json

WINDOWS = 2  # of an image; each costs a small tile
TRIES = 20  # to find places whose tiles were predicted


def measure_seams(context: Context, work: Work, facts: ImageFacts, slide: Slide) -> Json | None:
    """Predict a few windows that lie across seams each as one tile, and compare. None for an image without seams.

    Gives how many windows, the largest and the mean difference in steps of 1/255.
    """
    model = context.find_model(work.claim.job, work.image)
    shards = Shards(context, work.image, facts, model.contract)
    windows = choose_windows(facts, model.contract, seed=work.image.sha256)
    off: list[NDArray[np.int_]] = []
    for window in windows:
        alone = _predict_window(context, work, model, window, facts=facts, slide=slide)
        off.append(np.abs(alone - shards.read(window).astype(int)))
    if not off:
        return None
    largest, mean = max(int(part.max()) for part in off), float(np.mean([part.mean() for part in off]))
    return {"windows": len(windows), "largest": largest, "mean": round(mean, 5)}


def choose_windows(facts: ImageFacts, contract: TilingContract, *, seed: str) -> list[Box]:
    """Squares of the smallest core, around places where tiles meet, the same ones for the same seed.

    Each begins on the network's grid, so that its answer should be the same; crosses a seam in the middle, where four
    tiles meet if the image has rows and columns of them; and lies inside the image, where everything was predicted.
    """
    draw = random.Random(seed)  # noqa: S311  # a choice that anyone may foresee
    side, windows = contract.cores[0], list[Box]()
    if side > min(facts.height, facts.width):
        return windows
    for _ in range(TRIES):
        top = _choose_start(draw, size=facts.height, side=side, core=facts.core, grid=contract.grid)
        left = _choose_start(draw, size=facts.width, side=side, core=facts.core, grid=contract.grid)
        window = Box(top, left, top + side, left + side)
        if window not in windows and _has_seam(window, facts.core) and facts.is_predicted(window):
            windows.append(window)
        if len(windows) == WINDOWS:
            break
    return windows


def _choose_start(draw: random.Random, *, size: int, side: int, core: int, grid: int) -> int:
    """Where a window begins on an axis of `size` px: around a seam if there is one, anywhere on the grid if not."""
    seams = range(core, size, core)
    if not seams:
        return draw.randrange(0, size - side + 1, grid)
    return min(draw.choice(seams) - side // 2, size - side) // grid * grid


def _has_seam(window: Box, core: int) -> bool:
    return window.top // core != (window.bottom - 1) // core or window.left // core != (window.right - 1) // core


def _predict_window(
    context: Context, work: Work, model: ServedModel, window: Box, *, facts: ImageFacts, slide: Slide
) -> Pixels:
    """Probabilities (planes, side, side) of the window, from one tile of its own."""
    source = find_source(slide, facts, model.contract, check=work.check)
    tile = mirror_read(source, window.grow(model.contract.halo), height=facts.height, width=facts.width)
    context.predictor.ensure_loaded(model)
    views = SegmentParameters.of(work.claim.job.spec, work.image.entry).views
    answer: Pixels = context.predictor.predict(model, tile[None], views=views)[0]
    return answer
