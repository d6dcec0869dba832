"""The port to the model server (Triton over gRPC), and the care it needs.

Models are handed to Triton as bytes with the load request, so that no folder is shared with it. What is known of its
Python backend and dealt with here: a stub that died is never restarted, while readiness stays true (a call that is in
flight then fails within seconds); a load with an unchanged configuration changes nothing; a broken engine may answer
with nonsense instead of an error.
"""

import json
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from services.worker.connection import SECONDS_FOR_LITTLE, Away, Connection, Refused, RegionLost
from services.worker.shared_memory import Region
from services.worker.slots import Place, RegionRefused, Shape, Slot, Slots
from shared.errors import Unavailable
from shared.imaging.tiling import Pixels
from shared.imaging.warping import Transform

TILE, PROBABILITY = "IMAGE", "PROBABILITY"  # what a model is asked for each tile
OVERVIEW, THETA = "OVERVIEW", "THETA"  # what one with a localiser is asked for each image
ENGINE = "ENGINE"  # what computes


class ModelServer(Protocol):
    """What the worker needs of a model server. Everything but slots may raise Unavailable."""

    def is_loaded(self, name: str) -> bool:
        """Whether the server says it can answer for `name`."""

    def load(self, name: str, files: Mapping[str, bytes]) -> None:
        """(Re)load the model from its files; returns when it can answer."""

    def infer(self, name: str, tiles: Pixels, *, views: int = 1) -> Pixels:
        """(N, H, W, C) → (N, planes, h, w), the mean over so many views of each tile. Raises NotLoaded."""

    def infer_slot(self, name: str, slot: Slot, *, views: int = 1) -> Pixels:
        """As `infer`, for the tiles of a slot. The answer is the caller's to keep."""

    def lend_slot(self, tiles: Shape, answer: Shape) -> Slot:
        """Room for a request's tiles (N, H, W, C) and its answer (N, planes, h, w); must be given back."""

    def take_back(self, slot: Slot) -> None:
        """The slot is not needed any more, whatever became of its request."""

    def unload(self, name: str) -> None:
        """Have the server let go of the model and its memory, perhaps only in a while; it may be unknown."""

    def localise(self, name: str, overview: Pixels) -> Transform:
        """(side, side, C) → (3, 3), from a model with a localiser. Raises NotLoaded."""

    def describe_engine(self, name: str, tiles: Pixels) -> dict[str, str]:
        """What computes the answer to tiles of that shape; empty if the model cannot say. Raises NotLoaded."""

    def close(self) -> None:
        """Let go of the server."""


