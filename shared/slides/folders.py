"""Images of several files: what a folder holds, and which of its files is the one to open."""

from pathlib import Path

from shared.errors import Rejected
from shared.slides.dicom import is_dicom
from shared.slides.zarr import is_zarr

# Files that a slide of several parts is opened by; their names are the only sign of them, and of no other format.
MAIN = (".mrxs", ".vms", ".vmu", ".svslide")
DEPTH = 4  # folders within folders, until the image's own begins


def find_main(folder: Path, name: str) -> Path:
    """What to open of an image that came as a folder: the root of a Zarr, a series of DICOM files, or a slide's file.

    Raises:
        Rejected: it is none of these, or more than one.
    """
    place = folder
    for _ in range(DEPTH):
        entries = sorted(place.iterdir())
        if is_zarr(place) or _holds_dicom(entries):
            return place
        mains = [entry for entry in entries if entry.suffix.lower() in MAIN and entry.is_file()]
        files = mains or [entry for entry in entries if entry.is_file()]
        if len(files) == 1 and (mains or len(entries) == 1):
            return files[0]
        if files or len(entries) != 1:
            break
        place = entries[0]
    raise Rejected(
        f"{name}: a folder that is neither an OME-Zarr, nor a series of DICOM files, nor one slide with the files that "
        "belong to it; submit its images one by one"
    )


def _holds_dicom(entries: list[Path]) -> bool:
    files = [entry for entry in entries if entry.is_file() and not entry.is_symlink()]
    return bool(files) and len(files) == len(entries) and any(is_dicom(file) for file in files)
