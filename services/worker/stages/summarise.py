"""SUMMARISE: the images of a segment job as a table, a row each, and as a page."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from services.worker.context import Context
from services.worker.reports.job_summary import JobTally, Ordered, draw_summary
from services.worker.reports.job_table import JobTable, describe_image
from services.worker.stages.each_image import walk_images
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.orders import versions
from shared.errors import NotFound, Unavailable
from shared.execution import Work
from shared.storage import image_key, job_key
from shared.tables import Dataset, DatasetVersion, Job, JobImage

PAGE, CSV, PARQUET = "report.html", "summary.csv", "summary.parquet"
COLUMNS = 100  # of classes, and of means: each image may have channels of its own


def summarise_job(context: Context, work: Work) -> Outcome:
    """Any number of images: their rows are gone over once, and the page shows a bounded number of them."""
    job = work.claim.job
    tally = JobTally()
    with TemporaryDirectory(dir=context.settings.cache_dir) as folder:
        paths = {name: Path(folder) / name for name in (CSV, PARQUET)}
        columns = {part: _find_keys(context, job, part) for part in ("classes", "sums")}
        with JobTable(paths[CSV], paths[PARQUET], **columns) as table:
            for image in walk_images(context, work):
                row = describe_image(image.name, image.state, image.facts, image.result, image.error)
                table.add(row)
                tally.add(str(image.id), row, image.result)
        work.check()
        stored = {name: context.storage.put_file(job_key(job.id, name), path) for name, path in paths.items()}
    page = draw_summary(_describe_order(context, job), tally, _fetch_pictures(context, job, tally))
    work.check()
    artifacts = [
        NewArtifact("summary", CSV, "text/csv", stored[CSV]),
        NewArtifact("summary", PARQUET, "application/vnd.apache.parquet", stored[PARQUET]),
        NewArtifact("report", PAGE, "text/html", context.storage.put(job_key(job.id, PAGE), page)),
    ]
    return Outcome(result=tally.describe(), artifacts=artifacts)


def _find_keys(context: Context, job: Job, part: str) -> list[str]:
    """What the images' objects are counted or averaged by, over all images; of very many the commonest."""
    each = (
        select(func.jsonb_object_keys(JobImage.result["objects"][part]).label("key"))
        .where(JobImage.workspace_id == job.workspace_id, JobImage.job_id == job.id)
        .subquery()
    )
    query = select(each.c.key).group_by(each.c.key).order_by(func.count().desc(), each.c.key).limit(COLUMNS)
    with context.sessions() as session, session.begin():
        return sorted(session.scalars(query))


def _describe_order(context: Context, job: Job) -> Ordered:
    with context.sessions() as session, session.begin():
        query = (
            select(Dataset.name, DatasetVersion.number)
            .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
            .where(DatasetVersion.workspace_id == job.workspace_id, DatasetVersion.id == versions.find_id(job))
        )
        found = session.execute(query).one_or_none()
        name = None if found is None else f"{found.name}@{found.number}"
    model: dict[str, Any] = job.spec["model"]
    return Ordered(
        job=str(job.id),
        model=f"{model['name']}@{model['version']}",
        digest=model["digest"],
        dataset=name or "a dataset that was deleted",
        created=job.created_at.isoformat(timespec="seconds"),  # whoever makes the page again makes the same
        parameters={name: value for name, value in job.spec["parameters"].items() if value is not None},
    )


def _fetch_pictures(context: Context, job: Job, tally: JobTally) -> dict[str, bytes]:
    """The overlays of the images that the page shows, PNG, as far as they were made, by the image's id."""
    pictures = {}
    for id_ in tally.list_shown():
        with suppress(NotFound, Unavailable):  # a page without a picture is better than none
            pictures[id_] = context.storage.get(image_key(job.id, UUID(id_), "overlay.png"))
    return pictures
