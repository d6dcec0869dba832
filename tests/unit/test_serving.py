"""The code that runs inside Triton, with a stand-in for what Triton gives it and the real engines behind it."""

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from services.trainer import export as exporting
from services.trainer.export import Export, export_model
from services.trainer.networks import Network, UNetStn
from services.trainer.serving.served_graph import ServedGraph, ServedLocaliser
from shared.imaging.probes import known_question
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored
from shared.schemas.training import NetworkIn, UNetIn, UNetPlusPlusIn, UNetStnIn
from tests.lively_networks import make_lively

ENGINES = ["openvino", "onnxruntime"]
ORDERS: dict[str, NetworkIn] = {
    "colour": UNetIn(widths=[4, 5, 6]),
    "three classes": UNetPlusPlusIn(name="unet_plus_plus", widths=[4, 5, 6], channels=1, classes=3, serve_level=1),
    "valid": UNetIn(widths=[3, 4, 5, 6], padding="valid", decoder="upsampling", batch_norm=False, channels=1),
    "warped": UNetStnIn(name="unet_stn", widths=[4, 5, 6], channels=3, overview=32),
}

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]  # each export takes some seconds


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    return {name: make_lively(order) for name, order in ORDERS.items()}


@pytest.fixture(scope="module")
def exports(networks: dict[str, Network]) -> dict[str, Export]:
    return {name: export_model(network, card={}) for name, network in networks.items()}


