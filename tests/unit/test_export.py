"""From a network to files that any engine answers alike."""

import copy
import hashlib
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from services.trainer.export import Export, Serving, export_model
from services.trainer.networks import Network, UNetStn, build_network
from services.trainer.serving.checks import Unfaithful, check_engine, check_localiser
from services.trainer.serving.served_graph import ServedGraph, ServedLocaliser
from shared.imaging.probes import known_question
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored
from shared.schemas.contracts import TilingContract, WarpContract
from shared.schemas.training import UNetIn, UNetPlusPlusIn, UNetStnIn
from tests.lively_networks import make_lively

pytestmark = pytest.mark.long  # each export takes some seconds

Answer = NDArray[np.uint8]

NESTED = UNetPlusPlusIn(name="unet_plus_plus", widths=[4, 5, 6], channels=1, classes=3, serve_level=1)


@pytest.fixture(scope="module")
def network() -> Network:
    return make_lively(UNetIn(widths=[4, 5, 6])).train()  # as a training leaves it


@pytest.fixture(scope="module")
def export(network: Network) -> Export:
    return export_model(network, card={"name": "nuclei"})


@pytest.fixture(scope="module")
def several() -> Export:
    return export_model(make_lively(NESTED), card={}, classes=["nothing", "nucleus", "membrane"])


@pytest.fixture(scope="module")
def valid() -> Export:
    order = UNetIn(widths=[3, 4, 5, 6], padding="valid", decoder="upsampling", batch_norm=False, channels=1)
    return export_model(make_lively(order), card={}, serving=Serving(equalise=True, closing=3))


@pytest.fixture(scope="module")
def transformer() -> UNetStn:
    network = make_lively(UNetStnIn(name="unet_stn", widths=[4, 5, 6], channels=3, overview=32))
    assert isinstance(network, UNetStn)
    return network


@pytest.fixture(scope="module")
def warped(transformer: UNetStn) -> Export:
    return export_model(transformer, card={}, serving=Serving(invert=True, threshold=0.4))


@pytest.fixture(params=["export", "several", "valid", "warped"])
def exported(request: pytest.FixtureRequest) -> Export:
    """One class in colour; three in grey, pruned; without padding; with a second, warped image."""
    found: Export = request.getfixturevalue(request.param)
    return found


def run_onnx(export: Export, image: Pixels) -> Answer:
    session = onnxruntime.InferenceSession(export.files["model.onnx"], providers=["CPUExecutionProvider"])
    answer: Answer = session.run(["PROBABILITY"], {"IMAGE": image[None]})[0]
    return answer


def question_for(export: Export, *, rows: int, columns: int, seed: int = 0) -> Pixels:
    """A tile whose core has so many grid cells, (H, W, tile_channels)."""
    contract = export.contract
    height, width = (2 * contract.halo + cells * contract.grid for cells in (rows, columns))
    return known_question(max(height, width), contract.tile_channels, seed)[:height, :width]


def test_an_export_is_complete(export: Export) -> None:
    assert set(export.files) == {
        "model.onnx",
        "model.py",
        "config.json",
        "contract.json",
        "card.json",
        "checkpoint.safetensors",
    }
    assert export.digest == hashlib.sha256(export.files["model.onnx"]).hexdigest()
    assert TilingContract.model_validate_json(export.files["contract.json"]) == export.contract
    card = json.loads(export.files["card.json"])
    assert card["name"] == "nuclei"
    others = {name: body for name, body in export.files.items() if name != "card.json"}
    assert card["files"] == {name: hashlib.sha256(body).hexdigest() for name, body in others.items()}


def test_a_network_with_a_localiser_brings_a_second_graph(export: Export, warped: Export) -> None:
    assert set(warped.files) - set(export.files) == {"localiser.onnx"}
    config = json.loads(warped.files["config.json"])
    assert [(one["name"], one["dims"], one["optional"]) for one in config["input"]] == [
        ("IMAGE", [-1, -1, -1, 6], True),
        ("OVERVIEW", [1, 32, 32, 3], True),
    ]
    assert [one["name"] for one in config["output"]] == ["PROBABILITY", "ENGINE", "THETA"]
    assert "optional" not in json.loads(export.files["config.json"])["input"][0]


def test_the_contract_follows_from_the_network(export: Export, several: Export, valid: Export, warped: Export) -> None:
    assert (export.contract.halo, export.contract.grid, export.contract.cores) == (
        24,
        4,
        [128, 256, 384, 512, 768, 1024, 1536, 2048],
    )
    assert (export.contract.channels, export.contract.planes, export.contract.classes[0]) == (3, 1, "background")
    assert (several.contract.channels, several.contract.planes) == (1, 3)
    assert several.contract.classes == ["nothing", "nucleus", "membrane"]
    assert (several.contract.halo, several.contract.grid) == (10, 2)  # of the pruned network, not of three levels
    assert (valid.contract.halo, valid.contract.grid) == (48, 8)
    assert [each.contract.reach for each in (export, several, valid, warped)] == [22, 8, 46, 22]
    assert warped.contract.warp == WarpContract(kind="projective", overview=32, channels=6)
    assert (warped.contract.channels, warped.contract.tile_channels, export.contract.tile_channels) == (3, 6, 3)


