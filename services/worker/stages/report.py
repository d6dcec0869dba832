"""REPORT: what the images of a dataset version have in common, its report, and its manifest."""

import json
from collections.abc import Iterator, Sequence

from services.worker.context import Context
from services.worker.reports.description import describe_report
from services.worker.reports.page import draw_report
from services.worker.stages.findings import Finding
from services.worker.stages.report_contents import Arranged, fill_report
from shared.domain import blocks, manifests
from shared.domain.blocks import NewArtifact, Outcome
from shared.domain.manifests import NewManifest
from shared.domain.objects import Verified
from shared.examination.abutment import find_abutting
from shared.examination.duplicates import Duplicates, find_duplicates
from shared.examination.findings import find_pair_problems
from shared.examination.images import ImageExamination
from shared.examination.leakage import Leak, Membership, find_leaks
from shared.examination.portraits import Gallery, Portrait
from shared.execution import Work
from shared.schemas.manifests import NOT_EXAMINED, Problem
from shared.storage import job_key
from shared.tables import Job
from shared.tables.jobs import JobKind, Stage

MANIFEST, PAGE, DESCRIPTION = "dataset_manifest.json", "dataset_report.html", "dataset_report.json"


def report_version(context: Context, work: Work) -> Outcome:
    """Every image is in the manifest, the rejected ones with their reasons."""
    job = work.claim.job
    findings = list(_walk_findings(context, job))
    duplicates, leaks = _compare([finding for finding in findings if finding.image], job, work)
    with context.sessions() as session:
        arranged = Arranged.model_validate(blocks.result_of_job(session, job, Stage.ARRANGE))
    report = fill_report(context, job, findings, duplicates, leaks, arranged)
    manifest = NewManifest(
        layout=arranged.layout,
        summary={**report.summary.model_dump(mode="json"), "ignored": len(arranged.ignored)},
        images=[finding.as_row() for finding in findings],
        files=[made.as_new() for finding in findings for made in finding.made],
        read={name: Verified(read.sha256, read.etag) for finding in findings for name, read in finding.read.items()},
    )
    files = {
        PAGE: ("report", "text/html", draw_report(report)),
        DESCRIPTION: ("report", "application/json", _as_json(describe_report(report))),
        MANIFEST: ("manifest", "application/json", _as_json(manifest.images)),
    }
    artifacts = [
        NewArtifact(kind, name, media_type, context.storage.put(job_key(job.id, name), body))
        for name, (kind, media_type, body) in files.items()
    ]
    return Outcome(artifacts=artifacts, manifest=manifest, result={"headline": report.headline})


def _walk_findings(context: Context, job: Job) -> Iterator[Finding]:
    """What was found out about each image, in their order; of one that ended every try to look at it, that."""
    with context.sessions() as session:
        for image in manifests.walk_images(session, job):
            yield from map(Finding.model_validate, image.findings)
            if not image.findings and image.error is not None:
                code = "image_unreadable" if image.error["type"] == "input" else NOT_EXAMINED
                problem = Problem(code=code, severity="error", text=image.error["detail"])
                yield Finding(name=image.name, problems=[problem], source=image.entry)


def _compare(findings: Sequence[Finding], job: Job, work: Work) -> tuple[Duplicates, list[Leak]]:
    """What is there twice or in two splits; the images concerned are warned of it.

    What preprocess makes is alike on purpose, tiles of one image and variants of one tile: there only groups leak.
    """
    duplicates, abutments = Duplicates([], []), []
    if job.kind is JobKind.INGEST:
        gallery = Gallery([Portrait.of(ImageExamination.model_validate(finding.image)) for finding in findings])
        duplicates = find_duplicates(gallery, check=work.check)
        abutments = find_abutting(gallery, check=work.check)
    memberships = [Membership(finding.split, finding.group, finding.source_file) for finding in findings]
    leaks = find_leaks(memberships, duplicates, abutments)
    for number, problem in find_pair_problems([finding.name for finding in findings], duplicates, leaks):
        findings[number].problems.append(problem)
    return duplicates, leaks


def _as_json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
