"""The report as one HTML page: it opens without a network, and holds its pictures itself."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.worker.reports.charts import draw_bars, draw_columns, draw_lines
from services.worker.reports.contents import (
    CONTACTS,
    DUPLICATES,
    LEAKS,
    REJECTED,
    WARNINGS,
    DatasetReport,
    ReportImage,
    ReportPair,
    choose_examples,
)
from services.worker.reports.titles import MEANINGS, explain, title_of
from shared.examination.summary import NONE, DatasetSummary
from shared.schemas.manifests import Problem

LISTED = 200  # findings of a kind that the page lists; the JSON has all
HEAVIEST = 65_536  # bytes of a thumbnail; a JPEG of 256 px is a third of it
BARS = 12  # rows of a chart

_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True)
class _Card:
    """A finding about an image. `picture` is a data URI."""

    image: ReportImage
    problem: Problem
    picture: str | None


@dataclass(frozen=True)
class _Couple:
    """A finding about two images. `pictures` are data URIs of both."""

    pair: ReportPair
    pictures: tuple[str | None, str | None]


@dataclass(frozen=True)
class _Section:
    """Findings of one kind. `more`: how many are not listed."""

    title: str
    count: int
    cards: Sequence[_Card] = ()
    couples: Sequence[_Couple] = ()
    explanation: str = ""

    @property
    def more(self) -> int:
        return self.count - len(self.cards) - len(self.couples)


def draw_report(report: DatasetReport) -> bytes:
    """The page, UTF-8: findings first, the gravest on top, then statistics and examples.

    Names are users' text: they are shown, never obeyed. At most 60 pictures of findings and 48 of the contact sheet.
    """
    page = _PAGES.get_template("report.html").render(
        report=report,
        named="a new version" if report.version is None else f"version {report.version}",
        found=report.summary,
        rejected=_group_images(report.rejected, "error", REJECTED),
        leaks=_group_pairs(report.leaks, LEAKS),
        warnings=_group_images(report.warned, "warning", WARNINGS),
        duplicates=_group_pairs(report.duplicates, DUPLICATES),
        contacts=[(image, _embed(image)) for image in report.contacts[:CONTACTS]],
        constants=[(noun, next(iter(counts))) for noun, _, counts in _list_counts(report.summary) if len(counts) == 1],
        charts=list(_draw_charts(report)),
        masks=[(MEANINGS.get(kind, kind), count) for kind, count in report.masks.items()],
        listed=LISTED,
    )
    return page.encode("utf-8", "backslashreplace")


def _group_images(images: Sequence[ReportImage], severity: str, pictures: int) -> list[_Section]:
    """A section for each kind of problem of that severity, the commonest first."""
    found = [(image, problem) for image in images for problem in image.problems if problem.severity == severity]
    with_picture = [place for place, (image, _) in enumerate(found) if image.thumbnail is not None]
    chosen = choose_examples([found[place][1].code for place in with_picture], pictures)
    shown = {with_picture[place] for place in chosen}
    by_code: dict[str, list[int]] = {}
    for place, (_, problem) in enumerate(found):
        by_code.setdefault(problem.code, []).append(place)
    return [
        _Section(
            title_of(code),
            len(places),
            cards=[
                _Card(*found[place], picture=_embed(found[place][0]) if place in shown else None)
                for place in sorted(places, key=lambda place: place not in shown)[:LISTED]
            ],
        )
        for code, places in sorted(by_code.items(), key=lambda entry: -len(entry[1]))
    ]


def _group_pairs(pairs: Sequence[ReportPair], pictures: int) -> list[_Section]:
    """A section for each kind of pair, in the order in which they come: the gravest first."""
    drawable = [place for place, pair in enumerate(pairs) if pair.first.thumbnail and pair.second.thumbnail]
    chosen = choose_examples([pairs[place].kind for place in drawable], pictures)
    shown = {drawable[place] for place in chosen}
    by_kind: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        by_kind.setdefault(pair.kind, []).append(place)
    return [
        _Section(
            title_of(kind),
            len(places),
            explanation=explain(kind),
            couples=[
                _Couple(pairs[place], _embed_both(pairs[place]) if place in shown else (None, None))
                for place in sorted(places, key=lambda place: place not in shown)[:LISTED]
            ],
        )
        for kind, places in by_kind.items()
    ]


def _embed_both(pair: ReportPair) -> tuple[str | None, str | None]:
    return _embed(pair.first), _embed(pair.second)


def _embed(image: ReportImage) -> str | None:
    """The thumbnail as a data URI, None if there is none or it is no thumbnail's size."""
    if image.thumbnail is None or len(image.thumbnail) > HEAVIEST:
        return None
    return f"data:image/jpeg;base64,{b64encode(image.thumbnail).decode()}"


def _draw_charts(report: DatasetReport) -> Iterator[tuple[str, Markup]]:
    """Titles and charts of what is known."""
    found = report.summary
    for noun, description, counts in _list_counts(found):
        if len(counts) > 1:
            yield f"Images by {noun}", draw_bars(f"Images by {noun}", description, list(counts.items())[:BARS])
    if found.pixels:
        yield _draw_intensities(found)
    if found.objects:
        yield _draw_object_sizes(found)
    if found.classes:
        names = dict(enumerate(report.class_names))
        bars = [(names.get(number, f"class {number}"), total.pixels) for number, total in found.classes.items()]
        yield "Pixels by class", draw_bars("Pixels by class", "How many pixels each class has", bars[:BARS])


def _list_counts(found: DatasetSummary) -> tuple[tuple[str, str, dict[str, int]], ...]:
    """What images are counted by: a noun, what is counted, and the counts."""
    return (
        ("split", "How many images are in each split", _rename(found.splits, "no split")),
        ("size in px", "How many images have each width × height, in pixels", found.sizes),
        ("µm per pixel", "How many images have each size of a pixel, in µm", _rename(found.resolutions, "unknown")),
        ("file format", "How many images are in each file format", found.formats),
        ("illumination", "How many images look like fluorescence or brightfield", found.illuminations),
    )


def _rename(counts: dict[str, int], absent: str) -> dict[str, int]:
    return {absent if name == NONE else name: count for name, count in counts.items()}


def _draw_intensities(found: DatasetSummary) -> tuple[str, Markup]:
    title, step = "Brightness of pixels", 256 / len(found.intensities[0])
    ticks = [(level / step, str(level)) for level in (0, 64, 128, 192)] + [(255 / step, "255")]
    description = "Share of the pixels at each grey level from 0, black, to 255, white; heights by the square root"
    return title, draw_lines(title, description, found.intensities, ticks)


def _draw_object_sizes(found: DatasetSummary) -> tuple[str, Markup]:
    """Columns from the first to the last size that occurs."""
    title = "Object sizes in pixels"
    used = [place for place, count in enumerate(found.object_sizes) if count]
    first, last = used[0], used[-1] + 1
    ticks = [(place - first, f"{2**place:,}") for place in range(first, last + 1, max((last - first) // 6, 1))]
    description = f"How many of the {found.objects:,} objects have which area; each column is twice the size before"
    return title, draw_columns(title, description, found.object_sizes[first:last], ticks)