def test_the_contract_holds_what_was_asked_for_besides(export: Export, valid: Export, warped: Export) -> None:
    asked = [
        (it.equalise, it.invert, it.threshold, it.closing) for it in (export.contract, valid.contract, warped.contract)
    ]
    assert asked == [(False, False, 0.5, 0), (True, False, 0.5, 3), (False, True, 0.4, 0)]


def test_a_contract_from_before_these_fields_still_holds(export: Export) -> None:
    added = {"equalise", "invert", "threshold", "closing", "warp"}
    old = export.contract.model_dump(mode="json", exclude=added)
    assert TilingContract.model_validate(old) == export.contract


def test_a_contract_whose_tiles_do_not_carry_the_image_twice_is_refused(warped: Export) -> None:
    wrong: dict[str, Any] = {**warped.contract.model_dump(), "warp": {"kind": "affine", "overview": 32, "channels": 2}}
    with pytest.raises(ValueError, match="image and warped image: 6, not 2"):
        TilingContract.model_validate(wrong)


def test_the_known_answer_is_what_the_graph_answers(exported: Export) -> None:
    known = exported.contract.known_answer
    answer = run_onnx(exported, known_question(known.side, exported.contract.tile_channels, known.seed))
    expected = np.array(known.answer)
    assert np.abs(answer[0, :, :: known.step, :: known.step] - expected).max() <= 1
    assert expected.std() > 10  # an engine that answers always the same would not pass


def test_the_graph_takes_bytes_and_gives_the_bytes_of_the_core(exported: Export) -> None:
    contract = exported.contract
    answer = run_onnx(exported, question_for(exported, rows=7, columns=12))
    assert answer.dtype == np.uint8
    assert answer.shape == (1, contract.planes, 7 * contract.grid, 12 * contract.grid)


def test_softmax_planes_add_up(several: Export) -> None:
    total = run_onnx(several, known_question(128, 1, 0)).sum(axis=1, dtype=int)
    assert np.abs(total - 255).max() <= 1


def test_batch_norm_is_folded_and_the_weights_are_inside(export: Export) -> None:
    graph = onnx.load_from_string(export.files["model.onnx"]).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.initializer)


def test_the_checkpoint_restores_the_network_and_the_network_stays_as_it_is(network: Network, export: Export) -> None:
    assert network.training
    restored = build_network(UNetIn(widths=[4, 5, 6]))
    restored.load_state_dict(safetensors.torch.load(export.files["checkpoint.safetensors"]))
    assert all(torch.equal(one, restored.state_dict()[name]) for name, one in network.state_dict().items())


def test_the_checkpoint_of_a_pruned_network_is_whole(several: Export) -> None:
    build_network(NESTED).load_state_dict(safetensors.torch.load(several.files["checkpoint.safetensors"]))


def test_the_served_bytes_are_seamless(exported: Export) -> None:
    contract, halo = exported.contract, exported.contract.halo
    image = known_question(203, contract.tile_channels, 4)[:, :150]
    whole = run_onnx(exported, read_mirrored(image, Box(0, 0, 208, 152).grow(halo)))[0]
    for tile in plan_tiles(Box(0, 0, 203, 150), core=64, halo=halo):
        answer = run_onnx(exported, read_mirrored(image, tile.read))[0, :, : tile.write.height, : tile.write.width]
        assert np.abs(answer.astype(int) - whole[:, *tile.write.slices()]).max() <= 1


def test_an_unfaithful_graph_is_found_out(network: Network, export: Export) -> None:
    model = onnx.load_from_string(export.files["model.onnx"])
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    served = ServedGraph(copy.deepcopy(network))
    check_engine(export.files["model.onnx"], served, [(128, 128)])
    message = r"on a tile of 128 × 128 px the exported graph differs from torch by 0\.0[1-9]\d* on average, \d\d/255"
    with pytest.raises(Unfaithful, match=message):
        check_engine(model.SerializeToString(), served, [(128, 128)])


def test_an_unfaithful_localiser_is_found_out(transformer: UNetStn, warped: Export) -> None:
    served = ServedLocaliser(copy.deepcopy(transformer))
    check_localiser(warped.files["localiser.onnx"], served)
    with torch.no_grad():
        served.network.localiser.last.bias.add_(1e-3)
    with pytest.raises(Unfaithful, match=r"the exported localiser differs from torch by 0\.00"):
        check_localiser(warped.files["localiser.onnx"], served)
