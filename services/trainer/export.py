"""From a trained network to what the platform registers and serves: files, tiling contract, digest."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.export import Dim

from services.trainer.networks import Network, UNetStn
from services.trainer.quantising import Quantiser
from services.trainer.serving.checks import answer_of, check_engine, check_localiser
from services.trainer.serving.exactness import find_promise
from services.trainer.serving.served_graph import ServedGraph, ServedLocaliser
from shared.domain.model_files import QUANTISED
from shared.imaging.probes import known_question
from shared.schemas.contracts import BATCHES, Activation, KnownAnswer, Precision, TilingContract, WarpContract
from shared.schemas.objects import ObjectsIn
from shared.schemas.preparation import StainContract
from shared.schemas.quality import ImageStatistics
from shared.schemas.steps import ImageStep

CORES = [128, 256, 384, 512, 768, 1024, 1536, 2048]  # px; multiples of every grid up to 128
NORMALISATION = "value / 255"

_BACKEND = Path(__file__).with_name("serving") / "model.py"
_QUESTION_SEED = 0
_QUESTION_STEP = 8  # 16 × 16 values of the smallest core
_TOLERANCE = 3  # uint8 steps on average: bf16 differs by less than one, a wrong model by tens


@dataclass(frozen=True)
class Export:
    """A model version, ready to be stored under its keys and loaded by Triton."""

    files: dict[str, bytes]  # by name in the model version's folder
    contract: TilingContract
    digest: str  # sha256 of model.onnx, hex
    card: Mapping[str, Any] = field(default_factory=dict)  # as it was given, and what was found when exporting


@dataclass(frozen=True)
class Serving:
    """What those who serve the model should do around it: parts of the contract that no network knows of itself."""

    steps: Sequence[ImageStep] = ()  # of preprocessing, that images go through before all else
    stain: StainContract | None = None  # the whole image's stains become the reference's, before tiles are cut
    equalise: bool = False  # the whole image's histogram, likewise
    stretch: tuple[float, float] | None = None  # percentiles of the whole image that become 0 and 255, likewise
    invert: bool = False  # v becomes 255 − v, before tiles are cut
    threshold: float = 0.5  # recommended, probability
    closing: int = 0  # recommended, px
    objects: ObjectsIn | None = None  # recommended
    familiar: ImageStatistics | None = None  # what the images look like that were learnt from


def export_model(
    network: Network,
    *,
    card: Mapping[str, Any],
    classes: Sequence[str] | None = None,
    serving: Serving | None = None,
    quantiser: Quantiser | None = None,
) -> Export:
    """Export the network with everything it takes to serve it, after proving that the export is faithful.

    The checkpoint holds the whole network, so that it can be trained further; the graph what `to_serve` says.

    Args:
        network: trained; stays as it is.
        card: what a reader should know about the model; any JSON.
        classes: their names, the background first.
        serving: what the contract asks for besides; by default nothing.
        quantiser: tries the graph in int8, which is then served if it is as good.

    Raises:
        Unfaithful: tiles of the network would show seams, or an exported graph answers differently from torch.
    """
    whole = _at_rest(network)
    served = ServedGraph(whole.to_serve())
    graph = _to_onnx(served)
    side, step = CORES[0] + 2 * served.halo, served.network.grid
    check_engine(graph, served, [(side, side), (side - 2 * step, side - step)])
    contract = _contract(served, graph, classes or default_classes(network.classes), serving or Serving())
    graphs = {"model.onnx": graph, **_export_localiser(served.network)}
    if quantiser is not None:
        trial = quantiser.try_out(graph, served.network, contract.known_answer)
        card = {**card, "int8": trial.summarise()}
        if trial.taken:
            graphs[QUANTISED] = trial.graph
            contract = contract.model_copy(update={"precision": Precision.INT8})
    return _pack(whole, graphs, contract, card)


def _pack(network: Network, graphs: Mapping[str, bytes], contract: TilingContract, card: Mapping[str, Any]) -> Export:
    """All the files; the card lists the hashes of the others."""
    digest = _hash(graphs["model.onnx"])
    files = {
        **graphs,
        "model.py": _BACKEND.read_bytes(),
        "config.json": _as_json(_triton_config(contract, digest)),
        "contract.json": _as_json(contract.model_dump(mode="json")),
        "checkpoint.safetensors": save_tensors(network.state_dict()),
    }
    files["card.json"] = _as_json({**card, "files": {name: _hash(body) for name, body in files.items()}})
    return Export(files, contract, digest, card)


def default_classes(classes: int) -> list[str]:
    """Names for want of better ones, the background first."""
    if classes == 1:
        return ["background", "foreground"]
    return ["background", *(f"class {index}" for index in range(1, classes))]


def write_graph(module: nn.Module, example: Tensor, **naming: Any) -> bytes:
    """An ONNX file of `module` as it answers to `example`, with the weights inside; BatchNorm is folded on the way.

    `naming`: input_names, output_names and dynamic_shapes of `torch.onnx.export`.
    """
    program: Any = torch.onnx.export(
        module.eval(), (example,), dynamo=True, external_data=False, verbose=False, **naming
    )
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _at_rest(network: Network) -> Network:
    """A copy in evaluation mode, in fp32, on the CPU."""
    return copy.deepcopy(network).to("cpu", torch.float32).eval()


def _to_onnx(served: ServedGraph) -> bytes:
    """From the bytes of tiles to those of their cores. How many, how high and how wide stays open, on the grid."""
    grid, least = served.network.grid, 2 * served.halo // served.network.grid + 1
    side = CORES[0] + 2 * served.halo
    return write_graph(
        served,
        torch.zeros((2, side, side, served.network.tile_channels), dtype=torch.uint8),  # of one, the export keeps one
        input_names=["IMAGE"],
        output_names=["PROBABILITY"],
        dynamic_shapes={
            "image": {0: Dim("tiles"), 1: grid * Dim("rows", min=least), 2: grid * Dim("columns", min=least)}
        },
    )


def _export_localiser(network: Network) -> dict[str, bytes]:
    """The file `localiser.onnx`, checked, if the network has a localiser."""
    if not isinstance(network, UNetStn):
        return {}
    served, side = ServedLocaliser(network), network.localiser.overview
    overview = torch.zeros((1, side, side, network.channels), dtype=torch.uint8)
    graph = write_graph(served, overview, input_names=["OVERVIEW"], output_names=["THETA"])
    check_localiser(graph, served)
    return {"localiser.onnx": graph}


def _contract(served: ServedGraph, graph: bytes, classes: Sequence[str], serving: Serving) -> TilingContract:
    network = served.network
    promise = find_promise(graph, served, core=CORES[0])
    return TilingContract(
        channels=network.channels,
        classes=list(classes),
        activation=Activation.SIGMOID if network.classes == 1 else Activation.SOFTMAX,
        halo=network.halo,
        grid=network.grid,
        cores=CORES,
        normalisation=NORMALISATION,
        protocol=BATCHES,
        warp=_warp_contract(network),
        known_answer=_known_answer(served),
        **asdict(promise),
        **asdict(serving),
    )


def _warp_contract(network: Network) -> WarpContract | None:
    if not isinstance(network, UNetStn):
        return None
    localiser = network.localiser
    return WarpContract(kind=localiser.transform, overview=localiser.overview, channels=network.tile_channels)


def _known_answer(served: ServedGraph) -> KnownAnswer:
    side = CORES[0] + 2 * served.halo
    question = known_question(side, served.network.tile_channels, _QUESTION_SEED)
    answer = answer_of(served, question[None])[0, :, ::_QUESTION_STEP, ::_QUESTION_STEP]
    return KnownAnswer(
        side=side, seed=_QUESTION_SEED, step=_QUESTION_STEP, answer=answer.tolist(), tolerance=_TOLERANCE
    )


def _triton_config(contract: TilingContract, digest: str) -> dict[str, Any]:
    """For Triton's load call. The digest is in it because a load with an unchanged configuration changes nothing.

    A request to a model with a localiser carries either tiles or an overview.
    """
    tiles = {"name": "IMAGE", "data_type": "TYPE_UINT8", "dims": [-1, -1, -1, contract.tile_channels]}
    inputs: list[dict[str, Any]] = [tiles]
    outputs: list[dict[str, Any]] = [
        {"name": "PROBABILITY", "data_type": "TYPE_UINT8", "dims": [-1, -1, -1, -1]},
        {"name": "ENGINE", "data_type": "TYPE_STRING", "dims": [1]},
    ]
    if contract.warp is not None:
        side = contract.warp.overview
        overview = {"name": "OVERVIEW", "data_type": "TYPE_UINT8", "dims": [1, side, side, contract.channels]}
        inputs = [{**tiles, "optional": True}, {**overview, "optional": True}]
        outputs.append({"name": "THETA", "data_type": "TYPE_FP32", "dims": [1, 3, 3]})
    return {
        "backend": "python",
        "max_batch_size": 0,
        "input": inputs,
        "output": outputs,
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {
            "engine": {"string_value": "auto"},
            "precision": {"string_value": contract.precision.value},
            "digest": {"string_value": digest},
        },
    }


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _as_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