class TritonServer:
    """One gRPC channel, shared by all threads; tiles go through shared memory where Triton runs on the same host.

    Args:
        url: host:port of Triton's gRPC endpoint.
        predict_seconds: how long a request for tiles may take.
        load_seconds: how long loading a model may take.
        retry_seconds: how long a server that is away is asked again.
        shared_memory: whether to try shared memory; one refusal is enough, until a model is loaded again.
    """

    def __init__(
        self,
        url: str,
        *,
        predict_seconds: float,
        load_seconds: float,
        retry_seconds: float = 10.0,
        shared_memory: bool = True,
    ) -> None:
        self._predict_seconds = predict_seconds
        self._load_seconds = load_seconds
        self._connection = Connection(url, patience=retry_seconds)
        self._slots = Slots(_Regions(self._connection), shared=shared_memory)
        self._loading = threading.Lock()

    def is_loaded(self, name: str) -> bool:
        """Whether Triton says so. A dead stub still counts as ready: `infer` finds out."""
        return self._connection.ask(
            f"model {name}", lambda client: bool(client.is_model_ready(name, client_timeout=SECONDS_FOR_LITTLE))
        )

    def load(self, name: str, files: Mapping[str, bytes]) -> None:
        """Hand the files over. `config.json` is the model's configuration, the rest goes to version 1's folder."""
        config: dict[str, Any] = json.loads(files["config.json"])
        config["name"] = name
        # Triton ignores a load whose configuration is the one it has: a token makes every load a real one.
        config.setdefault("parameters", {})["load_token"] = {"string_value": uuid.uuid4().hex}
        content = {f"file:1/{file}": body for file, body in files.items() if file != "config.json"}
        with self._loading:
            self._connection.ask(
                f"loading model {name}",
                lambda client: client.load_model(
                    name, config=json.dumps(config), files=content, client_timeout=self._load_seconds
                ),
            )
        self._slots.try_again()  # a server that had to be given the model may have been started anew

    def unload(self, name: str) -> None:
        """Triton lets go once the requests in flight are answered; who asks for the model then finds it NotLoaded."""
        with self._loading:
            self._connection.ask_once(
                f"unloading model {name}",
                lambda client: client.unload_model(name, client_timeout=SECONDS_FOR_LITTLE),
            )

    def infer(self, name: str, tiles: Pixels, *, views: int = 1) -> Pixels:
        """Tiles, uint8 (N, H, W, C) → uint8 probabilities of their cores (N, planes, h, w), perhaps read-only."""
        answer = self._ask(name, (TILE, tiles), PROBABILITY, views=views)
        return self._check_probability(name, answer.as_numpy(PROBABILITY), tiles)

    def infer_slot(self, name: str, slot: Slot, *, views: int = 1) -> Pixels:
        """The tiles of a slot, through shared memory if they lie there; over the wire if that is what failed."""
        if slot.place is not None:
            try:
                return self._infer_in_place(name, slot.tiles, slot.place, views)
            except (Away, RegionLost):
                self._slots.distrust(slot)
            except Unavailable:
                self._slots.distrust(slot)
                raise
        return self.infer(name, slot.tiles, views=views)

    def lend_slot(self, tiles: Shape, answer: Shape) -> Slot:
        """In shared memory if Triton can map it, otherwise an ordinary array."""
        return self._slots.take(tiles, answer)

    def take_back(self, slot: Slot) -> None:
        """For the next one who needs room."""
        self._slots.give_back(slot)

    def localise(self, name: str, overview: Pixels) -> Transform:
        """The transform, float32 (3, 3), that the model finds for an overview, uint8 (side, side, C)."""
        theta = self._ask(name, (OVERVIEW, overview[None]), THETA).as_numpy(THETA)
        if theta is None or theta.shape != (1, 3, 3) or theta.dtype != np.float32:
            raise Unavailable(f"Triton at {self._connection.url} answered for model {name} without a transform")
        return np.asarray(theta[0])

    def describe_engine(self, name: str, tiles: Pixels) -> dict[str, str]:
        """What the model says of its engine; models that were exported before they could say are silent."""
        about = self._connection.ask(
            f"model {name}", lambda client: client.get_model_metadata(name, client_timeout=SECONDS_FOR_LITTLE)
        )
        if ENGINE not in {output.name for output in about.outputs}:
            return {}
        (engine,) = self._ask(name, (TILE, tiles), ENGINE).as_numpy(ENGINE)
        facts: dict[str, str] = json.loads(engine)
        return facts

    def close(self) -> None:
        """Give regions and channel back."""
        self._slots.close()
        self._connection.close()

    def _ask(self, name: str, given: tuple[str, Pixels], wanted: str, *, views: int = 1) -> Any:
        """The response to one input, named and given as an array."""
        tensor = triton.InferInput(given[0], list(given[1].shape), "UINT8")
        tensor.set_data_from_numpy(given[1])
        call = self._call(name, tensor, triton.InferRequestedOutput(wanted), views)
        return self._connection.ask(f"model {name}", call)

    def _infer_in_place(self, name: str, tiles: Pixels, place: Place, views: int) -> Pixels:
        """Only the region's name travels. Asked once: whoever asks again must not do so through the same region."""
        tensor = triton.InferInput(TILE, list(tiles.shape), "UINT8")
        tensor.set_shared_memory(place.region.name, tiles.nbytes)
        output = triton.InferRequestedOutput(PROBABILITY)
        output.set_shared_memory(place.region.name, place.answer.nbytes, place.answer_offset)
        call = self._call(name, tensor, output, views)
        made = self._connection.ask_once(f"model {name}", call).get_output(PROBABILITY)
        if made is None or tuple(made.shape) != place.answer.shape or made.datatype != "UINT8":
            raise self._without_probabilities(name)
        return place.answer.copy()  # the region is needed for the next tiles

    def _call(self, name: str, tensor: Any, output: Any, views: int) -> Any:
        """One request, to be made with a client."""
        return lambda client: client.infer(
            name,
            [tensor],
            outputs=[output],
            parameters={"views": views} if views != 1 else None,
            client_timeout=self._predict_seconds,
        )

    def _check_probability(self, name: str, answer: NDArray[Any] | None, tiles: Pixels) -> Pixels:
        if answer is None or answer.ndim != 4 or answer.dtype != np.uint8 or len(answer) != len(tiles):
            raise self._without_probabilities(name)
        return answer

    def _without_probabilities(self, name: str) -> Refused:
        return Refused(f"Triton at {self._connection.url} answered for model {name} without probabilities")


class _Regions:
    """Triton's book of shared memory."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def register(self, region: Region) -> None:
        """Raises RegionRefused if Triton answers, but cannot map it."""
        try:
            self._connection.ask_once(
                f"region {region.name}",
                lambda client: client.register_system_shared_memory(
                    region.name, region.key, region.size, client_timeout=SECONDS_FOR_LITTLE
                ),
            )
        except (Refused, RegionLost) as error:  # a server that is only busy may map the next one
            raise RegionRefused(str(error)) from error

    def unregister(self, name: str) -> None:
        """Refused while a request uses the region."""
        self._connection.ask_once(
            f"region {name}",
            lambda client: client.unregister_system_shared_memory(name, client_timeout=SECONDS_FOR_LITTLE),
        )

    def registered(self) -> list[str]:
        """Names of all regions, ours or not."""
        status = self._connection.ask_once(
            "regions", lambda client: client.get_system_shared_memory_status(client_timeout=SECONDS_FOR_LITTLE)
        )
        return list(status.regions)
