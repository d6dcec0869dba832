"""ARRANGE: from the files of a dataset version to the images that are to be worked on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from services.worker.context import Context
from services.worker.stages.version_files import VersionFiles
from shared.annotations import agree, count_pages, find_kind, read_text, read_values
from shared.domain import datasets
from shared.domain.blocks import Outcome
from shared.domain.manifests import NewImage
from shared.domain.orders import versions
from shared.errors import Rejected
from shared.execution import Work
from shared.imaging.steps.sets import split
from shared.layouts import Arrangement, Entry, Layout, MaskKind, Split, arrange, detect
from shared.schemas.step_kinds import SplitStep
from shared.schemas.steps import read_steps
from shared.tables import DatasetFile, DatasetImage
from shared.tables.base import Json
from shared.tables.datasets import FileRole
from shared.tables.jobs import JobKind

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
    with VersionFiles(context, work) as local:
        contents = _Contents(local)
        arrangement = arrange(layout, names, contents)
        sizes = [_count_bytes(entry, files, contents) for entry in arrangement.entries]
        ordered: MaskKind = parameters["masks"]
        told = find_mask_kind(arrangement.entries, local) if ordered == "auto" else ordered
    if not arrangement.entries:
        raise Rejected(
            f"no image was found among the {len(names)} files, read as {layout.value}: {_first_reason(arrangement)}; "
            "order the ingest with another layout, or name the files as one of the layouts asks"
        )
    entries = [apply_order(entry, ordered, told, parameters["splits"]) for entry in arrangement.entries]
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
        "masks": told,
    }
    return Outcome(result=result, found=found)


def _choose_layout(names: Sequence[str], ordered: str) -> tuple[Layout, str]:
    """The layout, and how it was chosen."""
    if ordered != "auto":
        return Layout(ordered), "The layout was given in the order."
    detection = detect(names)
    return detection.layout, detection.why


def find_mask_kind(entries: Sequence[Entry], files: VersionFiles) -> MaskKind:
    """What the numbers of the masks mean, where neither order nor layout says: told from some of them.

    One kind for all, as a mask with a single object looks like a binary one.
    """
    open_ones = [entry for entry in entries if entry.mask_kind == "auto" and len(entry.masks) == 1]
    step = max(len(open_ones) // SAMPLE, 1)
    found = []
    for entry in open_ones[::step]:
        mask = entry.masks[0]
        with suppress(Rejected):  # it will be rejected by name when it is examined
            values = read_values(files.fetch([mask])[mask], mask, page=entry.mask_page)
            found.append(find_kind(values)[0])
    return agree(found) if found else "auto"


def apply_order(entry: Entry, ordered: MaskKind, told: MaskKind, splits: Mapping[str, Split]) -> Entry:
    """The entry as it is to be read: the kind of its mask, and its split by its name or folder.

    What was `ordered` counts more than what the layout says, and that more than what was `told` from the numbers.
    """
    if entry.mask_kind == "auto" or (ordered != "auto" and entry.mask_kind in FROM_NUMBERS):
        entry = replace(entry, mask_kind=told)
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


@dataclass
class _Contents:
    """What names do not tell, from the files themselves; each is asked once."""

    files: VersionFiles

    def __post_init__(self) -> None:
        self._pages: dict[str, int] = {}

    def pages(self, name: str) -> int:
        if name not in self._pages:
            self._pages[name] = count_pages(self.files.fetch([name])[name], name)
        return self._pages[name]

    def text(self, name: str) -> bytes:
        return read_text(self.files.fetch([name])[name], name)


def _arrange_images(context: Context, work: Work) -> Outcome:
    """Of a preprocess: the accepted images of the version, with their splits."""
    job = work.claim.job
    with context.sessions() as session, session.begin():
        version = datasets.find_version(session, job.workspace_id, versions.find_id(job))
        images = versions.accepted(session, version)
        files = datasets.files_by_name(session, job.workspace_id, version.id)
    sides = _split(images, job.spec["parameters"]["steps"])
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


def _split(images: Sequence[DatasetImage], steps: Sequence[Json]) -> dict[str, str]:
    """The split of each image: as the step says, or as it was."""
    wanted = [step for step in read_steps(steps) if isinstance(step, SplitStep)]
    if wanted:
        return dict(split([image.name for image in images], {i.name: i.group for i in images}, wanted[0]))
    return {image.name: image.split for image in images if image.split is not None}


def find_stems(names: Sequence[str]) -> dict[str, str]:
    """What the names of outputs begin with: an image's name without suffix and without folders called `images`.

    Where two would be one, each keeps its whole name.
    """
    paths = {name: PurePosixPath(name) for name in names}
    short = {
        name: "/".join([*(part for part in path.parts[:-1] if part != "images"), path.stem])
        for name, path in paths.items()
    }
    times = Counter(short.values())
    return {name: stem if times[stem] == 1 else name for name, stem in short.items()}


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
        "classes": image.classes,
        "group": image.group,
        "mpp": image.mpp,
        "digest": " ".join(str(files[name].sha256) for name in (image.file, *image.parts) if name in files),
    }
