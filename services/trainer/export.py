"""From a trained network to what the platform registers and serves: files, tiling contract, digest."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch.export import Dim

from services.trainer.networks import UNet
from services.trainer.serving.checks import answer_of, check_engine, check_halo
from services.trainer.serving.served_graph import ServedGraph
from shared.imaging.probes import known_question
from shared.schemas.contracts import Activation, Exactness, KnownAnswer, TilingContract

CORES = [256, 512, 1024, 2048]  # px; multiples of every grid up to 256
NORMALISATION = "value / 255"

_BACKEND = Path(__file__).with_name("serving") / "model.py"
_QUESTION_SEED = 0
_QUESTION_STEP = 16  # 16 × 16 values of the smallest core
_TOLERANCE = 3  # uint8 steps on average: bf16 differs by less than one, a wrong model by tens


@dataclass(frozen=True)
class Export:
    """A model version, ready to be stored under its keys and loaded by Triton."""

    files: dict[str, bytes]  # by name in the model version's folder
    contract: TilingContract
    digest: str  # sha256 of model.onnx, hex


def export_model(network: UNet, *, card: Mapping[str, Any], classes: Sequence[str] | None = None) -> Export:
    """Export the network with everything it takes to serve it, after proving that the export is faithful.

    Args:
        network: trained; stays as it is.
        card: what a reader should know about the model; any JSON.
        classes: their names, the background first.

    Raises:
        Unfaithful: pixels beyond the halo reach the core, or the exported graph answers differently from torch.
    """
    served = ServedGraph(_at_rest(network))
    check_halo(served.network)
    graph = _to_onnx(served)
    side, step = CORES[0] + 2 * network.halo, network.grid
    check_engine(graph, served, [(side, side), (side - 2 * step, side - step)])
    contract = _contract(served, classes or default_classes(network.classes))
    digest = hashlib.sha256(graph).hexdigest()
    files = {
        "model.onnx": graph,
        "model.py": _BACKEND.read_bytes(),
        "config.json": _as_json(_triton_config(contract, digest)),
        "contract.json": _as_json(contract.model_dump(mode="json")),
        "card.json": _as_json(dict(card)),
        "checkpoint.safetensors": save_tensors(served.network.state_dict()),
    }
    return Export(files, contract, digest)


def default_classes(classes: int) -> list[str]:
    """Names for want of better ones, the background first."""
    if classes == 1:
        return ["background", "foreground"]
    return ["background", *(f"class {index}" for index in range(1, classes))]


def _at_rest(network: UNet) -> UNet:
    """A copy in evaluation mode, in fp32, on the CPU."""
    return copy.deepcopy(network).to("cpu", torch.float32).eval()


def _to_onnx(served: ServedGraph) -> bytes:
    """One file with the weights inside; height and width stay open, on the grid. BatchNorm is folded on the way."""
    grid, least = served.network.grid, 2 * served.halo // served.network.grid + 1
    side = CORES[0] + 2 * served.halo
    program: Any = torch.onnx.export(
        served.eval(),
        (torch.zeros((1, side, side, served.network.channels), dtype=torch.uint8),),
        dynamo=True,
        input_names=["IMAGE"],
        output_names=["PROBABILITY"],
        dynamic_shapes={"image": {1: grid * Dim("rows", min=least), 2: grid * Dim("columns", min=least)}},
        external_data=False,
        verbose=False,
    )
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _contract(served: ServedGraph, classes: Sequence[str]) -> TilingContract:
    network = served.network
    return TilingContract(
        channels=network.channels,
        classes=list(classes),
        activation=Activation.SIGMOID if network.classes == 1 else Activation.SOFTMAX,
        halo=network.halo,
        grid=network.grid,
        cores=CORES,
        exactness=Exactness.EXACT,
        normalisation=NORMALISATION,
        known_answer=_known_answer(served),
    )


def _known_answer(served: ServedGraph) -> KnownAnswer:
    side = CORES[0] + 2 * served.halo
    question = known_question(side, served.network.channels, _QUESTION_SEED)
    answer = answer_of(served, question[None])[0, :, ::_QUESTION_STEP, ::_QUESTION_STEP]
    return KnownAnswer(
        side=side, seed=_QUESTION_SEED, step=_QUESTION_STEP, answer=answer.tolist(), tolerance=_TOLERANCE
    )


def _triton_config(contract: TilingContract, digest: str) -> dict[str, Any]:
    """For Triton's load call. The digest is in it because a load with an unchanged configuration changes nothing."""
    return {
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "IMAGE", "data_type": "TYPE_UINT8", "dims": [1, -1, -1, contract.channels]}],
        "output": [{"name": "PROBABILITY", "data_type": "TYPE_UINT8", "dims": [1, -1, -1, -1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {
            "precision": {"string_value": contract.precision.value},
            "digest": {"string_value": digest},
        },
    }


def _as_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
