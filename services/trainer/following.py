"""Who follows a training that is a job: progress for its user, snapshots for its successor, reports for MLflow."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pickle import UnpicklingError
from typing import Any

from services.trainer.history import Epoch
from services.trainer.reports.hardware import code_version
from services.trainer.reports.mlflow import MlflowLog, RunState, TrackedRun
from services.trainer.reports.panels import PanelRow, draw_panel
from services.trainer.settings import TrainerSettings
from services.trainer.snapshot import Snapshot
from services.trainer.train import describe_progress
from shared.errors import Cancelled, Draining, NotFound, Rejected
from shared.execution import Work
from shared.schemas.training import TrainIn
from shared.storage import Storage, Stored, job_key

log = logging.getLogger(__name__)

SNAPSHOT = "last.checkpoint"
_SECONDS_BETWEEN_NOTES = 2.0


class JobListener:
    """Passes a training's progress on to its job; saves a snapshot when the last one is old enough."""

    def __init__(
        self, work: Work, storage: Storage, order: TrainIn, *, seconds: float, mlflow: MlflowLog | None
    ) -> None:
        self._work, self._storage, self._order, self._mlflow = work, storage, order, mlflow
        self._between_snapshots, self._saved = seconds, time.monotonic()
        self._figures: dict[str, Any] = {"epochs": order.epochs}
        self._told = -float("inf")
        self.stored: Stored | None = None

    def check(self) -> None:
        """Raises Interrupted where the work should stop."""
        self._work.check()

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Notes where the training stands, not more often than anybody could read."""
        if time.monotonic() - self._told < _SECONDS_BETWEEN_NOTES:
            return
        self._told = time.monotonic()
        self._work.note({**self._figures, "epoch": epoch, "step": step, "steps": steps})

    def epoch(self, epoch: Epoch, best: Epoch, panel: Sequence[PanelRow]) -> bytes | None:
        """Notes the figures; draws the fixed samples if this is the best epoch so far."""
        self._figures = describe_progress(self._order, epoch, best)
        self._work.note(self._figures)
        if self._mlflow is not None:
            self._mlflow.add(epoch)
        return draw_panel(panel) if panel else None

    def wants_snapshot(self) -> bool:
        return time.monotonic() - self._saved >= self._between_snapshots

    def save(self, snapshot: Snapshot) -> None:
        """Replaces the one before. Whoever lost the block does not write over its successor's."""
        with suppress(Draining):  # the last one before this process ends
            self._work.check()
        self.stored = self._storage.put(job_key(self._work.claim.job.id, SNAPSHOT), snapshot.to_bytes())
        self._work.advance()
        self._saved = time.monotonic()


def find_snapshot(storage: Storage, work: Work) -> Snapshot | None:
    """What an earlier try of this training left behind."""
    try:
        body = storage.get(job_key(work.claim.job.id, SNAPSHOT))
    except NotFound:
        return None
    try:
        snapshot = Snapshot.from_bytes(body)
    except (UnpicklingError, RuntimeError, TypeError, KeyError, EOFError):  # of another version of the platform
        log.warning("block %s begins anew: its snapshot cannot be read", work.claim.block.id, exc_info=True)
        return None
    log.info("block %s goes on from epoch %d, step %d", work.claim.block.id, snapshot.epoch, snapshot.step)
    return snapshot


@contextmanager
def track(settings: TrainerSettings, work: Work, order: TrainIn) -> Iterator[MlflowLog | None]:
    """Report the training inside the `with` to an MLflow server, if there is one; a run that goes on is left open."""
    if settings.mlflow_url is None:
        yield None
        return
    tags = {"recipe": work.claim.job.spec["parameters"].get("recipe") or "", "code": code_version()}
    run = TrackedRun(str(work.claim.job.id), order.model, order.model_dump(mode="json"), tags)
    mlflow = MlflowLog(settings.mlflow_url.get_secret_value(), run, experiment=settings.mlflow_experiment)
    state: RunState | None = None
    try:
        yield mlflow
        state = "FINISHED"
    except Rejected:
        state = "FAILED"
        raise
    except Cancelled:
        state = "KILLED"
        raise
    finally:
        mlflow.close(state)
