"""What a file is for, told from the names of all files of a version. Ingest looks closer."""

from collections.abc import Iterable

from shared.layouts.names import base, ending, is_image, litter, parent, role, stem, suffix
from shared.layouts.parts import gather
from shared.tables.datasets import FileRole

# Of what is certainly no image. A file of any other suffix counts as one, so that nobody's image is passed over.
NO_IMAGE = {
    *(".json", ".geojson", ".xml", ".yaml", ".yml", ".csv", ".tsv", ".txt", ".md", ".pdf", ".html", ".xlsx"),
    *(".npy", ".npz", ".zip", ".py", ".ini", ".log", ".db"),
}


def tell(names: Iterable[str]) -> tuple[dict[str, FileRole], int]:
    """The role of each file, and how many images they are: a folder that is one image counts once."""
    listed = list(names)
    files = gather(listed)
    parts = {part for some in files.parts.values() for part in some}
    present = {(parent(name), stem(name)) for name in listed}
    roles = {name: _role(name, parts, present) for name in listed}
    folders = sum(owner not in roles for owner in files.parts)
    return roles, folders + sum(found is FileRole.IMAGE for found in roles.values())


def folders_of(names: Iterable[str]) -> set[str]:
    """Every folder that a file is in, by its path."""
    return {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}


def _role(name: str, parts: set[str], present: set[tuple[str, str]]) -> FileRole:
    if name in parts:
        return FileRole.PART
    if litter(name) is not None or (suffix(name) in NO_IMAGE and not is_image(name)):
        return FileRole.OTHER
    if "masks" in name.split("/")[:-1] or role(name) in ("mask", "classes"):
        return FileRole.MASK
    image, said = ending(stem(base(name)))
    if said in ("mask", "classes") and (parent(name), image) in present:
        return FileRole.MASK
    return FileRole.IMAGE
