"""Predicting tiles with a model version: loads it where it is missing, checks it, keeps requests in flight."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import numpy as np

from services.worker.connection import NotLoaded
from services.worker.held_models import HeldModels
from services.worker.model_server import ModelServer
from services.worker.slots import Shape, Slot
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

    def answer_shape(self, tiles: Shape) -> Shape:
        """Of the answer (N, planes, H − 2 halo, W − 2 halo) to tiles (N, H, W, tile channels)."""
        count, height, width, _ = tiles
        halo = self.contract.halo
        return count, self.contract.planes, height - 2 * halo, width - 2 * halo


class Predictor:
    """Safe to share between threads; all of a process share one, and so its limits.

    Args:
        in_flight: requests for tiles on their way at once.
        models_kept: versions that the server is to hold for this process, and more only while they are in use.
    """

    def __init__(self, server: ModelServer, storage: Storage, *, in_flight: int, models_kept: int = 3) -> None:
        self._server = server
        self._storage = storage
        self._in_flight = in_flight
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="predict")
        self._loading = threading.Lock()
        self._checked: set[str] = set()  # names of versions that gave their known answer to this process
        self._held = HeldModels(limit=models_kept)

    def ensure_loaded(self, model: ServedModel) -> None:
        """Load the model if the server does not hold it, and see its known answer once per process.

        Raises Unavailable, or Rejected if the answer is wrong even after loading.
        """
        with self._using(model):
            if model.server_name not in self._checked or not self._server.is_loaded(model.server_name):
                self._load(model)

    def predict(self, model: ServedModel, tiles: Pixels, views: int = 1) -> Pixels:
        """Tiles (N, core + 2 halo, core + 2 halo, tile channels) → uint8 probabilities (N, planes, core, core).

        `views`: how many of a tile's flips and turns are averaged: 1, 4 (flips) or 8 (flips, also transposed).
        """
        return self._ask(model, lambda name: self._server.infer(name, tiles, views=views))

    def localise(self, model: ServedModel, overview: Pixels) -> Transform:
        """The overview (side, side, C) of an image → where the model wants it warped to (3, 3).

        Raises Unavailable, or Rejected if the answer is no transform.
        """
        theta = self._ask(model, lambda name: self._server.localise(name, overview))
        _check_transform(model, theta)
        return theta

    def describe_engine(self, model: ServedModel) -> dict[str, str]:
        """What answers the known question: engine, version, precision, device. Empty if the version cannot say."""
        question = _known_question(model)
        return self._ask(model, lambda name: self._server.describe_engine(name, question))

    def predict_each(
        self,
        model: ServedModel,
        items: Iterable[Item],
        shape: Callable[[Item], Shape],
        fill: Callable[[Item, Pixels], None],
        views: int = 1,
    ) -> Generator[tuple[Item, Pixels], None, None]:
        """Predict what `fill` makes of each item; yields (item, answer) in the order of the items.

        `fill(item, out)` writes the tiles into `out`, uint8 of `shape(item)` (N, H, W, tile channels), in the caller's
        thread. `out` is memory that the server reads where it can, holds anything before, and is not to be kept. The
        answer (N, planes, h, w) is the caller's for as long as it likes, perhaps read-only. However the iteration
        ends, nothing of it is in flight afterwards.
        """
        waiting: deque[tuple[Item, Slot, Future[Pixels]]] = deque()
        with self._using(model):
            try:
                for item in items:
                    slot = self._fill(model, item, shape(item), fill)
                    waiting.append((item, slot, self._pool.submit(self._answer, model, slot, views)))
                    # One more than are in flight, so that the server never waits for the next tile to be cut.
                    if len(waiting) > self._in_flight:
                        yield _result(waiting.popleft())
                while waiting:
                    yield _result(waiting.popleft())
            finally:
                for _, slot, future in waiting:
                    if future.cancel():
                        self._server.take_back(slot)
                wait(future for _, _, future in waiting)

    def close(self) -> None:
        """Let threads and server go."""
        self._pool.shutdown(cancel_futures=True)
        self._server.close()

    def _fill(self, model: ServedModel, item: Item, shape: Shape, fill: Callable[[Item, Pixels], None]) -> Slot:
        slot = self._server.lend_slot(shape, model.answer_shape(shape))
        try:
            fill(item, slot.tiles)
        except BaseException:
            self._server.take_back(slot)
            raise
        return slot

    def _answer(self, model: ServedModel, slot: Slot, views: int) -> Pixels:
        try:
            return self._ask(model, lambda name: self._server.infer_slot(name, slot, views=views))
        finally:
            self._server.take_back(slot)

    def _ask(self, model: ServedModel, question: Callable[[str], Answer]) -> Answer:
        """The server's answer, after loading the model if it turns out to be needed."""
        with self._using(model):
            try:
                try:
                    return question(model.server_name)
                except NotLoaded as error:
                    log.warning("loading the model again: %s", error)
                    self._load(model)
                    return question(model.server_name)
            except Unavailable:
                self._checked.discard(model.server_name)  # before the next tiles, it must give its known answer again
                raise

    @contextmanager
    def _using(self, model: ServedModel) -> Iterator[None]:
        """The server keeps the model meanwhile, and lets go of those that were not used for the longest time."""
        self._held.begin(model.server_name)
        try:
            self._unload_surplus()
            yield
        finally:
            self._held.end(model.server_name)

    def _unload_surplus(self) -> None:
        for name in self._held.take_surplus():
            self._checked.discard(name)
            try:
                with self._loading:  # who asks for it just now finds it not loaded, and loads it afterwards
                    self._server.unload(name)
            except Unavailable as error:
                log.warning("a model that nobody uses stays loaded: %s", error)

    def _load(self, model: ServedModel) -> None:
        """Load and check, unless the model gives its known answer by now: another thread may have been here first."""
        with self._loading:
            if self._server.is_loaded(model.server_name) and self._answers_rightly(model):
                self._checked.add(model.server_name)
                return
            self._server.load(model.server_name, {name: self._get(model, name) for name in model.files})
            self._check_answers(model)
            self._checked.add(model.server_name)

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
        (probability,) = self._server.infer(model.server_name, _known_question(model))
        answer = probability[:, :: known.step, :: known.step]
        expected = np.asarray(known.answer, dtype=np.uint8)
        if answer.shape != expected.shape:
            raise Rejected(f"model {model.server_name} answered with the shape {answer.shape}, not {expected.shape}")
        off = float(np.abs(answer.astype(int) - expected.astype(int)).mean())
        if off > known.tolerance:
            raise Rejected(f"model {model.server_name} is off its known answer by {off:.1f} of 255 on average")


def _check_transform(model: ServedModel, theta: Transform) -> None:
    if not np.isfinite(theta).all():
        raise Rejected(f"model {model.server_name} found no transform, but {theta.ravel().tolist()}; use another")


def _known_question(model: ServedModel) -> Pixels:
    """As one tile (1, side, side, tile channels)."""
    known = model.contract.known_answer
    return known_question(known.side, model.contract.tile_channels, known.seed)[None]


def _result(waiting: tuple[Item, Slot, "Future[Pixels]"]) -> tuple[Item, Pixels]:
    item, _, future = waiting
    try:
        return item, future.result()
    finally:
        del waiting, future  # an error holds this frame, and through the future itself: pixels would stay for long
