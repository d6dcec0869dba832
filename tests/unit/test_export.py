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
from services.trainer.export import Export, export_model
from services.trainer.networks import UNet
from services.trainer.serving.checks import Unfaithful, check_engine
from services.trainer.serving.served_graph import ServedGraph
from shared.imaging.probes import known_question
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored
from shared.schemas.contracts import TilingContract

Answer = NDArray[np.uint8]


def make_network(classes: int, channels: int) -> UNet:
    """Three levels, random weights, BatchNorm with statistics as after a training."""
    torch.manual_seed(0)
    network = UNet([4, 5, 6], channels=channels, classes=classes)
    pixels = torch.from_numpy(known_question(64, channels, 0)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        for _ in range(20):
            logits = network.train()(pixels)
        network.head.weight *= 4 / logits.std()
        network.head.bias -= network(pixels).mean(dim=(0, 2, 3))
    return network  # still in training mode


@pytest.fixture(scope="module")
def network() -> UNet:
    return make_network(classes=1, channels=3)


@pytest.fixture(scope="module")
def export(network: UNet) -> Export:
    return export_model(network, card={"name": "nuclei"})


@pytest.fixture(scope="module")
def several() -> Export:
    return export_model(make_network(3, 1), card={}, classes=["nothing", "nucleus", "membrane"])


@pytest.fixture(params=["export", "several"])
def exported(request: pytest.FixtureRequest) -> Export:
    """One class in colour, three in grey."""
    found: Export = request.getfixturevalue(request.param)
    return found


def run_onnx(export: Export, image: Pixels) -> Answer:
    session = onnxruntime.InferenceSession(export.files["model.onnx"], providers=["CPUExecutionProvider"])
    answer: Answer = session.run(["PROBABILITY"], {"IMAGE": image[None]})[0]
    return answer


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
    assert json.loads(export.files["card.json"]) == {"name": "nuclei"}


def test_the_contract_follows_from_the_network(export: Export, several: Export) -> None:
    assert (export.contract.halo, export.contract.grid, export.contract.cores) == (24, 4, [256, 512, 1024, 2048])
    assert (export.contract.channels, export.contract.planes, export.contract.classes[0]) == (3, 1, "background")
    assert (several.contract.channels, several.contract.planes) == (1, 3)
    assert several.contract.classes == ["nothing", "nucleus", "membrane"]


def test_the_known_answer_is_what_the_graph_answers(exported: Export) -> None:
    known = exported.contract.known_answer
    answer = run_onnx(exported, known_question(known.side, exported.contract.channels, known.seed))
    expected = np.array(known.answer)
    assert np.abs(answer[0, :, :: known.step, :: known.step] - expected).max() <= 1
    assert expected.std() > 10  # an engine that answers always the same would not pass


def test_the_graph_takes_bytes_and_gives_the_bytes_of_the_core(exported: Export) -> None:
    contract = exported.contract
    answer = run_onnx(exported, known_question(128, contract.channels, 3)[:100])
    assert answer.dtype == np.uint8
    assert answer.shape == (1, contract.planes, 100 - 2 * contract.halo, 128 - 2 * contract.halo)


def test_softmax_planes_add_up(several: Export) -> None:
    total = run_onnx(several, known_question(128, 1, 0)).sum(axis=1, dtype=int)
    assert np.abs(total - 255).max() <= 1


def test_batch_norm_is_folded_and_the_weights_are_inside(export: Export) -> None:
    graph = onnx.load_from_string(export.files["model.onnx"]).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.initializer)


def test_the_checkpoint_restores_the_network_and_the_network_stays_as_it_is(network: UNet, export: Export) -> None:
    assert network.training
    restored = UNet([4, 5, 6], channels=3, classes=1)
    restored.load_state_dict(safetensors.torch.load(export.files["checkpoint.safetensors"]))
    assert all(torch.equal(one, restored.state_dict()[name]) for name, one in network.state_dict().items())


def test_the_served_bytes_are_seamless(export: Export) -> None:
    image, halo = known_question(203, 3, 4)[:, :150], export.contract.halo
    whole = run_onnx(export, read_mirrored(image, Box(0, 0, 204, 152).grow(halo)))[0, 0]
    for tile in plan_tiles(Box(0, 0, 203, 150), core=64, halo=halo):
        answer = run_onnx(export, read_mirrored(image, tile.read))[0, 0, : tile.write.height, : tile.write.width]
        assert np.abs(answer.astype(int) - whole[tile.write.slices()]).max() <= 1


def test_an_unfaithful_graph_is_found_out(network: UNet, export: Export) -> None:
    model = onnx.load_from_string(export.files["model.onnx"])
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    served = ServedGraph(copy.deepcopy(network))
    check_engine(export.files["model.onnx"], served, [(128, 128)])
    with pytest.raises(Unfaithful, match=r"on a tile of 128 × 128 px the exported graph differs from torch by \d+/255"):
        check_engine(model.SerializeToString(), served, [(128, 128)])


# The code that runs inside Triton, with a stand-in for what Triton gives it.


@pytest.fixture(scope="module")
def backend() -> Iterator[Any]:
    """The served `model.py`, imported as Triton does."""
    triton = ModuleType("triton_python_backend_utils")
    triton.Tensor = lambda name, array: SimpleNamespace(name=name, as_numpy=lambda: array)  # type: ignore[attr-defined]
    triton.TritonError = str  # type: ignore[attr-defined]
    triton.InferenceResponse = lambda tensors, error=None: SimpleNamespace(tensors=tensors, error=error)  # type: ignore[attr-defined]
    triton.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", triton)
        path = Path(exporting.__file__).with_name("serving") / "model.py"
        spec = importlib.util.spec_from_file_location("served_model", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def model(backend: Any, export: Export, tmp_path: Path) -> Any:
    """A loaded model, in f32 so that it can be compared."""
    config = json.loads(export.files["config.json"])
    config["parameters"]["precision"]["string_value"] = "f32"
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(export.files["model.onnx"])
    model = backend.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config), "model_repository": str(tmp_path), "model_version": "1"})
    return model


def ask(model: Any, *images: Pixels) -> list[Any]:
    requests = [{"IMAGE": SimpleNamespace(as_numpy=lambda image=image: image[None])} for image in images]
    answers: list[Any] = model.execute(requests)
    return answers


def test_the_served_model_answers_several_requests_as_onnx_runtime_does(model: Any, export: Export) -> None:
    images = [known_question(side, 3, side) for side in (128, 160, 128)]
    for image, answer in zip(images, ask(model, *images), strict=True):
        assert answer.error is None
        found = answer.tensors[0].as_numpy()
        assert np.abs(found.astype(int) - run_onnx(export, image)).max() <= 1


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
