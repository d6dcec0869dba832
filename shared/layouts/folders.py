"""Layouts told by their folders: the Data Science Bowl's, and the Cell Tracking Challenge's."""

import re
from collections import defaultdict
from collections.abc import Mapping

from shared.layouts.entries import Arrangement, Contents, Entry
from shared.layouts.names import STACKS, base, is_image, neutral_folder, parent, stem, suffix
from shared.layouts.parts import Files

_FRAME = re.compile(r"^t?(\d+)$", re.I)
_SEGMENTED = re.compile(r"^man_seg(\d+)$", re.I)
_SLICE = re.compile(r"^man_seg_(\d+)_(\d+)$", re.I)
_SEQUENCE = re.compile(r"^(\d+)_(GT|ST|ERR_SEG|RES)$", re.I)


def arrange_dsb(files: Files, contents: Contents) -> Arrangement:  # noqa: ARG001  # names tell all
    """A folder for each image: `x/images/x.png`, and a mask for each object in `x/masks/`."""
    images, masks = _by_folder(files, "images"), _by_folder(files, "masks")
    entries: list[Entry] = []
    ignored: list[tuple[str, str]] = []
    for folder, objects in masks.items():
        inside = images.get(folder, [])
        if len(inside) != 1:
            reason = f"{folder or 'the dataset'} has {len(inside)} images; masks of single objects need exactly one"
            ignored += [(name, reason) for name in objects]
            continue
        whole = len(objects) == 1 and stem(objects[0]) == stem(inside[0])  # a mask of the image, not of an object
        kind = "auto" if whole else "merge"
        entries.append(Entry(inside[0], inside[0], masks=tuple(objects), mask_kind=kind))  # type: ignore[arg-type]
    return Arrangement(entries, ignored)


def _by_folder(files: Files, role: str) -> Mapping[str, list[str]]:
    """Rasters in folders called `role`, by the folder above these."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in files.names:
        if base(parent(name)).lower() == role and is_image(name) and name not in files.parts:
            found[parent(parent(name))].append(name)
    return found


def arrange_ctc(files: Files, contents: Contents) -> Arrangement:  # noqa: ARG001  # names tell all
    """`01/t000.tif` with `01_GT/SEG/man_seg000.tif`, or with `01_ST/SEG/man_seg000.tif` where there is no other."""
    frames: dict[tuple[str, int], str] = {}
    for name in files.names:
        number = _FRAME.match(stem(name))
        if number and suffix(name) in STACKS and base(parent(name)).isdigit():
            frames.setdefault((parent(name), int(number[1])), name)
    truths: dict[str, str] = {}
    ignored: list[tuple[str, str]] = []
    for name in sorted(files.names, key=lambda file: ("_ST/" in file.upper(), file)):
        sequence = _sequence_of(name)
        if sequence is None:
            continue
        image, reason = _find_frame(name, sequence, frames)
        if image is not None and image in truths:
            reason = f"a second mask for {image}: {truths[image]} is taken"
        elif image is not None:
            truths[image] = name
            continue
        ignored.append((name, reason))
    entries = [
        Entry(name, name, masks=(truths[name],), mask_kind="instances", group=_group(name))
        if name in truths
        else Entry(name, name, group=_group(name))
        for name in frames.values()
    ]
    return Arrangement(entries, ignored)


def _group(frame: str) -> str:
    return "/".join(filter(None, (neutral_folder(parent(frame)), base(parent(frame)))))


def _sequence_of(name: str) -> str | None:
    """The folder of the images that a file below `01_GT`, `01_ST`, … belongs to."""
    folders = name.split("/")[:-1]
    for index, folder in enumerate(folders):
        match = _SEQUENCE.match(folder)
        if match:
            return "/".join([*folders[:index], match[1]])
    return None


def _find_frame(name: str, sequence: str, frames: Mapping[tuple[str, int], str]) -> tuple[str | None, str]:
    """The image that this truth outlines, or None and the reason."""
    if _SLICE.match(stem(name)):
        return None, "outlines in one slice of a 3-D stack; images of one plane are taken: save the slices as images"
    number = _SEGMENTED.match(stem(name))
    if base(parent(name)).upper() != "SEG" or number is None or suffix(name) not in STACKS:
        return None, "marks or tracks of cells, not their outlines; outlines are SEG/man_seg*.tif"
    image = frames.get((sequence, int(number[1])))
    return image, f"a mask without an image: {sequence} has no frame {number[1]}"
