"""REPORT: what the images of a dataset version have in common, its report, and its manifest."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from services.worker.context import Context
from services.worker.reports.description import describe_report
from services.worker.reports.page import draw_report
from services.worker.stages.findings import Finding
from services.worker.stages.gathering import Gathering, Rows
from services.worker.stages.report_contents import Arranged, Compared, fill_report, name_version
from shared.domain import blocks, manifests
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.manifests import NewManifest
from shared.examination.abutment import find_abutting
from shared.examination.duplicates import Duplicates, find_duplicates
from shared.examination.findings import find_pair_problems
from shared.examination.leakage import find_leaks, find_related
from shared.examination.portraits import Gallery
from shared.execution import Work
from shared.schemas.manifests import FILE_MISSING, NOT_EXAMINED, Problem
from shared.storage import Stored, job_key
from shared.tables import Job
from shared.tables.jobs import JobKind, Stage

CODES = {"input": "image_unreadable", "missing": FILE_MISSING}  # of problems, by the cause that ended an image
MANIFEST, PAGE, DESCRIPTION = "dataset_manifest.json", "dataset_report.html", "dataset_report.json"


def report_version(context: Context, work: Work) -> Outcome:
    """Every image is in the manifest, the rejected ones with their reasons."""
    job = work.claim.job
    found = Gathering.of(_walk_findings(context, job))
    if job.kind is JobKind.INGEST:
        found.warn_of_missing_masks()
    compared = _compare(found, job, work)
    with context.sessions() as session:
        arranged = Arranged.model_validate(blocks.result_of_job(session, job, Stage.ARRANGE))
    report = fill_report(name_version(context, job), found, compared, arranged, context.storage.get)
    manifest = NewManifest(
        layout=arranged.layout,
        summary={**report.summary.model_dump(mode="json"), "ignored": len(arranged.ignored)},
        images=Rows(found.images),
        files=found.files,
        read=found.read,
    )
    put, page = context.storage.put, draw_report(report)
    description = json.dumps(describe_report(report), indent=1, sort_keys=True).encode()
    artifacts = [
        NewArtifact("report", PAGE, "text/html", put(job_key(job.id, PAGE), page)),
        NewArtifact("report", DESCRIPTION, "application/json", put(job_key(job.id, DESCRIPTION), description)),
        NewArtifact("manifest", MANIFEST, "application/json", _store_manifest(context, job, found)),
    ]
    return Outcome(artifacts=artifacts, manifest=manifest, result={"headline": report.headline})


def _store_manifest(context: Context, job: Job, found: Gathering) -> Stored:
    """By way of the disk: it may be larger than everything else here."""
    with NamedTemporaryFile(dir=context.settings.cache_dir) as file:
        file.writelines(found.walk_lines())
        file.flush()
        return context.storage.put_file(job_key(job.id, MANIFEST), Path(file.name))


def _walk_findings(context: Context, job: Job) -> Iterator[Finding]:
    """What was found out about each image, in their order; of one that ended every try to look at it, that."""
    with context.sessions() as session:
        for image in manifests.walk_images(session, job):
            yield from map(Finding.model_validate, image.findings)
            if not image.findings and image.error is not None:
                code = CODES.get(image.error["type"], NOT_EXAMINED)
                problem = Problem(code=code, severity="error", text=image.error["detail"])
                yield Finding(name=image.name, problems=[problem], source=image.entry)


def _compare(found: Gathering, job: Job, work: Work) -> Compared:
    """What is there twice or in two splits, of images that are used; those concerned are warned of it.

    What preprocess makes is alike on purpose, tiles of one image and variants of one tile: there only groups leak.
    """
    images = [image for image in found.images if image.portrait is not None]
    duplicates, abutments = Duplicates([], []), []
    if job.kind is JobKind.INGEST:
        gallery = Gallery([image.portrait for image in images if image.portrait is not None])
        duplicates = find_duplicates(gallery, check=work.check)
        abutments = find_abutting(gallery, check=work.check)
    leaks = find_leaks([image.membership for image in images], duplicates, abutments)
    for number, problem in find_pair_problems([image.name for image in images], duplicates, leaks):
        images[number].problems.append(problem)
    for number, other in find_related(duplicates, abutments):
        images[number].related = images[other].name
    return Compared(images, duplicates, leaks)
