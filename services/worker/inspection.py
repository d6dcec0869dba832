"""Seeing for oneself, before a model version may be used: that its graph keeps its contract, and its engine both."""

import math

import numpy as np

from services.worker.connection import Refused
from shared.errors import Rejected
from shared.graphs import GraphFacts, Unproven, analyse
from shared.imaging.probes import (
    Predict,
    PredictTiles,
    known_question,
    measure_beyond_halo,
    measure_seam,
    measure_together,
    measure_views,
)
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import Exactness, Tiling, TilingContract
from shared.schemas.models import Serving, ServingEngine

# Steps of 1/255 by which an engine may differ from itself on a tile of another shape. OpenVINO 2026.4 was seen to
# differ by 0 in bf16 and in f32; a seam differs by tens.
ROUNDING = 3
SEED = 0  # of the picture on which tiles are compared

MEND = "export the model anew, or correct its contract.json and import it again"


def check_contract(graph: bytes, contract: Tiling) -> None:
    """The contract may promise no more than the graph holds.

    What cannot be analysed cannot be promised: such a graph may only be served as untileable, for images of one tile.

    Raises:
        Rejected: with what the graph has, and the mend.
    """
    try:
        contract.check_bound()
    except ValueError as error:
        raise Rejected(f"the contract cannot be kept: {error}; {MEND}") from error
    try:
        facts = analyse(graph)
    except Unproven as error:
        if contract.exactness is Exactness.UNTILEABLE:
            return
        raise Rejected(
            f"the contract says {contract.exactness.value}, which nobody can tell of this graph: it has {error}; "
            f"{MEND}, as {Exactness.UNTILEABLE.value}"
        ) from error
    if facts.halo != contract.halo or contract.grid % facts.grid:
        raise Rejected(
            f"the contract says a halo of {contract.halo} px on a grid of {contract.grid} px, the graph has "
            f"{facts.halo} px on a grid of {facts.grid} px; {MEND}"
        )
    _check_figures(facts, contract)
    _check_exactness(facts, contract)


def _check_figures(facts: GraphFacts, contract: Tiling) -> None:
    """What a contract says of reach and memory others plan with. One from before they were computed says nothing."""
    reach = math.inf if facts.reach is None else facts.reach
    if contract.reach is not None and contract.reach < reach:
        found = "as far as the tile goes" if facts.reach is None else f"{facts.reach} px far"
        raise Rejected(f"the contract says a reach of {contract.reach} px, but the graph looks {found}; {MEND}")
    if contract.bytes_per_pixel is not None and contract.bytes_per_pixel < facts.bytes_per_pixel:
        raise Rejected(
            f"the contract says {contract.bytes_per_pixel} bytes per pixel, but the graph needs "
            f"{facts.bytes_per_pixel}; {MEND}"
        )


def _check_exactness(facts: GraphFacts, contract: Tiling) -> None:
    if contract.exactness is Exactness.UNTILEABLE:
        return
    if facts.reach is None:
        raise Rejected(
            f"the contract says {contract.exactness.value}, but the answer depends on the tile as a whole through "
            f"{', '.join(facts.spreading)}; {MEND}, as {Exactness.UNTILEABLE.value}"
        )
    if contract.exactness is Exactness.EXACT and facts.reach > contract.halo:
        raise Rejected(
            f"the contract says exact with a halo of {contract.halo} px, but the graph looks {facts.reach} px far; "
            f"{MEND}"
        )


def inspect(contract: TilingContract, predict_tiles: PredictTiles, engine: dict[str, str]) -> Serving:
    """Measure what the engine makes of the model. `engine`: what it says of itself, if anything.

    Raises:
        Rejected: tiles differ by more than the contract and an engine's rounding allow, or several of them, or views
            of them, are not answered though the contract says so.
    """

    def predict(tile: Pixels) -> Pixels:
        answer: Pixels = predict_tiles(tile[None])[0]
        return answer

    mean, largest = _measure_difference(contract, predict)
    if contract.takes_batches:
        _check_protocol(contract, predict_tiles)
    seam = beyond = None
    if contract.exactness is not Exactness.UNTILEABLE:
        where = {"halo": contract.halo, "channels": contract.tile_channels, "seed": SEED}
        seam = measure_seam(predict, core=contract.cores[0], **where)
        beyond = measure_beyond_halo(predict, grid=contract.grid, **where)
        _check_tiles(contract, seam=seam, beyond=beyond)
    return Serving(
        engine=ServingEngine.model_validate(engine) if engine else None,
        mean_difference=mean,
        largest_difference=largest,
        seam=seam,
        beyond_halo=beyond,
    )


def _check_protocol(contract: TilingContract, predict_tiles: PredictTiles) -> None:
    """Two tiles of one request are answered as each alone, and four views of them by the mean over their flips."""
    known = contract.known_answer
    question = known_question(known.side, contract.tile_channels, known.seed)
    try:
        together = measure_together(predict_tiles, np.stack([question, 255 - question]))
        views = measure_views(predict_tiles, question)
    except (Refused, ValueError) as error:
        raise Rejected(f"the contract says protocol {contract.protocol}, but {error}; {MEND}") from error
    if max(together, views) > ROUNDING:
        raise Rejected(
            f"the contract says protocol {contract.protocol}, but two tiles of one request differ from each alone by "
            f"{together}/255, and four views from the mean over the flips by {views}/255, where {ROUNDING}/255 is "
            f"allowed; {MEND}"
        )


def _check_tiles(contract: TilingContract, *, seam: int, beyond: int) -> None:
    allowed = ROUNDING + (contract.bound or 0)
    if seam > allowed:
        raise Rejected(
            f"on this engine a tile differs from the four that make it up by {seam}/255, where {allowed}/255 is "
            f"allowed for a model that is {contract.exactness.value}; {MEND}, or serve it with another engine"
        )
    if contract.exactness is Exactness.EXACT and beyond > ROUNDING:
        raise Rejected(
            f"on this engine pixels more than {contract.halo} px away change an answer by {beyond}/255, though the "
            f"model is exact; {MEND}, or serve it with another engine"
        )


def _measure_difference(contract: TilingContract, predict: Predict) -> tuple[float, int]:
    """Of the answer to the known question from torch's in fp32, in 1/255: on average, and the largest."""
    known = contract.known_answer
    answer = predict(known_question(known.side, contract.tile_channels, known.seed))
    off = np.abs(answer[:, :: known.step, :: known.step].astype(int) - np.asarray(known.answer))
    return round(float(off.mean()), 4), int(off.max())
