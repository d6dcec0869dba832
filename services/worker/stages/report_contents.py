"""From findings to a report: which of them it shows, and with which pictures."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, Field

from services.worker.context import Context
from services.worker.reports.contents import (
    DUPLICATES,
    LEAKS,
    REJECTED,
    WARNINGS,
    DatasetReport,
    ReportImage,
    ReportPair,
    choose_contacts,
    choose_examples,
)
from services.worker.stages.findings import Finding
from shared.domain import datasets
from shared.domain.orders import versions
from shared.examination.duplicates import Duplicates
from shared.examination.findings import describe_leak
from shared.examination.images import ImageExamination
from shared.examination.labels import LabelStatistics
from shared.examination.leakage import Leak
from shared.examination.summary import ImageRecord, summarise
from shared.schemas.manifests import Problem
from shared.tables import Dataset, Job
from shared.tables.jobs import JobKind

FETCHES = 8  # pictures on their way at once
PAIRED = ("duplicate", "near_duplicate", "leak_")  # codes of problems that two images have with one another


class Arranged(BaseModel):
    """What arranging told, as its block keeps it."""

    layout: str | None = None
    why: str = ""
    ignored: list[tuple[str, str]] = Field(default_factory=list)
    classes: list[str] = Field(default_factory=list)


def fill_report(
    context: Context,
    job: Job,
    findings: Sequence[Finding],
    duplicates: Duplicates,
    leaks: Sequence[Leak],
    arranged: Arranged,
) -> DatasetReport:
    """The report of the job's version; the pictures it shows are fetched from the store."""
    compared = [finding for finding in findings if finding.image]
    shown = _choose_shown(findings, compared, duplicates, leaks)
    pictures = _fetch_pictures(context, [finding.thumbnail for finding in shown if finding.thumbnail])

    def show(finding: Finding) -> ReportImage:
        return _as_image(finding, pictures)

    def pair(kind: str, first: int, second: int, text: str, similarity: float | None) -> ReportPair:
        return ReportPair(kind, text, show(compared[first]), show(compared[second]), similarity)

    named = _name_version(context, job)
    accepted = [finding for finding in findings if not finding.errors]
    return DatasetReport(
        dataset=named.dataset,
        version=named.number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=arranged.layout or "",
        detected=arranged.why,
        summary=summarise(_as_record(finding) for finding in findings),
        parent=named.parent,
        steps=[step["step"] for step in job.spec["parameters"].get("steps", [])],
        class_names=arranged.classes,
        rejected=[show(finding) for finding in findings if finding.errors],
        warned=[show(finding) for finding in accepted if _own_problems(finding)],
        leaks=[pair(leak.kind, leak.first, leak.second, _leak_text(leak, compared), leak.similarity) for leak in leaks],
        duplicates=[pair(*each) for each in _list_duplicates(compared, duplicates)],
        contacts=[show(accepted[number]) for number in choose_contacts(len(accepted))],
    )


def _choose_shown(
    findings: Sequence[Finding], compared: Sequence[Finding], duplicates: Duplicates, leaks: Sequence[Leak]
) -> list[Finding]:
    """Those whose pictures the page may show."""
    marked = [finding for finding in findings if finding.thumbnail and _own_problems(finding)]
    codes = [_own_problems(finding)[0].code for finding in marked]
    shown = [marked[place] for place in choose_examples(codes, REJECTED + WARNINGS)]
    pairs = [(leak.kind, leak.first, leak.second) for leak in leaks]
    for chosen, limit in ((pairs, LEAKS), (_list_duplicates(compared, duplicates), DUPLICATES)):
        for place in choose_examples([str(each[0]) for each in chosen], limit):
            shown += [compared[chosen[place][1]], compared[chosen[place][2]]]
    accepted = [finding for finding in findings if not finding.errors]
    return shown + [accepted[number] for number in choose_contacts(len(accepted))]


def _list_duplicates(
    compared: Sequence[Finding], duplicates: Duplicates
) -> list[tuple[str, int, int, str, float | None]]:
    """Kind, the two images, a text, their similarity."""
    same = [
        ("same_image", numbers[0], other, f"{compared[other].name} has the very pixels of {compared[numbers[0]].name}")
        for numbers in duplicates.same
        for other in numbers[1:]
    ]
    near = [
        (pair.first, pair.second, f"{compared[pair.second].name} shows the same as {compared[pair.first].name}", pair)
        for pair in duplicates.near
    ]
    return [(*each, None) for each in same] + [
        ("near_duplicate", first, second, text, pair.similarity) for first, second, text, pair in near
    ]


def _leak_text(leak: Leak, compared: Sequence[Finding]) -> str:
    return describe_leak(leak, compared[leak.first].name, compared[leak.second].name).text


def _own_problems(finding: Finding) -> list[Problem]:
    """Those of the image itself; what it has in common with others is told as pairs."""
    return [problem for problem in finding.problems if not problem.code.startswith(PAIRED)]


def _as_image(finding: Finding, pictures: Mapping[str, bytes]) -> ReportImage:
    return ReportImage(
        name=finding.name,
        split=finding.split,
        height=finding.image.get("height"),
        width=finding.image.get("width"),
        problems=_own_problems(finding),
        thumbnail=pictures.get(finding.thumbnail or ""),
    )


def _as_record(finding: Finding) -> ImageRecord:
    return ImageRecord(
        name=finding.name,
        accepted=not finding.errors,
        split=finding.split,
        problems=finding.problems,
        examination=ImageExamination.model_validate(finding.image) if finding.image else None,
        labels=LabelStatistics.model_validate(finding.labels) if finding.labels else None,
    )


def _fetch_pictures(context: Context, keys: Sequence[str]) -> dict[str, bytes]:
    wanted = sorted(set(keys))
    with ThreadPoolExecutor(FETCHES) as pool:
        return dict(zip(wanted, pool.map(context.storage.get, wanted), strict=True))


@dataclass(frozen=True)
class _Named:
    dataset: str
    number: int | None  # None of a version that is about to be made
    parent: str | None


def _name_version(context: Context, job: Job) -> _Named:
    """The version that the report is about."""
    with context.sessions() as session, session.begin():
        version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
        source = session.get_one(Dataset, version.dataset_id).name
        if job.kind is JobKind.INGEST:
            return _Named(source, version.number, None)
        into = session.get_one(Dataset, UUID(job.spec["into"])).name
        return _Named(into, None, f"{source}@{version.number}")
