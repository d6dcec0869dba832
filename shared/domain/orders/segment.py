"""Orders to segment."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from shared.domain import models
from shared.domain.orders import bundles, versions
from shared.errors import Conflict, Invalid
from shared.schemas.contracts import BATCHES
from shared.schemas.jobs import SegmentIn, SegmentParameters
from shared.schemas.objects import ObjectParameters, ObjectsIn, check_areas
from shared.schemas.outputs import Output
from shared.tables import DatasetVersion, Job, Model, ModelVersion
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
    parameters = fill_parameters(
        contract, threshold=order.threshold, objects=order.objects, outputs=order.outputs, views=views
    )
    return {
        "dataset_version": versions.describe(version),
        "parameters": parameters.model_copy(update={"empty_tiles": order.empty_tiles}).model_dump(mode="json"),
        "model": describe_model(model, model_version, order.model),
    }


def fill_parameters(
    contract: Json,
    *,
    threshold: float | None,
    objects: ObjectsIn | None,
    outputs: Sequence[Output],
    views: Literal[1, 4, 8] = 1,
) -> SegmentParameters:
    """What is asked for, and where nothing is what the contract recommends. Raises Invalid for an unknown class."""
    recommended = ObjectsIn.model_validate(contract["objects"]) if contract.get("objects") else None
    closing = contract.get("closing") or 0
    try:
        rules = ObjectParameters.fill(objects, recommended, classes=contract["classes"], closing=closing)
    except ValueError as error:
        raise Invalid(f"objects.border_class: {error}") from error
    try:
        check_areas(rules.min_area, rules.max_area)
    except ValueError as error:
        raise Invalid(f"objects: {error}") from error
    return SegmentParameters(
        threshold=(contract.get("threshold") or USUAL_THRESHOLD) if threshold is None else threshold,
        closing=closing,
        views=views,
        outputs=tuple(dict.fromkeys(outputs)),
        objects=rules,
    )


def describe_model(model: Model, version: ModelVersion, asked: str) -> Json:
    """The model version that a job works with, as its snapshot keeps it."""
    return {
        "id": str(model.id),
        "name": model.name,
        "version": version.number,
        "version_id": str(version.id),
        "digest": version.digest,
        "alias": models.alias_in(asked),  # as it was asked for; it may stand for another version by now
    }


def begin(session: Session, job: Job, version: DatasetVersion) -> None:
    """The job's images and first blocks. Raises Invalid if there is none to segment."""
    images = versions.add_images(session, job, version)
    if not images:
        raise Invalid(f"dataset version {version.id} holds masks only; there is nothing to segment")
    views = job.spec["parameters"]["views"]
    bundles.add_blocks(session, job, images, together=Stage.BUNDLE, alone=Stage.PLAN, views=views)
