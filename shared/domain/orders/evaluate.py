"""Orders to evaluate: every image with a mask, once for each model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import UUID

from sqlalchemy.orm import Session

from shared.domain import datasets, models, stages
from shared.domain.orders import bundles, class_names, segment, versions
from shared.errors import Conflict
from shared.layouts import OUTLINES
from shared.schemas.evaluation import EvaluateIn
from shared.tables import DatasetFile, DatasetImage, DatasetVersion, Job, JobImage, Model, ModelVersion
from shared.tables.base import Json
from shared.tables.datasets import VersionState
from shared.tables.jobs import Stage

NAMED = 100  # images that take no part which the job names; it counts all


def specify(session: Session, workspace_id: UUID, order: EvaluateIn, version: DatasetVersion) -> Json:
    """The job's snapshot: that of a segment job, with a second model as `compared`.

    Raises NotFound for an unknown model, Conflict for a version that nobody has looked into, for two names of one model
    version, where no image has a mask to compare with, or where masks and models call classes by other names.
    """
    versions.refuse_invalid(version)
    if version.state is not VersionState.READY:
        raise Conflict(
            f"dataset version {version.id} was never ingested: ingest it first, which finds out whose masks are whose"
        )
    taking_part, others = _choose(versions.accepted(session, version), order.split)
    if not taking_part:
        raise Conflict(_say_none(versions.accepted(session, version), order.split))
    references = [each for each in (order.model, order.compare_with) if each is not None]
    found = [(reference, *models.resolve(session, workspace_id, reference)) for reference in references]
    class_names.refuse_other_names([(reference, each) for reference, _, each in found], taking_part)
    spec: Json = {
        "dataset_version": versions.describe(version),
        "split": order.split,
        "left_out": {"images": len(others), "names": [image.name for image in others[:NAMED]]},
        **_describe(order, *found[0]),
    }
    if order.compare_with is not None:
        plain = order.model_copy(update={"threshold": None, "objects": None})
        spec["compared"] = _describe(plain, *found[1])
        # The same version with another threshold is a fair question; with the same one it is none.
        if _identify(spec["compared"]) == _identify(spec):
            raise Conflict(f"{order.model} and {order.compare_with} are the same version: name another to compare with")
    return spec


def begin(session: Session, job: Job, version: DatasetVersion) -> None:
    """The job's images, a row for each image and model, and their first blocks."""
    taking_part, _ = _choose(versions.accepted(session, version), job.spec["split"])
    files = datasets.files_by_name(session, version.workspace_id, version.id)
    of_models = ["", ""] if "compared" in job.spec else [""]
    if len(of_models) == 2:
        of_models = [f"{number + 1}-{_name(part)}/" for number, part in enumerate((job.spec, job.spec["compared"]))]
    shown = [_Row(job, image, files) for image in taking_part]
    rows = [
        [row.make(model, model * len(shown) + place, folder) for place, row in enumerate(shown)]
        for model, folder in enumerate(of_models)
    ]
    session.add_all(chain(*rows))
    session.flush()
    _add_blocks(session, job, rows)


@dataclass(frozen=True)
class _Row:
    """An image that takes part."""

    job: Job
    image: DatasetImage
    files: dict[str, DatasetFile]

    def make(self, model: int, ordinal: int, folder: str) -> JobImage:
        """Its row for a model. `folder`: that keeps apart what two models make of one image."""
        image = self.image
        # The parts of an image lie around it as they do in the dataset: then it is called by its place there.
        name = image.file or "" if image.parts else image.name
        parts = [self.files[part] for part in image.parts]
        row = versions.make_row(self.job, ordinal, name, self.files.get(image.file or ""), parts)
        row.name = f"{folder}{row.name}"
        row.parts = [{**part, "name": f"{folder}{part['name']}"} for part in row.parts]
        row.entry = {
            "model": model,
            "name": image.name,
            "mask": self._describe(image.mask),
            "mask_kind": image.mask_kind,
            "types": self._describe(image.types) if image.types else None,
            "split": image.split,
            "group": image.group,
        }
        return row

    def _describe(self, name: str | None) -> Json:
        file = self.files[name or ""]
        return {"name": file.name, **versions.describe_object(file.object)}


def _choose(images: Sequence[DatasetImage], split: str | None) -> tuple[list[DatasetImage], list[DatasetImage]]:
    """Those of the split that have a mask of pixels, and those that have none."""
    asked = [image for image in images if split is None or image.split == split]
    masked = [image.mask is not None and image.mask_kind not in OUTLINES for image in asked]
    return (
        [image for image, has in zip(asked, masked, strict=True) if has],
        [image for image, has in zip(asked, masked, strict=True) if not has],
    )


def _say_none(images: Sequence[DatasetImage], split: str | None) -> str:
    splits = sorted({image.split for image in images if image.split is not None})
    if split is not None and split not in splits:
        there = f"its splits are {', '.join(splits)}" if splits else "it has no splits"
        return f"the dataset version has no split {split}: {there}; leave split out to take all of its images"
    where = "the dataset version" if split is None else f"the split {split} of the dataset version"
    return (
        f"{where} holds no image with a mask to compare with: upload masks, `images/a.png` beside `masks/a.png`; "
        "outlined slides are cut by a preprocess job with the step `tile` first"
    )


def _describe(order: EvaluateIn, reference: str, model: Model, version: ModelVersion) -> Json:
    parameters = segment.fill_parameters(
        version.contract, threshold=order.threshold, objects=order.objects, outputs=order.outputs
    )
    return {
        "model": segment.describe_model(model, version, reference),
        "parameters": parameters.model_dump(mode="json"),
    }


def _identify(part: Json) -> tuple[str, Json]:
    """What one model does the same as another by."""
    return part["model"]["version_id"], part["parameters"]


def _name(part: Json) -> str:
    return f"{part['model']['name']}-{part['model']['version']}"


def _add_blocks(session: Session, job: Job, rows: Sequence[Sequence[JobImage]]) -> None:
    """Small images in bundles, each of one model, large ones by themselves."""
    small = [[row for row in each if row.bytes <= bundles.SMALL_BYTES] for each in rows]
    for number, bundle in enumerate(chain(*(bundles.cut(each, views=1) for each in small))):
        stages.add_block(session, job, None, Stage.BUNDLE, ordinal=number, spec={"images": bundle})
    for row in chain(*rows):
        if row.bytes > bundles.SMALL_BYTES:
            stages.add_block(session, job, row, Stage.PLAN)
