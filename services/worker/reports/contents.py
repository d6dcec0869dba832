"""What a report tells. The stage that reports fills it; page and JSON are drawn from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.examination.summary import DatasetSummary
from shared.schemas.manifests import Problem

CONTACTS = 48  # pictures of the contact sheet
# Pictures that the page shows beside the findings, 60 in all: of rejected images, of pairs (two each), of warnings.
REJECTED, LEAKS, WARNINGS, DUPLICATES = 16, 8, 16, 6


@dataclass(frozen=True)
class ReportImage:
    """An image of the version, as far as it is known."""

    name: str  # what the user calls it
    split: str | None = None
    height: int | None = None  # px
    width: int | None = None  # px
    problems: Sequence[Problem] = ()
    thumbnail: bytes | None = None  # JPEG; with the outlines of its mask, where it has one


@dataclass(frozen=True)
class ReportPair:
    """Two images that have something in common which they should not."""

    kind: str  # same_image, near_duplicate, abutting, same_group or same_source
    text: str  # in words for the user
    first: ReportImage
    second: ReportImage
    similarity: float | None = None  # 0 … 1


@dataclass(frozen=True)
class DatasetReport:
    """Everything about a version. Pictures are few: `choose_examples` says which; the lists may be long."""

    dataset: str
    version: int | None  # its number; None of one that a job is about to make
    created: str  # date and time, ISO 8601
    layout: str  # empty of what no layout was told for: a version that preprocess made
    detected: str  # how the layout was told, a sentence
    summary: DatasetSummary
    parent: str | None = None  # the version it was made from, such as cohort-7@2
    steps: Sequence[str] = ()  # what was done to the parent's images, in order
    class_names: Sequence[str] = ()  # from 0, the background
    masks: Mapping[str, int] = field(default_factory=dict)  # how masks were read → accepted images
    ignored: Sequence[tuple[str, str]] = ()  # files that no image uses, and why
    ignored_masks: int = 0  # of these, by their names
    notes: Sequence[str] = ()  # what was resolved in doubt, or left out of masks
    rejected: Sequence[ReportImage] = ()
    warned: Sequence[ReportImage] = ()
    leaks: Sequence[ReportPair] = ()
    duplicates: Sequence[ReportPair] = ()
    contacts: Sequence[ReportImage] = ()  # accepted images chosen evenly, with outlines

    @property
    def headline(self) -> str:
        """Such as: 402 images accepted, 3 rejected, 5 with warnings."""
        found = self.summary
        noun = "image" if found.accepted == 1 else "images"
        return f"{found.accepted:,} {noun} accepted, {found.rejected:,} rejected, {found.warned:,} with warnings"


def choose_examples(codes: Sequence[str], limit: int) -> list[int]:
    """Which findings to show pictures of: places in `codes`, one of each code in turn, so that none hides the rest."""
    by_code: dict[str, list[int]] = {}
    for place, code in enumerate(codes):
        by_code.setdefault(code, []).append(place)
    rounds = [
        (turn, order, place) for order, places in enumerate(by_code.values()) for turn, place in enumerate(places)
    ]
    return sorted(place for _, _, place in sorted(rounds)[:limit])


def choose_contacts(count: int, limit: int = CONTACTS) -> list[int]:
    """Which of `count` accepted images the contact sheet shows: evenly spread, all of a few."""
    shown = min(count, limit)
    return [(2 * place + 1) * count // (2 * shown) for place in range(shown)]
