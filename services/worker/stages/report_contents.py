"""From findings to a report: which of them it shows, and with which pictures."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from services.worker.stages.gathering import Examined, Gathering
from shared.domain import datasets
from shared.domain.orders import versions
from shared.examination.duplicates import Duplicates
from shared.examination.findings import describe_leak
from shared.examination.leakage import Leak
from shared.examination.summary import summarise
from shared.layouts.names import is_truth
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
    notes: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Compared:
    """What images have in common. Duplicates and leaks call them by their numbers in `images`."""

    images: Sequence[Examined]  # those that are used
    duplicates: Duplicates
    leaks: Sequence[Leak]


@dataclass(frozen=True)
class Named:
    """What the report is about."""

    dataset: str
    number: int | None  # None of a version that is about to be made
    parent: str | None = None  # None of files that were uploaded
    steps: Sequence[str] = ()


def fill_report(
    named: Named, found: Gathering, compared: Compared, arranged: Arranged, fetch: Callable[[str], bytes]
) -> DatasetReport:
    """The report about a version; `fetch` gives the pictures that it shows by their keys."""
    shown = _choose_shown(found, compared)
    pictures = _fetch_pictures(fetch, [image.thumbnail for image in shown if image.thumbnail])

    def show(image: Examined) -> ReportImage:
        return _as_image(image, pictures)

    def pair(kind: str, first: int, second: int, text: str, similarity: float | None) -> ReportPair:
        return ReportPair(kind, text, show(compared.images[first]), show(compared.images[second]), similarity)

    accepted = found.accepted
    return DatasetReport(
        dataset=named.dataset,
        version=named.number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        layout=(arranged.layout or "") if named.parent is None else "",
        detected=arranged.why,
        summary=summarise(image.as_record() for image in found.images),
        parent=named.parent,
        steps=named.steps,
        class_names=found.class_names,
        masks=dict(Counter(image.mask_kind for image in accepted if image.mask_kind).most_common()),
        ignored=arranged.ignored,
        ignored_masks=sum(is_truth(name) for name, _ in arranged.ignored),
        notes=[*arranged.notes, *(f"{image.name}: {note}" for image in accepted for note in image.notes)],
        rejected=[show(image) for image in found.images if not image.accepted],
        warned=list(_tell_once(accepted, show)),
        leaks=[pair(*each) for each in _list_leaks(compared)],
        duplicates=[pair(*each) for each in _list_duplicates(compared)],
        contacts=[show(accepted[number]) for number in choose_contacts(len(accepted))],
    )


def _choose_shown(found: Gathering, compared: Compared) -> list[Examined]:
    """Those whose pictures the page may show."""
    marked = [image for image in found.images if image.thumbnail and _own_problems(image)]
    codes = [_own_problems(image)[0].code for image in marked]
    shown = [marked[place] for place in choose_examples(codes, REJECTED + WARNINGS)]
    for chosen, limit in ((_list_leaks(compared), LEAKS), (_list_duplicates(compared), DUPLICATES)):
        for place in choose_examples([kind for kind, *_ in chosen], limit):
            shown += [compared.images[number] for number in chosen[place][1:3]]
    accepted = found.accepted
    return shown + [accepted[number] for number in choose_contacts(len(accepted))]


def _tell_once(images: Iterable[Examined], show: Callable[[Examined], ReportImage]) -> Iterator[ReportImage]:
    """Images with warnings; of what all variants of a tile have, only the first has it here."""
    told: set[tuple[str, str]] = set()
    for image in images:
        new = {(image.variant_of, problem.code) for problem in _own_problems(image) if image.variant_of is not None}
        shown = show(image)
        problems = [problem for problem in shown.problems if (image.variant_of, problem.code) not in told]
        told |= new
        if problems:
            yield replace(shown, problems=problems)


_Pair = tuple[str, int, int, str, float | None]  # kind, the two images, a text, their similarity


def _list_leaks(compared: Compared) -> list[_Pair]:
    images = compared.images
    return [
        (
            leak.kind,
            leak.first,
            leak.second,
            describe_leak(leak, images[leak.first].name, images[leak.second].name).text,
            leak.similarity,
        )
        for leak in compared.leaks
    ]


def _list_duplicates(compared: Compared) -> list[_Pair]:
    images = compared.images
    same: list[_Pair] = [
        (
            "same_image",
            numbers[0],
            other,
            f"{images[other].name} has the very pixels of {images[numbers[0]].name}",
            None,
        )
        for numbers in compared.duplicates.same
        for other in numbers[1:]
    ]
    near: list[_Pair] = [
        (
            "near_duplicate",
            pair.first,
            pair.second,
            f"{images[pair.second].name} shows the same as {images[pair.first].name}",
            pair.similarity,
        )
        for pair in compared.duplicates.near
    ]
    return same + near


def _own_problems(image: Examined) -> list[Problem]:
    """Those of the image itself; what it has in common with others is told as pairs."""
    return [problem for problem in image.problems if not problem.code.startswith(PAIRED)]


def _as_image(image: Examined, pictures: Mapping[str, bytes]) -> ReportImage:
    return ReportImage(
        name=image.name,
        split=image.split,
        height=image.height,
        width=image.width,
        problems=_own_problems(image),
        thumbnail=pictures.get(image.thumbnail or ""),
    )


def _fetch_pictures(fetch: Callable[[str], bytes], keys: Sequence[str]) -> dict[str, bytes]:
    wanted = sorted(set(keys))
    with ThreadPoolExecutor(FETCHES) as pool:
        return dict(zip(wanted, pool.map(fetch, wanted), strict=True))


def name_version(context: Context, job: Job) -> Named:
    """The version that the report of the job is about."""
    with context.sessions() as session, session.begin():
        version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
        source = session.get_one(Dataset, version.dataset_id).name
        if job.kind is JobKind.INGEST:
            return Named(source, version.number)
        into = session.get_one(Dataset, UUID(job.spec["into"])).name
        steps = [step["step"] for step in job.spec["parameters"]["steps"]]
        return Named(into, None, f"{source}@{version.number}", steps)
