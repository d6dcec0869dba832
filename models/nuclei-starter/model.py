"""Serves an exported network, as a model of Triton's Python backend.

Runs inside the model server, in an environment that holds numpy, an engine and nothing of this repository: `openvino`
for processors, or `onnxruntime-gpu` with `onnx` where there is a graphics card. The graph `model.onnx` beside this file
takes tiles, uint8 (N, H, W, C), and answers uint8 (N, planes, H − 2 halo, W − 2 halo), as does any `model-int8.onnx`.
Where there is a `localiser.onnx`, a request may ask it instead: an overview, uint8 (1, S, S, C), gives float32
(1, 3, 3).

Of a request: parameter `views` (1, 4 or 8) averages the probabilities over that many flips and transpositions of the
tiles. Output ENGINE, if asked for, says in JSON what computes.

Of the model's configuration: `engine` (`auto`, `openvino` or `onnxruntime`), `precision` (`auto`, `bf16`, `f32`, or
`int8`: as `auto`, with `model-int8.onnx` where that is fast) and `threads` (0: every core the process may use).
"""

import importlib
import importlib.util
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # (N, H, W, C)
Program = Callable[[Images], NDArray[Any]]  # answers to images of one shape; the answer is the caller's

QUANTISED = "model-int8.onnx"

# Px of all the shapes that stay compiled: a tile of 2240 px (5.0 million) and a bundle of small ones (up to 2.1
# million), so that jobs of both kinds may take turns. A UNet of 31 million weights needs 700 bytes for each.
_PIXELS_KEPT = 8_000_000
_SHAPES_KEPT = 12  # each holds the weights once more, as its engine wants them laid out

FOR_CARDS = {  # ONNX Runtime's providers that use a graphics card, the fastest first
    "TensorrtExecutionProvider": {"trt_fp16_enable": "1", "trt_cuda_graph_enable": "1"},
    "CUDAExecutionProvider": {"enable_cuda_graph": "1", "prefer_nhwc": "1", "use_tf32": "0"},
}


class TritonPythonModel:
    """One instance of the model. Triton calls `initialize` once and `execute` from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the graph; tiles are compiled when their shape is first seen."""
        settings = json.loads(args["model_config"]).get("parameters", {})
        parameters = {name: value["string_value"] for name, value in settings.items()}
        folder = _find_folder(args)
        self._tiles = Predictor(open_engine(folder / "model.onnx", parameters))
        self._localiser: Predictor | None = None
        if (folder / "localiser.onnx").exists():
            # In half precision the transform would be off by pixels.
            self._localiser = Predictor(open_engine(folder / "localiser.onnx", {**parameters, "precision": "f32"}))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own: one that fails takes no other with it."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            return pb_utils.InferenceResponse(self._compute(request, set(request.requested_output_names())))
        except Exception as error:  # anything that escaped would end the process, which Triton never restarts
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"{type(error).__name__}: {error}"))

    def _compute(self, request: Any, wanted: set[str]) -> list[Any]:
        tensors = []
        image, overview = (pb_utils.get_input_tensor_by_name(request, name) for name in ("IMAGE", "OVERVIEW"))
        if image is not None and "PROBABILITY" in wanted:
            views = read_views(request.parameters())
            tensors.append(pb_utils.Tensor("PROBABILITY", self._tiles.predict(image.as_numpy(), views=views)))
        if image is None and overview is not None and self._localiser is not None:
            tensors.append(pb_utils.Tensor("THETA", self._localiser.predict(overview.as_numpy())))
        if not tensors and image is None:
            raise ValueError("a request needs an IMAGE, or an OVERVIEW if the model has a localiser")
        if "ENGINE" in wanted:
            facts = json.dumps(self._tiles.engine.facts).encode()
            tensors.append(pb_utils.Tensor("ENGINE", np.array([facts], dtype=np.object_)))
        return tensors


