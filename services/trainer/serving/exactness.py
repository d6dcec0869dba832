"""What may be promised of tiles: computed from the exported graph, and held against what the network says of itself."""

from dataclasses import dataclass

import onnxruntime

from services.trainer.networks import Network
from services.trainer.serving.checks import Unfaithful, check_halo
from services.trainer.serving.served_graph import ServedGraph
from shared.graphs import GraphFacts, Unproven, analyse
from shared.imaging.probes import measure_seam
from shared.imaging.tiling import Pixels
from shared.schemas.contracts import TOLERATED, Exactness

SEEDS = range(3)  # of the pictures on which a seam is measured


@dataclass(frozen=True)
class Promise:
    """Fields of the tiling contract that follow from the graph."""

    exactness: Exactness
    reach: int | None
    bound: int | None
    bytes_per_pixel: int


def find_promise(graph: bytes, served: ServedGraph, *, core: int) -> Promise:
    """What tiles of this graph are worth. `core`: side of the smallest core, px, on which seams are measured.

    Exact if nothing spreads and the halo covers the reach; untileable if something spreads, such as a normalisation
    over the tile; tolerant if the halo is too small, but tiles were not seen to differ by more than 2/255.

    Raises:
        Unfaithful: the graph is not what the network says of itself, cannot be analysed, or its seams can be seen.
    """
    network = served.network
    facts = _analyse(graph)
    if facts.halo != network.halo or network.grid % facts.grid:
        raise Unfaithful(
            f"the network promises a halo of {network.halo} px on a grid of {network.grid} px, "
            f"its graph has {facts.halo} px on a grid of {facts.grid} px"
        )
    if facts.reach is None:
        return Promise(Exactness.UNTILEABLE, None, None, facts.bytes_per_pixel)
    if facts.reach <= network.halo:
        check_halo(network)
        return Promise(Exactness.EXACT, facts.reach, None, facts.bytes_per_pixel)
    bound = _measure_bound(graph, network, core)
    if bound > TOLERATED:
        raise Unfaithful(
            f"the graph looks {facts.reach} px far, its halo is {network.halo} px, and its tiles differ from the whole "
            f"by up to {bound}/255, where {TOLERATED}/255 would be tolerated"
        )
    return Promise(Exactness.TOLERANT, facts.reach, bound, facts.bytes_per_pixel)


def _analyse(graph: bytes) -> GraphFacts:
    try:
        return analyse(graph)
    except Unproven as error:
        raise Unfaithful(f"nothing can be promised of the exported graph: it has {error}") from error


def _measure_bound(graph: bytes, network: Network, core: int) -> int:
    """Largest difference of a tile from the four that make it up, in 1/255, by ONNX Runtime in fp32."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def predict(tile: Pixels) -> Pixels:
        answer: Pixels = session.run(None, {"IMAGE": tile[None]})[0][0]
        return answer

    return max(
        measure_seam(predict, core=core, halo=network.halo, channels=network.tile_channels, seed=seed) for seed in SEEDS
    )
