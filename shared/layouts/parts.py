"""Images that are made of several files: folders, and slides with companions."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate

from shared.layouts.names import ROLES, SPLITS, base, litter, parent, stem, suffix

COMPANIONS = (".jpg", ".jpeg", ".opt", ".ngr", ".ini")  # of Hamamatsu's VMS and VMU
DICOM = (".dcm", ".dicom")


@dataclass(frozen=True)
class Files:
    """The files of a dataset, where an image of several files stands under one name."""

    names: list[str]  # sorted; of files, and of folders that are one image
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name → its further files
    litter: dict[str, str] = field(default_factory=dict)  # file → why it is nobody's data


def gather(names: Iterable[str]) -> Files:
    """Find litter and images of several files: OME-Zarr, MRXS, VMS, DICOM series of a folder."""
    unique = sorted(set(names))
    reasons = {name: reason for name in unique if _zarr(name) is None and (reason := litter(name)) is not None}
    rest = [name for name in unique if name not in reasons]
    parts: dict[str, tuple[str, ...]] = {}
    for find in (_find_zarr, _find_mrxs, _find_hamamatsu, _find_dicom):
        found = find([name for name in rest if name not in parts])
        taken = {part for files in found.values() for part in files}
        rest = sorted({name for name in rest if name not in taken} | found.keys())
        parts |= found
    return Files(rest, parts, reasons)


def _collect(names: Sequence[str], owner_of: Callable[[str], str | None]) -> dict[str, tuple[str, ...]]:
    owned: dict[str, list[str]] = defaultdict(list)
    for name in names:
        owner = owner_of(name)
        if owner is not None:
            owned[owner].append(name)
    return {owner: tuple(files) for owner, files in owned.items()}


def _zarr(name: str) -> str | None:
    """The outermost folder with the suffix .zarr."""
    folders = name.split("/")[:-1]
    for index, folder in enumerate(folders):
        if folder.lower().endswith(".zarr"):
            return "/".join(folders[: index + 1])
    return None


def _find_zarr(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    files = set(names)
    return {owner: parts for owner, parts in _collect(names, _zarr).items() if owner not in files}


def _find_mrxs(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """`x.mrxs` owns all that lies in the folder `x` beside it; the outermost does."""
    folders = {f"{parent(name)}/{stem(name)}".lstrip("/"): name for name in names if suffix(name) == ".mrxs"}

    if not folders:
        return {}

    @cache
    def find_above(folder: str) -> str | None:
        paths = accumulate(folder.split("/"), lambda path, part: f"{path}/{part}")
        return next((folders[path] for path in paths if path in folders), None)

    return _collect(names, lambda name: find_above(parent(name)))


def _find_hamamatsu(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """`x.vms` owns `x.opt`, `x_map2.jpg`, `x(1,0).jpg` … beside it; the longest fitting name does."""
    heads: dict[tuple[str, str], str] = {}
    for name in names:
        if suffix(name) in (".vms", ".vmu"):
            heads.setdefault((parent(name), stem(name)), name)

    if not heads:
        return {}

    def owner_of(name: str) -> str | None:
        if suffix(name) not in COMPANIONS:
            return None
        folder, called = parent(name), base(name)
        starts = (called[:length] for length in range(len(called), -1, -1))
        return next((heads[folder, start] for start in starts if (folder, start) in heads), None)

    return _collect(names, owner_of)


def _find_dicom(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Several DICOM files in a folder are one series, unless the folder is named after what all images share."""

    def owner_of(name: str) -> str | None:
        folder = parent(name)
        shared = base(folder).lower() in ROLES | SPLITS
        return folder if suffix(name) in DICOM and folder and not shared else None

    files = set(names)
    found = _collect(names, owner_of)
    return {folder: series for folder, series in found.items() if len(series) > 1 and folder not in files}
