"""Serves an exported network with OpenVINO, as a model of Triton's Python backend.

Runs inside the model server, in an environment that holds numpy and openvino and nothing of this repository. The graph
`model.onnx` beside this file takes uint8 (1, H, W, C) and answers uint8 (1, planes, H − 2 halo, W − 2 halo). Where
there is a `localiser.onnx`, a request may ask it instead: an overview, uint8 (1, S, S, C), gives float32 (1, 3, 3).

Parameters of the model's configuration: `precision` (`auto`, `bf16` or `f32`) and `threads` (0: every core the process
may use).
"""

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

_SHAPES_KEPT = 4  # compiled at a time; a job uses one or two tile sizes


class TritonPythonModel:
    """One instance of the model. Triton calls `initialize` once and `execute` from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the graph; tiles are compiled when their shape is first seen."""
        settings = json.loads(args["model_config"]).get("parameters", {})
        parameters = {name: value["string_value"] for name, value in settings.items()}
        folder, threads = _find_folder(args), int(parameters.get("threads", "0"))
        self._tiles = TileEngine(folder / "model.onnx", precision=parameters.get("precision", "auto"), threads=threads)
        self._localiser: TileEngine | None = None
        if (folder / "localiser.onnx").exists():
            # In bf16 the transform would be off by pixels.
            self._localiser = TileEngine(folder / "localiser.onnx", precision="f32", threads=threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own: one that fails takes no other with it."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            return pb_utils.InferenceResponse([self._compute(request)])
        except Exception as error:  # anything that escaped would end the process, which Triton never restarts
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"{type(error).__name__}: {error}"))

    def _compute(self, request: Any) -> Any:
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE")
        if image is not None:
            return pb_utils.Tensor("PROBABILITY", self._tiles.predict(image.as_numpy()))
        overview = pb_utils.get_input_tensor_by_name(request, "OVERVIEW")
        if overview is None or self._localiser is None:
            raise ValueError("a request needs an IMAGE, or an OVERVIEW if the model has a localiser")
        return pb_utils.Tensor("THETA", self._localiser.predict(overview.as_numpy()))


class TileEngine:
    """The network, compiled for each shape of tile it meets; the least recently used shapes are forgotten.

    Not safe for threads: one request at a time, each using all the threads.
    """

    def __init__(self, graph: Path, *, precision: str = "auto", threads: int = 0) -> None:
        self._core = ov.Core()
        self._model = self._core.read_model(graph)
        self._compiled: OrderedDict[tuple[int, ...], ov.InferRequest] = OrderedDict()
        self._options = {
            "INFERENCE_PRECISION_HINT": choose_precision(precision),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
        }

    def predict(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """The graph's answer to an image (1, H, W, C): probabilities (1, planes, H − 2 halo, W − 2 halo) of a tile.

        Raises:
            ValueError: the halo leaves nothing of the image.
        """
        request = self._request_for(image.shape)
        request.infer({0: image}, share_inputs=True)
        answer: NDArray[Any] = request.get_output_tensor(0).data.copy()  # the next tile overwrites it
        if answer.size == 0:
            raise ValueError(f"a tile of {image.shape[1]} × {image.shape[2]} px is all halo: read more around the core")
        return answer

    def _request_for(self, shape: tuple[int, ...]) -> ov.InferRequest:
        """A static shape runs faster than a dynamic one, and its memory is planned once."""
        if shape not in self._compiled:
            while len(self._compiled) >= _SHAPES_KEPT:
                self._compiled.popitem(last=False)
            model = self._model.clone()  # shares the weights
            model.reshape(shape)
            self._compiled[shape] = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        self._compiled.move_to_end(shape)
        return self._compiled[shape]


def choose_precision(wanted: str) -> str:
    """OpenVINO's name of the arithmetic: `auto` is bf16 where the processor computes in it, f32 elsewhere."""
    if wanted not in ("auto", "bf16", "f32"):
        raise ValueError(f"parameter precision must be auto, bf16 or f32, got {wanted!r}")
    if wanted != "auto":
        return wanted
    flags = Path("/proc/cpuinfo").read_text().split()
    return "bf16" if {"amx_bf16", "avx512_bf16"} & set(flags) else "f32"


def _find_folder(args: dict[str, str]) -> Path:
    """The version's folder, from a model repository or from files sent with the load call alike."""
    return Path(args["model_repository"]) / args["model_version"]
