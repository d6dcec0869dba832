"""What the stages of the worker work with."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.worker.predictor import Predictor, ServedModel
from services.worker.settings import WorkerSettings
from services.worker.staging import Staging
from shared.database import Sessions
from shared.domain import jobs, models
from shared.storage import Storage
from shared.tables import Job, JobImage


@dataclass(frozen=True)
class Context:
    """Made once per process, shared by its threads."""

    settings: WorkerSettings
    sessions: Sessions
    storage: Storage
    staging: Staging
    predictor: Predictor

    def find_images(self, job: Job, ordinals: Sequence[int]) -> Sequence[JobImage]:
        """Those of a job's images that are still to be worked on."""
        with self.sessions() as session:
            return jobs.find_images(session, job, ordinals)

    def find_model(self, job: Job) -> ServedModel:
        """The model version that a segment job was ordered with."""
        with self.sessions() as session:
            return ServedModel.of(models.of_spec(session, job))
