"""From a network to files that any engine answers alike."""

import copy
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from services.trainer import export as exporting
from services.trainer.export import Export, Serving, export_model
from services.trainer.networks import Network, UNetStn, build_network
from services.trainer.serving.checks import Unfaithful, check_engine, check_localiser
from services.trainer.serving.served_graph import ServedGraph, ServedLocaliser
from shared.imaging.probes import known_question
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored
from shared.schemas.contracts import TilingContract, WarpContract
from shared.schemas.training import UNetIn, UNetPlusPlusIn, UNetStnIn
from tests.lively_networks import make_lively

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
        ("IMAGE", [1, -1, -1, 6], True),
        ("OVERVIEW", [1, 32, 32, 3], True),
    ]
    assert [one["name"] for one in config["output"]] == ["PROBABILITY", "THETA"]
    assert "optional" not in json.loads(export.files["config.json"])["input"][0]


def test_the_contract_follows_from_the_network(export: Export, several: Export, valid: Export, warped: Export) -> None:
    assert (export.contract.halo, export.contract.grid, export.contract.cores) == (24, 4, [256, 512, 1024, 2048])
    assert (export.contract.channels, export.contract.planes, export.contract.classes[0]) == (3, 1, "background")
    assert (several.contract.channels, several.contract.planes) == (1, 3)
    assert several.contract.classes == ["nothing", "nucleus", "membrane"]
    assert (several.contract.halo, several.contract.grid) == (10, 2)  # of the pruned network, not of three levels
    assert (valid.contract.halo, valid.contract.grid) == (48, 8)
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


# The code that runs inside Triton, with a stand-in for what Triton gives it.


@pytest.fixture(scope="module")
def backend() -> Iterator[Any]:
    """The served `model.py`, imported as Triton does."""
    triton = ModuleType("triton_python_backend_utils")
    triton.Tensor = lambda name, array: SimpleNamespace(name=name, as_numpy=lambda: array)  # type: ignore[attr-defined]
    triton.TritonError = str  # type: ignore[attr-defined]
    triton.InferenceResponse = lambda tensors, error=None: SimpleNamespace(tensors=tensors, error=error)  # type: ignore[attr-defined]
    triton.get_input_tensor_by_name = lambda request, name: request.get(name)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", triton)
        path = Path(exporting.__file__).with_name("serving") / "model.py"
        spec = importlib.util.spec_from_file_location("served_model", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def load(backend: Any, export: Export, folder: Path) -> Any:
    """A loaded model, in f32 so that it can be compared."""
    config = json.loads(export.files["config.json"])
    config["parameters"]["precision"]["string_value"] = "f32"
    (folder / "1").mkdir()
    for name in export.files.keys() & {"model.onnx", "localiser.onnx"}:
        (folder / "1" / name).write_bytes(export.files[name])
    model = backend.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"})
    return model


@pytest.fixture
def model(backend: Any, export: Export, tmp_path: Path) -> Any:
    return load(backend, export, tmp_path)


def ask(model: Any, *images: Pixels, name: str = "IMAGE") -> list[Any]:
    requests = [{name: SimpleNamespace(as_numpy=lambda image=image: image[None])} for image in images]
    answers: list[Any] = model.execute(requests)
    return answers


def test_the_served_model_answers_several_requests_as_onnx_runtime_does(
    backend: Any, exported: Export, tmp_path: Path
) -> None:
    images = [question_for(exported, rows=rows, columns=6, seed=rows) for rows in (8, 12, 8)]
    for image, answer in zip(images, ask(load(backend, exported, tmp_path), *images), strict=True):
        assert answer.error is None
        found = answer.tensors[0].as_numpy()
        assert np.abs(found.astype(int) - run_onnx(exported, image)).max() <= 1


def test_the_served_localiser_finds_torchs_transform(
    backend: Any, warped: Export, transformer: UNetStn, tmp_path: Path
) -> None:
    overview = known_question(32, 3, 1)
    (answer,) = ask(load(backend, warped, tmp_path), overview, name="OVERVIEW")
    assert answer.error is None
    with torch.inference_mode():
        expected = ServedLocaliser(transformer)(torch.from_numpy(overview[None])).numpy()
    assert np.abs(expected - np.eye(3)).max() > 0.01
    np.testing.assert_allclose(answer.tensors[0].as_numpy(), expected, rtol=0, atol=1e-4)


def test_an_overview_for_a_model_without_a_localiser_is_an_error(model: Any) -> None:
    (answer,) = ask(model, known_question(32, 3, 1), name="OVERVIEW")
    assert answer.error == "ValueError: a request needs an IMAGE, or an OVERVIEW if the model has a localiser"


def test_a_request_that_fails_takes_no_other_with_it(model: Any) -> None:
    good = known_question(128, 3, 0)
    first, off_grid, all_halo, last = ask(model, good, good[:127], good[:48, :48], good)
    assert first.error is last.error is None
    assert off_grid.error.startswith("RuntimeError")
    assert all_halo.error == "ValueError: a tile of 48 × 48 px is all halo: read more around the core"


def test_only_a_few_shapes_are_kept(model: Any, backend: Any) -> None:
    ask(model, *(known_question(side, 3, 0) for side in range(64, 92, 4)))
    assert len(model._tiles._compiled) == backend._SHAPES_KEPT


def test_precision_is_auto_or_said(backend: Any) -> None:
    assert backend.choose_precision("auto") in ("bf16", "f32")
    assert backend.choose_precision("f32") == "f32"
    with pytest.raises(ValueError, match="must be auto, bf16 or f32"):
        backend.choose_precision("fp16")
