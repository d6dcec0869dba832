"""ARRANGE: from the files of a dataset version to the images that are to be worked on."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from services.worker.context import Context
from services.worker.stages.version_files import VersionFiles
from shared.annotations import (
    FoundKind,
    agree,
    count_pages,
    distinct,
    find_background,
    find_kind,
    read_text,
    read_values,
)
from shared.annotations.values import Values
from shared.domain import datasets
from shared.domain.blocks import Outcome
from shared.domain.manifests import NewImage
from shared.domain.orders import versions
from shared.errors import Rejected
from shared.examination.portraits import join
from shared.execution import Work
from shared.imaging.steps.sets import split
from shared.layouts import Arrangement, Entry, Layout, MaskKind, Split, arrange, detect
from shared.layouts.documents import clean
from shared.schemas.step_kinds import SplitStep
from shared.schemas.steps import read_steps
from shared.tables import DatasetFile, DatasetImage
from shared.tables.base import Json
from shared.tables.datasets import FileRole
from shared.tables.jobs import JobKind

T = TypeVar("T")

MOST_PAGES = 250_000  # of all stacks and arrays of a version: each becomes an image with a row of its own
MADE = re.compile(r"(_r\d+_c\d+)?(_v\d\d)?$")  # what names of tiles and variants end with
MORE = 3  # numbers that are more than those of a binary mask
SAMPLE = 16  # masks that are looked at to tell what their numbers mean
FROM_NUMBERS = {"auto", "instances", "binary", "classes"}  # kinds of masks that an order may tell apart


def arrange_version(context: Context, work: Work) -> Outcome:
    """Raises Rejected if there is no image among the files."""
    if work.claim.job.kind is JobKind.INGEST:
        return _arrange_files(context, work)
    return _arrange_images(context, work)


def _arrange_files(context: Context, work: Work) -> Outcome:
    """Of an ingest: the images and masks that the files are."""
    job = work.claim.job
    parameters = job.spec["parameters"]
    files = context.list_files(job)
    names = [name for name, file in files.items() if file.role is not FileRole.DERIVED]
    layout, why = _choose_layout(names, parameters["layout"])
    contents = _Contents(context, work)
    arrangement = arrange(layout, names, contents)
    sizes = [_count_bytes(entry, files, contents) for entry in arrangement.entries]
    ordered: MaskKind = parameters["masks"]
    told = tell_masks(arrangement.entries, contents, ordered)
    if not arrangement.entries:
        raise Rejected(
            f"no image was found among the {len(names)} files, read as {layout.value}: {_first_reason(arrangement)}; "
            "order the ingest with another layout, or name the files as one of the layouts asks"
        )
    entries = [told.apply(entry, parameters["splits"]) for entry in arrangement.entries]
    classes = list(arrangement.classes)
    found = [
        NewImage(entry.name, size, {"entry": entry.as_json(), "classes": classes})
        for entry, size in zip(entries, sizes, strict=True)
    ]
    result = {
        "layout": layout.value,
        "why": why,
        "images": len(found),
        "ignored": [list(pair) for pair in arrangement.ignored],
        "notes": arrangement.notes,
        "classes": classes,
        "masks": told.kind,
    }
    return Outcome(result=clean(result), found=found)


def _choose_layout(names: Sequence[str], ordered: str) -> tuple[Layout, str]:
    """The layout, and how it was chosen."""
    if ordered != "auto":
        return Layout(ordered), "The layout was given in the order."
    detection = detect(names)
    return detection.layout, detection.why


class ReadsValues(Protocol):
    """What gives the numbers of a mask (H, W); raises Rejected if it cannot be read."""

    def values(self, name: str, page: int | None) -> Values:
        """Of a file, or of a page of it."""
        ...


@dataclass(frozen=True)
class Told:
    """What the numbers of masks mean. What was `ordered` counts more than the layout, and that more than `kind`."""

    kind: MaskKind
    ordered: bool = False
    background: int | None = None

    def apply(self, entry: Entry, splits: Mapping[str, Split]) -> Entry:
        """The entry as it is to be read: what its mask means, and its split by its name or folder."""
        if entry.mask_kind == "auto" or (self.ordered and entry.mask_kind in FROM_NUMBERS):
            entry = replace(entry, mask_kind=self.kind)
        if entry.mask_kind == "binary":
            entry = replace(entry, background=self.background)
        return _put_into_split(entry, splits)


def tell_masks(entries: Sequence[Entry], contents: ReadsValues, ordered: MaskKind) -> Told:
    """What the numbers of the masks mean, where neither order nor layout says: told from some of them.

    One kind for all, as a mask with a single object looks like a binary one; and one background, as a mask without
    objects does not tell. Masks whose numbers are those of a picture have no say.
    """
    if ordered not in ("auto", "binary"):
        return Told(ordered, ordered=True)
    asked = {"auto", "binary"} if ordered == "auto" else FROM_NUMBERS
    kinds: list[FoundKind] = []
    numbers: set[int] = set()
    for entry in _sample([entry for entry in entries if entry.mask_kind in asked and len(entry.masks) == 1]):
        with suppress(Rejected):  # it will be rejected by name when it is examined
            values = contents.values(entry.masks[0], entry.mask_page)
            kind, soft = find_kind(values)
            if soft:
                continue
            numbers.update(distinct(values)[:MORE].tolist())
            if entry.mask_kind == "auto":
                kinds.append(kind)
    if ordered != "auto":
        return Told(ordered, ordered=True, background=find_background(numbers))
    return Told(agree(kinds) if kinds else "auto", background=find_background(numbers))


def _sample(entries: Sequence[Entry]) -> Sequence[Entry]:
    return entries[:: max(len(entries) // SAMPLE, 1)]


def _put_into_split(entry: Entry, splits: Mapping[str, Split]) -> Entry:
    wanted = [
        (len(place), side)
        for place, side in splits.items()
        if place in (entry.name, entry.image) or entry.image.startswith(f"{place.rstrip('/')}/")
    ]
    return replace(entry, split=max(wanted)[1]) if wanted else entry  # the most exact one


def _count_bytes(entry: Entry, files: Mapping[str, DatasetFile], contents: "_Contents") -> int:
    """That are read for the entry: a share of the file, if it is one of many in it."""
    image = sum(files[name].bytes for name in entry.image_files)
    if entry.page is not None:
        image //= max(contents.pages(entry.image), 1)
    shared = entry.mask_kind in ("coco", "pannuke") or entry.mask_page is not None
    return image if shared else image + sum(files[name].bytes for name in entry.mask_files)


def _first_reason(arrangement: Arrangement) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in arrangement.ignored[:3]) or "there are no files"


class _Contents:
    """What names do not tell, from the files themselves. Each is fetched for its question only, and asked once."""

    def __init__(self, context: Context, work: Work) -> None:
        self._context, self._work = context, work
        self._pages: dict[str, int] = {}

    def pages(self, name: str) -> int:
        if name not in self._pages:
            found = self._ask(name, count_pages)
            if sum(self._pages.values()) + found > MOST_PAGES:
                raise Rejected(
                    f"{name}: its header speaks of {found:,} images, and a version has {MOST_PAGES:,} of stacks and "
                    "arrays at most; export it again if that is wrong, or make several versions"
                )
            self._pages[name] = found
        return self._pages[name]

    def text(self, name: str) -> bytes:
        return self._ask(name, read_text)

    def values(self, name: str, page: int | None) -> Values:
        """The numbers of a mask. Raises Rejected."""
        return self._ask(name, lambda path, called: read_values(path, called, page=page))

    def _ask(self, name: str, read: Callable[[Path, str], T]) -> T:
        with VersionFiles(self._context, self._work) as files:
            return read(files.fetch([name])[name], name)


def _arrange_images(context: Context, work: Work) -> Outcome:
    """Of a preprocess: the accepted images of the version, with their splits."""
    job = work.claim.job
    with context.sessions() as session, session.begin():
        version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
        images = versions.accepted(session, version)
        files = datasets.files_by_name(session, job.workspace_id, version.id)
    sides = split_images(images, job.spec["parameters"]["steps"])
    stems = find_stems([image.name for image in images])
    found = [
        NewImage(
            image.name,
            _bytes_of(image, files),
            {**_describe(image, files), "split": sides.get(image.name), "stem": stems[image.name]},
        )
        for image in images
    ]
    return Outcome(result={"layout": version.layout, "images": len(found)}, found=found)


def split_images(images: Sequence[DatasetImage], steps: Sequence[Json]) -> dict[str, str]:
    """The split of each image: as the step says, which parts nothing that ingest found to be alike; or as it was."""
    wanted = [step for step in read_steps(steps) if isinstance(step, SplitStep)]
    if wanted:
        return dict(split([i.name for i in images], {i.name: i.group for i in images}, wanted[0], _find_alike(images)))
    return {image.name: image.split for image in images if image.split is not None}


def _find_alike(images: Sequence[DatasetImage]) -> list[list[str]]:
    """Names of images that are linked by what they are related to, and by their groups."""
    shared: dict[tuple[str, str], list[int]] = {}
    for number, image in enumerate(images):
        links = [("related", name) for name in image.source.get("related", [])]
        for link in [*links, ("group", image.group)] if image.group is not None else links:
            shared.setdefault(link, []).append(number)
    pairs = ((numbers[0], number) for numbers in shared.values() for number in numbers)
    return [[images[number].name for number in numbers] for numbers in join(pairs)]


def find_stems(names: Sequence[str]) -> dict[str, str]:
    """What the names of outputs begin with: an image's name without suffix and without folders called `images`.

    Where two would be one, each keeps its whole name, or gets a number; so does one that looks like a tile or a variant
    of another.
    """
    short = {name: _shorten(PurePosixPath(name)) for name in names}
    times = Counter(short.values())
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names):
        wished = [short[name]] if times[short[name]] == 1 else []
        options = chain(wished, [name], (f"{name}-{number}" for number in count(2)))
        stems[name] = next(
            option for option in options if option not in taken and MADE.sub("", option) not in times.keys() - {option}
        )
        taken.add(stems[name])
    return stems


def _shorten(path: PurePosixPath) -> str:
    return "/".join([*(part for part in path.parts[:-1] if part != "images"), path.stem])


def _bytes_of(image: DatasetImage, files: Mapping[str, DatasetFile]) -> int:
    names = [name for name in (image.file, *image.parts, image.mask, image.types) if name in files]
    return sum(files[name].bytes for name in names)


def _describe(image: DatasetImage, files: Mapping[str, DatasetFile]) -> Json:
    return {
        "file": image.file,
        "parts": image.parts,
        "mask": image.mask,
        "mask_kind": image.mask_kind,
        "types": image.types,
        "reference": image.source.get("reference"),
        "related": image.source.get("related", []),
        "classes": image.classes,
        "group": image.group,
        "mpp": image.mpp,
        "digest": " ".join(str(files[name].sha256) for name in (image.file, *image.parts) if name in files),
    }
