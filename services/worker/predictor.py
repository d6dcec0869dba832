"""Predicting tiles with a model version: loads it where it is missing, checks it, keeps tiles in flight."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import numpy as np

from services.worker.model_server import ModelServer, NotLoaded
from shared.errors import Rejected, Unavailable
from shared.imaging.probes import known_question
from shared.imaging.tiling import Pixels
from shared.imaging.warping import Transform
from shared.schemas.contracts import TilingContract
from shared.storage import Storage, model_key
from shared.tables import ModelVersion

log = logging.getLogger(__name__)

OVERVIEW_SEED = 0  # of the picture that a fresh localiser is shown

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ServedModel:
    """A model version: where its files lie and how images are cut for it."""

    model_id: UUID
    version_id: UUID
    files: Mapping[str, str]  # name → sha256
    contract: TilingContract

    @classmethod
    def of(cls, version: ModelVersion) -> "ServedModel":
        """From the version's row."""
        contract = TilingContract.model_validate(version.contract)
        return cls(version.model_id, version.id, version.files, contract)

    @property
    def server_name(self) -> str:
        """What the model server calls it: from ids alone, so that no two versions ever share a name."""
        return f"overtile-{self.version_id.hex}"


class Predictor:
    """Safe to share between threads; all of a process share one, and so its limit of tiles in flight."""

    def __init__(self, server: ModelServer, storage: Storage, *, in_flight: int) -> None:
        self._server = server
        self._storage = storage
        self._in_flight = in_flight
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="predict")
        self._loading = threading.Lock()
        self._checked: set[UUID] = set()  # versions that gave their known answer to this process

    def ensure_loaded(self, model: ServedModel) -> None:
        """Load the model if the server does not hold it, and see its known answer once per process.

        Raises Unavailable, or Rejected if the answer is wrong even after loading.
        """
        if model.version_id not in self._checked or not self._server.is_loaded(model.server_name):
            self._load(model)

    def predict(self, model: ServedModel, tile: Pixels) -> Pixels:
        """One tile (core + 2 halo, core + 2 halo, tile channels) → uint8 probabilities (planes, core, core)."""
        return self._ask(model, self._server.infer, tile)

    def localise(self, model: ServedModel, overview: Pixels) -> Transform:
        """The overview (side, side, C) of an image → where the model wants it warped to (3, 3).

        Raises Unavailable, or Rejected if the answer is no transform.
        """
        theta = self._ask(model, self._server.localise, overview)
        _check_transform(model, theta)
        return theta

    def predict_each(
        self, model: ServedModel, items: Iterable[Item], read: Callable[[Item], Pixels]
    ) -> Iterator[tuple[Item, Pixels]]:
        """Predict `read(item)` for each item, a bounded number at once; yields in the order of the items."""
        waiting: deque[tuple[Item, Future[Pixels]]] = deque()
        try:
            for item in items:
                waiting.append((item, self._pool.submit(self.predict, model, read(item))))
                # One more than are in flight, so that the server never waits for the next tile to be cut.
                if len(waiting) > self._in_flight:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)

    def _ask(self, model: ServedModel, question: Callable[[str, Pixels], Answer], pixels: Pixels) -> Answer:
        """The server's answer, after loading the model if it turns out to be needed."""
        try:
            return question(model.server_name, pixels)
        except NotLoaded as error:
            log.warning("loading the model again: %s", error)
            self._load(model)
            return question(model.server_name, pixels)

    def _load(self, model: ServedModel) -> None:
        """Load and check, unless the model gives its known answer by now: another thread may have been here first."""
        with self._loading:
            if self._server.is_loaded(model.server_name) and self._answers_rightly(model):
                self._checked.add(model.version_id)
                return
            self._server.load(model.server_name, {name: self._get(model, name) for name in model.files})
            self._check_answers(model)
            self._checked.add(model.version_id)

    def _get(self, model: ServedModel, name: str) -> bytes:
        key = model_key(model.model_id, model.version_id, name)
        return self._storage.get_verified(key, sha256=model.files[name])

    def _answers_rightly(self, model: ServedModel) -> bool:
        try:
            self._check_answers(model)
        except (Unavailable, Rejected) as error:
            log.warning("loading the model again: %s", error)
            return False
        return True

    def _check_answers(self, model: ServedModel) -> None:
        """The segmenter's against the known one. The localiser has none, but it must answer, and with numbers."""
        self._check_known_answer(model)
        if model.contract.warp is not None:
            overview = known_question(model.contract.warp.overview, model.contract.channels, OVERVIEW_SEED)
            _check_transform(model, self._server.localise(model.server_name, overview))

    def _check_known_answer(self, model: ServedModel) -> None:
        known = model.contract.known_answer
        question = known_question(known.side, model.contract.tile_channels, known.seed)
        answer = self._server.infer(model.server_name, question)[:, :: known.step, :: known.step]
        expected = np.asarray(known.answer, dtype=np.uint8)
        if answer.shape != expected.shape:
            raise Rejected(f"model {model.server_name} answered with the shape {answer.shape}, not {expected.shape}")
        off = float(np.abs(answer.astype(int) - expected.astype(int)).mean())
        if off > known.tolerance:
            raise Rejected(f"model {model.server_name} is off its known answer by {off:.1f} of 255 on average")


def _check_transform(model: ServedModel, theta: Transform) -> None:
    if not np.isfinite(theta).all():
        raise Rejected(f"model {model.server_name} found no transform, but {theta.ravel().tolist()}; use another")


def _result(waiting: tuple[Item, "Future[Pixels]"]) -> tuple[Item, Pixels]:
    item, future = waiting
    return item, future.result()
