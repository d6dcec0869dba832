"""Orders to segment."""

from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from shared.domain import models
from shared.domain.orders import bundles, versions
from shared.errors import Conflict, Invalid
from shared.schemas.contracts import BATCHES
from shared.schemas.jobs import SegmentIn, SegmentParameters
from shared.tables import DatasetVersion, Job
from shared.tables.base import Json
from shared.tables.jobs import Stage

USUAL_THRESHOLD = 0.5  # where the model version recommends none
# How often each tile is predicted, by the augmentation that was asked for.
VIEWS: dict[str, Literal[1, 4, 8]] = {"none": 1, "flips": 4, "all": 8}


def specify(session: Session, workspace_id: UUID, order: SegmentIn, version: DatasetVersion) -> Json:
    """The job's snapshot. Raises NotFound for an unknown model, Conflict for one that cannot do what is asked."""
    model, model_version = models.resolve(session, workspace_id, order.model)
    contract = model_version.contract
    views = VIEWS[order.test_time_augmentation]
    if views > 1 and contract.get("protocol", 1) < BATCHES:
        raise Conflict(
            f"model {model.name}@{model_version.number} was exported before test-time augmentation: export it anew, or "
            "leave test_time_augmentation out"
        )
    recommended = contract.get("threshold") or USUAL_THRESHOLD
    return {
        "dataset_version": versions.describe(version),
        "parameters": SegmentParameters(
            threshold=recommended if order.threshold is None else order.threshold,
            closing=contract.get("closing") or 0,
            views=views,
            empty_tiles=order.empty_tiles,
        ).model_dump(),
        "model": {
            "id": str(model.id),
            "name": model.name,
            "version": model_version.number,
            "version_id": str(model_version.id),
            "digest": model_version.digest,
            "alias": models.alias_in(order.model),  # as it was asked for; it may stand for another version by now
        },
    }


def begin(session: Session, job: Job, version: DatasetVersion) -> None:
    """The job's images and first blocks. Raises Invalid if there is none to segment."""
    images = versions.add_images(session, job, version)
    if not images:
        raise Invalid(f"dataset version {version.id} holds masks only; there is nothing to segment")
    views = job.spec["parameters"]["views"]
    bundles.add_blocks(session, job, images, together=Stage.BUNDLE, alone=Stage.PLAN, views=views)
