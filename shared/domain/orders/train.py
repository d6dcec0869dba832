"""Orders to train."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from shared.domain import models, stages
from shared.domain.orders import versions
from shared.errors import Conflict, Invalid
from shared.layouts import OUTLINES
from shared.schemas.training import TrainIn
from shared.tables import DatasetImage, DatasetVersion, Job
from shared.tables.base import Json
from shared.tables.datasets import VersionState
from shared.tables.jobs import Stage

CHECKPOINT = "checkpoint.safetensors"  # the file of a model version that another training can start from


def specify(session: Session, workspace_id: UUID, order: TrainIn, version: DatasetVersion) -> Json:
    """The job's snapshot. Raises NotFound for a model to start from that is unknown, Conflict for one without weights.

    The version's steps go into it: the model that is trained on their result carries them, and serving applies them.
    """
    spec: Json = {
        "dataset_version": versions.describe(version),
        "steps": version.steps,
        "parameters": order.model_dump(mode="json", exclude={"dataset", "dataset_version"}),
    }
    if order.start is not None:
        spec["start"] = _describe_start(session, workspace_id, order.start.model)
    return spec


def begin(session: Session, job: Job, version: DatasetVersion) -> None:
    """The job's one block. Raises Invalid if the version cannot be learnt from, Conflict if nobody can tell yet."""
    versions.refuse_invalid(version)
    images, masks = version.images, version.masks
    if version.state is not VersionState.READY:
        versions.refuse_parts(session, version)
        versions.refuse_unread(session, version)
    else:
        found = versions.accepted(session, version)
        images, masks = len(found), sum(image.mask is not None for image in found)
        _refuse_outlines(found)
    if images < 2 or masks < 2:
        raise Invalid(
            f"training needs at least two images with masks, `images/a.png` beside `masks/a.png`; "
            f"this version holds {images} images and {masks} masks"
        )
    stages.add_block(session, job, None, Stage.TRAIN)


def _refuse_outlines(images: Sequence[DatasetImage]) -> None:
    """Raises Invalid if there is a slide whose mask is not drawn."""
    outlined = [image for image in images if image.mask_kind in OUTLINES]
    if outlined:
        raise Invalid(
            f"the masks of {len(outlined)} images, such as {outlined[0].name}, are outlines on slides, which are not "
            "learnt from as they are: cut them by a preprocess job with the step `tile`, and train on its version"
        )


def _describe_start(session: Session, workspace_id: UUID, reference: str) -> Json:
    """The version whose weights a training begins with, and the hash that they must have."""
    model, version = models.resolve(session, workspace_id, reference)
    if CHECKPOINT not in version.files:
        raise Conflict(
            f"model {model.name}@{version.number} came without its {CHECKPOINT}: there is nothing to start from"
        )
    return {
        "model_id": str(model.id),
        "version_id": str(version.id),
        "name": model.name,
        "number": version.number,
        "files": {CHECKPOINT: version.files[CHECKPOINT]},
    }