class Predictor:
    """A graph, compiled for each shape of tiles it meets; the least recently used shapes are forgotten.

    Not safe for threads: one request at a time, each using all the threads.
    """

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._programs: OrderedDict[tuple[bool, tuple[int, ...]], Program] = OrderedDict()

    def predict(self, images: Images, *, views: int = 1) -> NDArray[Any]:
        """The graph's answer to images (N, H, W, C): probabilities (N, planes, H − 2 halo, W − 2 halo) of tiles.

        With several views, the mean of the probabilities that each of them gets, rounded only then. Sides are
        multiples of the network's grid, so that a tile turned round is as exact as it was.

        Raises:
            ValueError: the halo leaves nothing of the images.
        """
        if views == 1:
            return self._run(images, rounded=True)
        total: NDArray[np.float32] | None = None
        for transposed, vertical, horizontal in list_views(views):
            turned = images.swapaxes(1, 2) if transposed else images
            answer = self._run(np.ascontiguousarray(turned[:, ::vertical, ::horizontal]), rounded=False)
            upright = answer[:, :, ::vertical, ::horizontal].astype(np.float32, copy=False)
            upright = upright.swapaxes(2, 3) if transposed else upright
            total = upright if total is None else total + upright
        return np.rint(total / views).astype(np.uint8)

    def _run(self, images: Images, *, rounded: bool) -> NDArray[Any]:
        answer = self._program_for(images.shape, rounded=rounded)(images)
        if answer.size == 0:
            raise ValueError(
                f"a tile of {images.shape[1]} × {images.shape[2]} px is all halo: read more around the core"
            )
        return answer

    def _program_for(self, shape: tuple[int, ...], *, rounded: bool) -> Program:
        """A static shape runs faster than a dynamic one, and its memory is planned once."""
        key = (rounded, shape)
        if key not in self._programs:
            self._make_room(_count_pixels(shape))
            self._programs[key] = self.engine.compile(shape, rounded=rounded)
        self._programs.move_to_end(key)
        return self._programs[key]

    def _make_room(self, pixels: int) -> None:
        """Before the new shape is compiled, so that the memory of the old is free by then."""
        kept = sum(_count_pixels(shape) for _, shape in self._programs)
        while self._programs and (kept + pixels > _PIXELS_KEPT or len(self._programs) >= _SHAPES_KEPT):
            (_, forgotten), _program = self._programs.popitem(last=False)
            kept -= _count_pixels(forgotten)


class Engine(Protocol):
    """What computes an exported graph of one input and one output."""

    facts: dict[str, str]  # engine, version, precision, device

    def compile(self, shape: tuple[int, ...], *, rounded: bool) -> Program:
        """The graph for inputs of this shape. Not `rounded`: what is rounded to bytes at its end, before that."""
        ...