@pytest.fixture(scope="module")
def backend() -> Iterator[Any]:
    """The served `model.py`, imported as Triton does."""
    triton = ModuleType("triton_python_backend_utils")
    triton.Tensor = lambda name, array: SimpleNamespace(name=name, as_numpy=lambda: array)  # type: ignore[attr-defined]
    triton.TritonError = str  # type: ignore[attr-defined]
    triton.InferenceResponse = lambda tensors, error=None: SimpleNamespace(tensors=tensors, error=error)  # type: ignore[attr-defined]
    triton.get_input_tensor_by_name = lambda request, name: request.inputs.get(name)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", triton)
        path = Path(exporting.__file__).with_name("serving") / "model.py"
        spec = importlib.util.spec_from_file_location("served_model", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def load(backend: Any, export: Export, folder: Path, *, engine: str = "openvino", precision: str = "f32") -> Any:
    """A loaded model, in f32 so that it can be compared."""
    config = json.loads(export.files["config.json"])
    config["parameters"] |= {"precision": {"string_value": precision}, "engine": {"string_value": engine}}
    (folder / "1").mkdir()
    for name in export.files.keys() & {"model.onnx", "localiser.onnx", "model-int8.onnx"}:
        (folder / "1" / name).write_bytes(export.files[name])
    model = backend.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"})
    return model


@pytest.fixture
def model(backend: Any, exports: dict[str, Export], tmp_path: Path) -> Any:
    return load(backend, exports["colour"], tmp_path)


def make_request(
    images: Pixels, *, name: str = "IMAGE", outputs: tuple[str, ...] = ("PROBABILITY",), **parameters: Any
) -> Any:
    return SimpleNamespace(
        inputs={name: SimpleNamespace(as_numpy=lambda: images)},
        requested_output_names=lambda: list(outputs),
        parameters=lambda: json.dumps(parameters),
    )


def ask(model: Any, images: Pixels, **request: Any) -> NDArray[Any]:
    """The first output of a request that succeeds."""
    (response,) = model.execute([make_request(images, **request)])
    assert response.error is None
    found: NDArray[Any] = response.tensors[0].as_numpy()
    return found


def refusal_of(model: Any, images: Pixels, **request: Any) -> str:
    (response,) = model.execute([make_request(images, **request)])
    return str(response.error)


def questions_for(export: Export, *, rows: int, columns: int, number: int = 1) -> Pixels:
    """Tiles whose cores have so many grid cells, (N, H, W, tile_channels)."""
    contract = export.contract
    height, width = (2 * contract.halo + cells * contract.grid for cells in (rows, columns))
    pictures = [known_question(max(height, width), contract.tile_channels, seed) for seed in range(number)]
    return np.stack(pictures)[:, :height, :width]


def answer_in_torch(network: Network, images: Pixels) -> NDArray[np.float32]:
    """Probabilities times 255, before they are rounded."""
    with torch.inference_mode():
        found: NDArray[np.float32] = (
            ServedGraph(network.to_serve()).scaled(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        )
    return found


def answer_all_round(network: Network, images: Pixels, views: int) -> NDArray[Any]:
    """The mean of torch's answers to images that are turned by quarters and mirrored; by halves for four views."""
    answers = []
    for quarters in range(0, 4, 8 // views):
        for mirrored in (False, True):
            turned = np.rot90(images, quarters, axes=(1, 2))
            answer = answer_in_torch(network, turned[:, :, ::-1] if mirrored else turned)
            answers.append(np.rot90(answer[..., ::-1] if mirrored else answer, -quarters, axes=(2, 3)))
    mean: NDArray[Any] = np.mean(answers, axis=0)
    return mean


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ORDERS)
class TestEveryEngine:
    @pytest.fixture
    def network(self, networks: dict[str, Network], name: str) -> Network:
        return networks[name]

    @pytest.fixture
    def export(self, exports: dict[str, Export], name: str) -> Export:
        return exports[name]

    @pytest.fixture
    def model(self, backend: Any, export: Export, engine: str, tmp_path: Path) -> Any:
        return load(backend, export, tmp_path, engine=engine)

    def test_tiles_of_any_number_and_size_are_answered_as_torch_does(
        self, model: Any, network: Network, export: Export
    ) -> None:
        for rows, columns, number in ((8, 6, 1), (5, 9, 3), (8, 6, 1)):
            tiles = questions_for(export, rows=rows, columns=columns, number=number)
            found, expected = ask(model, tiles), answer_in_torch(network, tiles)
            assert found.dtype == np.uint8
            grid = export.contract.grid
            assert found.shape == (number, export.contract.planes, rows * grid, columns * grid)
            assert np.abs(found - expected).max() <= 0.51

    @pytest.mark.parametrize("views", [4, 8])
    def test_several_views_are_averaged_before_they_are_rounded(
        self, model: Any, network: Network, export: Export, views: int
    ) -> None:
        tiles = questions_for(export, rows=4, columns=7, number=2)
        expected = answer_all_round(network, tiles, views)
        assert np.abs(expected - answer_in_torch(network, tiles)).max() > 20  # it matters from where one looks
        assert np.abs(ask(model, tiles, views=views) - expected).max() <= 0.51

    def test_several_views_are_seamless(self, model: Any, export: Export) -> None:
        contract, halo = export.contract, export.contract.halo
        image = known_question(75, contract.tile_channels, 4)[:, :50]
        whole = ask(model, read_mirrored(image, Box(0, 0, 80, 56).grow(halo))[None], views=8)[0]
        for tile in plan_tiles(Box(0, 0, 75, 50), core=32, halo=halo):
            answer = ask(model, read_mirrored(image, tile.read)[None], views=8)[0]
            owned = answer[:, : tile.write.height, : tile.write.width].astype(int)
            assert np.abs(owned - whole[:, *tile.write.slices()]).max() <= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_the_served_localiser_finds_torchs_transform(
    backend: Any, exports: dict[str, Export], networks: dict[str, Network], tmp_path: Path, engine: str
) -> None:
    overview, network = known_question(32, 3, 1)[None], networks["warped"]
    assert isinstance(network, UNetStn)
    model = load(backend, exports["warped"], tmp_path, engine=engine)
    with torch.inference_mode():
        expected = ServedLocaliser(network)(torch.from_numpy(overview)).numpy()
    assert np.abs(expected - np.eye(3)).max() > 0.01
    found = ask(model, overview, name="OVERVIEW", outputs=("THETA",))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_an_overview_for_a_model_without_a_localiser_is_an_error(model: Any) -> None:
    refusal = refusal_of(model, known_question(32, 3, 1)[None], name="OVERVIEW", outputs=("THETA",))
    assert refusal == "ValueError: a request needs an IMAGE, or an OVERVIEW if the model has a localiser"


def test_a_request_that_fails_takes_no_other_with_it(model: Any) -> None:
    good = known_question(128, 3, 0)[None]
    requests = [make_request(images) for images in (good, good[:, :127], good[:, :48, :48], good)]
    first, off_grid, all_halo, last = model.execute(requests)
    assert first.error is last.error is None
    assert off_grid.error.startswith("RuntimeError")
    assert all_halo.error == "ValueError: a tile of 48 × 48 px is all halo: read more around the core"


@pytest.mark.parametrize("views", [0, 2, "all"])
def test_any_other_number_of_views_is_an_error(model: Any, views: Any) -> None:
    refusal = refusal_of(model, known_question(128, 3, 0)[None], views=views)
    assert refusal == f"ValueError: parameter views must be 1, 4 or 8, got {views!r}"


def test_nothing_is_rounded_before_the_mean(backend: Any) -> None:
    """Of 0.6, 0.6, 0.6 and 0, which would be 1, 1, 1 and 0."""
    engine = SimpleNamespace(compile=lambda shape, rounded: lambda images: 0.6 * images[:, None, :1, :1, 0])
    corners = np.array([[1, 1], [1, 0]], np.uint8)[None, :, :, None]
    assert not backend.Predictor(engine).predict(corners, views=4).any()


# What is kept.


def sides_kept(model: Any) -> list[int]:
    return [shape[1] for _, shape in model._tiles._programs]


def test_only_so_many_shapes_are_kept(model: Any, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_SHAPES_KEPT", 3)
    for side in (64, 68, 72, 64, 76):
        ask(model, known_question(side, 3, 0)[None])
    assert sides_kept(model) == [72, 64, 76]  # the one that was not asked for the longest had to go


def test_only_so_many_pixels_are_kept_and_a_larger_tile_is_answered_all_the_same(
    model: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_PIXELS_KEPT", 3 * 64 * 64)
    ask(model, np.concatenate([known_question(64, 3, seed)[None] for seed in (0, 1)]))
    ask(model, known_question(64, 3, 0)[None])
    assert sides_kept(model) == [64, 64]
    ask(model, known_question(68, 3, 0)[None])
    assert sides_kept(model) == [64, 68]
    ask(model, known_question(128, 3, 0)[None])
    assert sides_kept(model) == [128]


def test_a_slides_tiles_and_bundles_stay_compiled_side_by_side(backend: Any) -> None:
    compiled: list[tuple[int, ...]] = []

    def compile_for(shape: tuple[int, ...], rounded: bool) -> Any:
        compiled.append(shape)
        return lambda images: images[:, :1, :1]

    predictor = backend.Predictor(SimpleNamespace(compile=compile_for))
    tile, bundle = np.zeros((1, 2240, 2240, 1), np.uint8), np.zeros((20, 320, 320, 1), np.uint8)
    for images in (tile, bundle, tile, bundle):
        predictor.predict(images)
    assert compiled == [tile.shape, bundle.shape]


# What computes.


@pytest.mark.parametrize(
    ("engine", "version"),
    [("openvino", "openvino"), ("onnxruntime", "onnxruntime")],
)
def test_whoever_asks_is_told_what_computes(
    backend: Any, exports: dict[str, Export], tmp_path: Path, engine: str, version: str
) -> None:
    model = load(backend, exports["colour"], tmp_path, engine=engine)
    (text,) = ask(model, known_question(64, 3, 0)[None], outputs=("ENGINE",))
    said = json.loads(text)
    assert (said["engine"], said["precision"], said["device"]) == (engine, "f32", "CPU")
    assert importlib.metadata.version(version).startswith(said["version"])
    assert sides_kept(model) == []  # it took no computing


def test_nobody_else_is_told(model: Any) -> None:
    (response,) = model.execute([make_request(known_question(64, 3, 0)[None])])
    assert [tensor.name for tensor in response.tensors] == ["PROBABILITY"]


def test_half_precision_for_graphics_cards_changes_the_answer_little(
    backend: Any, exports: dict[str, Export], tmp_path: Path
) -> None:
    """The processor computes what it can in f16; a card's own arithmetic is not tried."""
    model = load(backend, exports["colour"], tmp_path, engine="onnxruntime")
    tiles = questions_for(exports["colour"], rows=5, columns=9, number=2)
    single, turned = ask(model, tiles).astype(int), ask(model, tiles, views=4).astype(int)
    model._tiles.engine._precision = "f16"
    model._tiles._programs.clear()
    assert 0 < np.abs(ask(model, tiles) - single).max() <= 4
    assert np.abs(ask(model, tiles, views=4) - turned).max() <= 4


@pytest.mark.parametrize(
    ("card", "providers", "installed", "expected"),
    [
        (False, ["CPU"], {"openvino", "onnxruntime"}, "openvino"),
        (True, ["CPU"], {"openvino", "onnxruntime"}, "openvino"),
        (False, ["CUDA", "CPU"], {"openvino", "onnxruntime"}, "openvino"),
        (True, ["CUDA", "CPU"], {"openvino", "onnxruntime"}, "onnxruntime"),
        (True, ["CUDA", "CPU"], {"openvino"}, "openvino"),
        (False, ["CPU"], {"onnxruntime"}, "onnxruntime"),
    ],
)
def test_the_engine_is_the_fastest_of_those_that_are_there(
    backend: Any,
    monkeypatch: pytest.MonkeyPatch,
    card: bool,
    providers: list[str],
    installed: set[str],
    expected: str,
) -> None:
    monkeypatch.setattr(backend, "has_card", lambda: card)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    names = [f"{provider}ExecutionProvider" for provider in providers]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    assert backend.choose_engine() == expected


def test_a_localiser_never_meets_tensorrts_half_precision(backend: Any) -> None:
    fast = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    names = [[name for name, _ in backend.list_providers(fast, half=half)] for half in (True, False)]
    assert names == [[*fast, "CPUExecutionProvider"], [fast[1], "CPUExecutionProvider"]]


def test_an_engine_or_a_precision_that_there_is_not_is_refused_at_once(
    backend: Any, exports: dict[str, Export], tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(exports["colour"].files["model.onnx"])
    start = partial(backend.open_engine, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="engine must be auto, openvino or onnxruntime, got 'torch'"):
        start({"engine": "torch"})
    with pytest.raises(ValueError, match="precision must be auto, bf16, f32 or int8, got 'fp16'"):
        start({"engine": "openvino", "precision": "fp16"})
    with pytest.raises(ValueError, match="f32, or in f16 on a graphics card: not in 'bf16'; say auto"):
        start({"engine": "onnxruntime", "precision": "bf16"})


def test_the_precision_is_the_fastest_that_the_processor_has_unless_said(backend: Any) -> None:
    assert backend.choose_precision("auto") in ("bf16", "f32")
    assert backend.choose_precision("f32") == "f32"
