"""A training as a run in MLflow: its order, its figures epoch by epoch, how it ended."""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal

from services.trainer.history import Epoch
from services.trainer.reports.tracking import (
    LONGEST_PARAM,
    MOST_METRICS,
    MOST_PARAMS,
    Metric,
    Refused,
    TrackingServer,
    now,
)
from shared.errors import Unavailable

log = logging.getLogger(__name__)

RunState = Literal["FINISHED", "FAILED", "KILLED"]

_PATIENCE = 10.0  # seconds that a training waits at its end for what is still on its way


@dataclass(frozen=True)
class TrackedRun:
    """What MLflow is told about a training at its start."""

    job_id: str  # a job that is tried again goes on in the run of its first try
    name: str  # shown in lists
    params: Mapping[str, Any]  # the order; groups may be nested
    tags: Mapping[str, str]  # such as the recipe and the version of the code


@dataclass(frozen=True)
class _End:
    """No more will come."""

    state: RunState | None


class MlflowLog:
    """Tells an MLflow tracking server about a training. Never raises and never waits, but for `close`.

    A thread sends. What the server does not take is sent again with the next epoch, so an outage loses nothing that
    ends before the training does. The first trouble is logged as a warning, no other.
    """

    def __init__(self, url: str, run: TrackedRun, *, experiment: str = "overtile", patience: float = _PATIENCE) -> None:
        """`url`: of the tracking server, with user:password@ if it asks for them. `patience`: of `close`, seconds."""
        self._run, self._experiment, self._patience = run, experiment, patience
        self._server = TrackingServer(url)
        self._news: SimpleQueue[list[Metric] | _End] = SimpleQueue()
        self._run_id = ""  # not yet known
        self._params = list(_flatten(run.params).items())
        self._metrics: list[Metric] = []  # not yet taken
        self._end: _End | None = None  # not yet said
        self._warned = False
        self._thread = Thread(target=self._send_all, name="mlflow", daemon=True)
        self._thread.start()
        self._news.put([])  # so that the run is seen from its start, not from the end of its first epoch

    def add(self, epoch: Epoch) -> None:
        """The figures of an epoch; sent in the background."""
        figures = asdict(epoch)
        step, time = figures.pop("epoch"), now()
        self._news.put([Metric(name, value, time, step) for name, value in figures.items() if math.isfinite(value)])

    def close(self, state: RunState | None) -> None:
        """Say how the training ended, and wait a little until all is sent. Nothing can be added any more.

        `state`: None if it goes on elsewhere, so that the run is nobody's to end here.
        """
        self._news.put(_End(state))
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._warn("it takes too long")

    def _send_all(self) -> None:
        """The thread: collect what is new, try to send what is not sent, until the end was said."""
        with self._server:
            while self._end is None:
                self._collect()
                try:
                    self._send()
                except (Unavailable, Refused) as error:
                    self._warn(str(error))

    def _collect(self) -> None:
        """Wait for news, then take all there are."""
        news = self._news.get()
        while True:
            if isinstance(news, _End):
                self._end = news
            else:
                self._metrics += news
            try:
                news = self._news.get_nowait()
            except Empty:
                return

    def _send(self) -> None:
        if not self._run_id:
            self._run_id = self._server.open_run(
                self._experiment, job_id=self._run.job_id, name=self._run.name, tags=dict(self._run.tags)
            )
        while self._params:
            self._send_params()
        while self._metrics:
            self._server.log_metrics(self._run_id, self._metrics[:MOST_METRICS])
            del self._metrics[:MOST_METRICS]
        if self._end is not None and self._end.state is not None:
            self._server.end_run(self._run_id, self._end.state)

    def _send_params(self) -> None:
        """The next few. Those that the server will never take must not hold up the figures."""
        few = self._params[:MOST_PARAMS]
        try:
            self._server.log_params(self._run_id, dict(few))
        except Refused as error:
            self._warn(str(error))
        del self._params[: len(few)]

    def _warn(self, trouble: str) -> None:
        if not self._warned:
            log.warning("MLflow is not told all about job %s: %s", self._run.job_id, trouble)
        self._warned = True


def _flatten(groups: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"network": {"name": "unet"}} → {"network.name": "unet"}; values as text that MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in groups.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value).encode()[:LONGEST_PARAM].decode(errors="ignore")
    return flat
