"""What the stages of the worker work with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.worker.predictor import Predictor, ServedModel
from services.worker.settings import WorkerSettings
from services.worker.staging import Staging
from shared.database import Sessions
from shared.domain import datasets, jobs, models
from shared.domain.orders import versions
from shared.storage import Storage
from shared.tables import DatasetFile, Job, JobImage


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

    def list_files(self, job: Job) -> dict[str, DatasetFile]:
        """The files of the dataset version that the job was ordered with, by name."""
        with self.sessions() as session, session.begin():
            return datasets.files_by_name(session, job.workspace_id, versions.find_id(job))

    def find_files(self, job: Job, names: Iterable[str]) -> dict[str, DatasetFile]:
        """Those of them that are called so."""
        with self.sessions() as session, session.begin():
            return datasets.find_files(session, job.workspace_id, versions.find_id(job), names)

    def find_model(self, job: Job, image: JobImage) -> ServedModel:
        """The model version that an image of a segment or evaluate job is segmented with."""
        with self.sessions() as session:
            return ServedModel.of(models.of_image(session, job, image))