class OpenVino:
    """The graph in OpenVINO, on the processor."""

    def __init__(self, graph: Path, *, precision: str, threads: int) -> None:
        self._openvino: Any = importlib.import_module("openvino")  # not in every environment
        self._core = self._openvino.Core()
        self._model = self._core.read_model(graph)
        self._options = {
            "INFERENCE_PRECISION_HINT": choose_precision(precision),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.facts = {
            "engine": "openvino",
            "version": self._openvino.__version__.split("-")[0],
            "precision": "int8" if graph.name == QUANTISED else self._options["INFERENCE_PRECISION_HINT"],
            "device": "CPU",
        }

    def compile(self, shape: tuple[int, ...], *, rounded: bool) -> Program:
        model = self._model.clone()  # shares the weights
        if not rounded:
            model = self._openvino.Model([self._find_unrounded(model)], model.get_parameters())
        model.reshape(shape)
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()

        def run(images: Images) -> NDArray[Any]:
            request.infer({0: images}, share_inputs=True)
            answer: NDArray[Any] = request.get_output_tensor(0).data.copy()  # the next images overwrite it
            return answer

        return run

    def _find_unrounded(self, model: Any) -> Any:
        value = model.get_results()[0].input_value(0)
        while value.get_node().get_type_name() in ("Convert", "Round"):
            value = value.get_node().input_value(0)
        return value


class OnnxRuntime:
    """The graph in ONNX Runtime: on a graphics card in half precision if there is one, else on the processor.

    On a card TensorRT goes first, then CUDA, whose kernels are recorded once and played back. This was only ever run on
    a processor; what is left of it for a card are the providers' options.
    """

    def __init__(self, graph: Path, *, precision: str, threads: int) -> None:
        self._runtime: Any = importlib.import_module("onnxruntime")  # not in every environment
        self._onnx: Any = importlib.import_module("onnx")
        fast = _find_fast(self._runtime) if has_card() else []
        self._device = "cuda" if fast else "cpu"
        self._precision = self._choose_precision(precision)
        self._providers = list_providers(fast, half=self._precision == "f16")
        self._threads = threads
        self._model = self._onnx.load(graph)
        self.facts = {
            "engine": "onnxruntime",
            "version": self._runtime.__version__,
            "precision": self._precision,
            "device": self._providers[0][0].removesuffix("ExecutionProvider").upper(),
        }

    def compile(self, shape: tuple[int, ...], *, rounded: bool) -> Program:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        graph = self._write(shape, rounded=rounded)
        session = self._runtime.InferenceSession(graph, options, providers=self._providers)
        # Recorded kernels read and write where they did: input and output keep their places on the device.
        place, answer = self._runtime.OrtValue, _describe(session.get_outputs()[0])
        given = place.ortvalue_from_numpy(np.zeros(shape, np.uint8), self._device, 0)
        made = place.ortvalue_from_shape_and_type(*answer, self._device, 0)
        binding = session.io_binding()
        binding.bind_ortvalue_input(session.get_inputs()[0].name, given)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, made)

        def run(images: Images) -> NDArray[Any]:
            given.update_inplace(np.ascontiguousarray(images))
            session.run_with_iobinding(binding)
            return np.array(made.numpy())

        return run

    def _write(self, shape: tuple[int, ...], *, rounded: bool) -> bytes:
        """The graph as this device is to compute it."""
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        for dimension, size in zip(graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
        if not rounded:
            name, element = self._find_unrounded(graph)
            del graph.output[:]
            graph.output.append(self._onnx.helper.make_tensor_value_info(name, element, None))
        graph.output[0].type.tensor_type.ClearField("shape")  # follows from the input's
        del graph.value_info[:]
        if self._precision == "f16":
            convert = importlib.import_module("onnxruntime.transformers.float16").convert_float_to_float16
            model = convert(model, keep_io_types=True)
        written: bytes = model.SerializeToString()
        return written

    def _find_unrounded(self, graph: Any) -> tuple[str, int]:
        made_by = {name: node for node in graph.node for name in node.output}
        name, element = graph.output[0].name, graph.output[0].type.tensor_type.elem_type
        while name in made_by and made_by[name].op_type in ("Cast", "Round"):
            name, element = made_by[name].input[0], self._onnx.TensorProto.FLOAT
        return name, element

    def _choose_precision(self, wanted: str) -> str:
        if wanted not in ("auto", "f32"):
            raise ValueError(f"ONNX Runtime computes in f32, or in f16 on a graphics card: not in {wanted!r}; say auto")
        return "f16" if wanted == "auto" and self._device == "cuda" else "f32"


def open_engine(graph: Path, parameters: dict[str, str]) -> Engine:
    """The engine that the model's configuration asks for, by default the fastest that is there."""
    wanted = parameters.get("engine", "auto")
    precision = parameters.get("precision", "auto")
    threads = int(parameters.get("threads", "0")) or len(os.sched_getaffinity(0))
    if wanted == "auto":
        wanted = choose_engine()
    if precision == "int8":
        precision = "auto"  # of what is not in int8
        graph = graph.with_name(QUANTISED) if wanted == "openvino" and has_one_of("amx_int8", "avx512_vnni") else graph
    if wanted == "openvino":
        return OpenVino(graph, precision=precision, threads=threads)
    if wanted == "onnxruntime":
        return OnnxRuntime(graph, precision=precision, threads=threads)
    raise ValueError(f"parameter engine must be auto, openvino or onnxruntime, got {wanted!r}")


def choose_engine() -> str:
    """ONNX Runtime where it can use a graphics card, else OpenVINO if it is installed."""
    has_runtime, has_openvino = (importlib.util.find_spec(name) is not None for name in ("onnxruntime", "openvino"))
    if has_runtime and has_card() and _find_fast(importlib.import_module("onnxruntime")):
        return "onnxruntime"
    return "openvino" if has_openvino or not has_runtime else "onnxruntime"


def has_card() -> bool:
    """Whether a graphics card of NVIDIA's is there."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def list_providers(fast: list[str], *, half: bool) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers with their options; the processor takes what none of the fast ones can.

    TensorRT is left out unless it may compute in half precision: the transform of a localiser needs every bit.
    """
    chosen = [name for name in fast if half or name != "TensorrtExecutionProvider"]
    return [*((name, FOR_CARDS[name]) for name in chosen), ("CPUExecutionProvider", {})]


def choose_precision(wanted: str) -> str:
    """OpenVINO's name of the arithmetic: `auto` is bf16 where the processor computes in it, f32 elsewhere."""
    if wanted in ("bf16", "f32"):
        return wanted
    if wanted != "auto":
        raise ValueError(f"parameter precision must be auto, bf16, f32 or int8, got {wanted!r}")
    return "bf16" if has_one_of("amx_bf16", "avx512_bf16") else "f32"


def has_one_of(*features: str) -> bool:
    """Whether the processor has one of these, as Linux calls them."""
    return not set(features).isdisjoint(Path("/proc/cpuinfo").read_text().split())


def read_views(parameters: str) -> int:
    """How many views of each tile a request asks for; `parameters` is the JSON that Triton makes of the request's."""
    views = json.loads(parameters or "{}").get("views", 1)
    if views not in (1, 4, 8):
        raise ValueError(f"parameter views must be 1, 4 or 8, got {views!r}")
    return int(views)


def list_views(views: int) -> list[tuple[bool, int, int]]:
    """Ways to look at a tile: whether it is transposed, then the step (1 or −1) through its rows and its columns."""
    return list(product([False, True][: views // 4], [1, -1], [1, -1]))


def _find_fast(runtime: Any) -> list[str]:
    """The providers for graphics cards that this ONNX Runtime was built with, the fastest first."""
    available = runtime.get_available_providers()
    return [name for name in FOR_CARDS if name in available]


def _count_pixels(shape: tuple[int, ...]) -> int:
    number, height, width, _ = shape
    return number * height * width


def _describe(output: Any) -> tuple[list[int], type[np.generic]]:
    """Shape and element type of an output of a session."""
    return output.shape, {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[output.type]


def _find_folder(args: dict[str, str]) -> Path:
    """The version's folder, from a model repository or from files sent with the load call alike."""
    return Path(args["model_repository"]) / args["model_version"]
