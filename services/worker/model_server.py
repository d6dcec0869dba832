"""The port to the model server (Triton over gRPC), and the care it needs.

Models are handed to Triton as bytes with the load request, so that no folder is shared with it. What is known of its
Python backend and dealt with here: a stub that died is never restarted, while readiness stays true; a load with an
unchanged configuration changes nothing; a broken engine may answer with nonsense instead of an error.
"""

import json
import logging
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from shared.errors import Unavailable
from shared.imaging.tiling import Pixels
from shared.imaging.warping import Transform

log = logging.getLogger(__name__)

TILE, PROBABILITY = "IMAGE", "PROBABILITY"  # what a model is asked for each tile
OVERVIEW, THETA = "OVERVIEW", "THETA"  # what one with a localiser is asked for each image
DEAD_STUB = "Stub process"


class ModelServer(Protocol):
    """What the worker needs of a model server."""

    def is_loaded(self, name: str) -> bool:
        """Whether the server says it can answer for `name`."""

    def load(self, name: str, files: Mapping[str, bytes]) -> None:
        """(Re)load the model from its files; returns when it can answer. Raises Unavailable."""

    def infer(self, name: str, tile: Pixels) -> Pixels:
        """(H, W, C) → (planes, core, core). Raises NotLoaded or Unavailable."""

    def localise(self, name: str, overview: Pixels) -> Transform:
        """(side, side, C) → (3, 3), from a model with a localiser. Raises NotLoaded or Unavailable."""


class NotLoaded(Unavailable):
    """The server does not hold the model, or its engine is dead: load it, then ask again."""


class TritonServer:
    """One gRPC channel, shared by all threads."""

    def __init__(self, url: str, *, predict_seconds: float, load_seconds: float) -> None:
        self._url = url
        self._predict_seconds = predict_seconds
        self._load_seconds = load_seconds
        self._client = triton.InferenceServerClient(url)
        self._loading = threading.Lock()

    def is_loaded(self, name: str) -> bool:
        """Whether Triton says so. A dead stub still counts as ready: `infer` finds out."""
        try:
            return bool(self._client.is_model_ready(name, client_timeout=10))
        except InferenceServerException as error:
            raise self._translate(name, error) from error

    def load(self, name: str, files: Mapping[str, bytes]) -> None:
        """Hand the files over. `config.json` is the model's configuration, the rest goes to version 1's folder."""
        config: dict[str, Any] = json.loads(files["config.json"])
        config["name"] = name
        # Triton ignores a load whose configuration is the one it has: a token makes every load a real one.
        config.setdefault("parameters", {})["load_token"] = {"string_value": uuid.uuid4().hex}
        content = {f"file:1/{file}": body for file, body in files.items() if file != "config.json"}
        with self._loading:
            try:
                self._client.load_model(
                    name, config=json.dumps(config), files=content, client_timeout=self._load_seconds
                )
            except InferenceServerException as error:
                raise Unavailable(f"Triton at {self._url} could not load model {name}: {error}") from error

    def infer(self, name: str, tile: Pixels) -> Pixels:
        """One tile, uint8 (H, W, C) → uint8 probabilities of its core (planes, core, core)."""
        probability = self._ask(name, TILE, tile, PROBABILITY)
        if probability is None or probability.ndim != 4 or probability.dtype != np.uint8:
            raise Unavailable(f"Triton at {self._url} answered for model {name} without probabilities")
        return np.asarray(probability[0])

    def localise(self, name: str, overview: Pixels) -> Transform:
        """The transform, float32 (3, 3), that the model finds for an overview, uint8 (side, side, C)."""
        theta = self._ask(name, OVERVIEW, overview, THETA)
        if theta is None or theta.shape != (1, 3, 3) or theta.dtype != np.float32:
            raise Unavailable(f"Triton at {self._url} answered for model {name} without a transform")
        return np.asarray(theta[0])

    def close(self) -> None:
        """Give the channel back."""
        self._client.close()

    def _ask(self, name: str, given: str, pixels: Pixels, wanted: str) -> NDArray[Any] | None:
        """The output `wanted` for an input of one picture (H, W, C)."""
        tensor = triton.InferInput(given, [1, *pixels.shape], "UINT8")
        tensor.set_data_from_numpy(pixels[None])
        try:
            answer = self._client.infer(
                name,
                [tensor],
                outputs=[triton.InferRequestedOutput(wanted)],
                client_timeout=self._predict_seconds,
            )
        except InferenceServerException as error:
            raise self._translate(name, error) from error
        found: NDArray[Any] | None = answer.as_numpy(wanted)
        return found

    def _translate(self, name: str, error: InferenceServerException) -> Unavailable:
        text = f"Triton at {self._url}, model {name}: {error.message()}"
        if error.status() == "StatusCode.NOT_FOUND" or DEAD_STUB in str(error.message()):
            return NotLoaded(text)
        return Unavailable(text)
