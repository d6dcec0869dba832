"""Seeing for oneself, before a model version may be used: that its graph keeps its contract, and its engine both."""

import numpy as np

from shared.errors import Rejected
from shared.graphs import GraphFacts, Unproven, analyse
from shared.imaging.probes import Predict, known_question, measure_beyond_halo, measure_seam
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
    _check_exactness(facts, contract)


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


def inspect(contract: TilingContract, predict: Predict, engine: dict[str, str]) -> Serving:
    """Measure what the engine makes of the model. `engine`: what it says of itself, if anything.

    Raises:
        Rejected: tiles differ by more than the contract and an engine's rounding allow.
    """
    mean, largest = _measure_difference(contract, predict)
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
