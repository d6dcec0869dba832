"""Layouts with many images in a file: the ISBI challenge's stacks, and PanNuke's arrays."""

import re
from dataclasses import replace

from shared.errors import Rejected
from shared.layouts.entries import Arrangement, Contents, Entry, MaskKind, Split
from shared.layouts.names import (
    ARRAYS,
    STACKS,
    base,
    count,
    neutral_folder,
    split_in,
    split_of,
    stem,
    suffix,
    without_role,
)
from shared.layouts.parts import Files

PANNUKE_CLASSES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")  # planes 0 … 4; 5 is background
_STACK = re.compile(r"^(?:(?P<head>.*)[ _.-])?(?P<kind>volume|labels?)$", re.I)
_ARRAY = re.compile(r"^(?:(?P<head>.*)[ _.-])?(?P<kind>images|masks|types)$", re.I)
_FOLD = re.compile(r"fold[ _-]?(\d+)", re.I)
_PUBLISHED: dict[str, Split] = {"1": "train", "2": "validation", "3": "test"}  # Gamper et al. 2020, first of three
_Sets = dict[tuple[str, str], dict[str, str]]  # what belongs together → kind of file → its name


def arrange_isbi(files: Files, contents: Contents) -> Arrangement:
    """`train-volume.tif` with `train-labels.tif`: page by page, all of a stack in one group."""
    entries: list[Entry] = []
    ignored: list[tuple[str, str]] = []
    for together in _find_sets(files, _STACK, STACKS).values():
        labels = together.get("labels") or together.get("label")
        made, reasons = _pair_pages(together.get("volume"), labels, contents, kind="binary")
        entries += made
        ignored += reasons
    return Arrangement(entries, ignored)


def arrange_pannuke(files: Files, contents: Contents) -> Arrangement:
    """`images.npy` with `masks.npy` beside it or in the folder of masks: patch by patch, a group for each fold.

    Folds 1, 2 and 3 together are split as first published: train, validation and test.
    """
    sets = _find_sets(files, _ARRAY, ARRAYS)
    names = [together["images"] for together in sets.values() if "images" in together]
    published = {_fold(name) for name in names} == set(_PUBLISHED)
    entries: list[Entry] = []
    ignored: list[tuple[str, str]] = []
    for together in sets.values():
        made, reasons = _pair_pages(together.get("images"), together.get("masks"), contents, kind="pannuke")
        if published:
            made = [replace(entry, split=_PUBLISHED[str(_fold(entry.image))]) for entry in made]
        entries += made
        ignored += reasons
        if "types" in together:
            ignored.append((together["types"], "the patches' tissues; images and masks are read without"))
    return Arrangement(entries, ignored, classes=PANNUKE_CLASSES)


def _find_sets(files: Files, pattern: re.Pattern[str], suffixes: tuple[str, ...]) -> _Sets:
    sets: _Sets = {}
    for name in files.names:
        match = pattern.match(stem(name))
        if match and suffix(name) in suffixes and name not in files.parts:
            key = without_role(name), (match["head"] or "").lower()
            sets.setdefault(key, {}).setdefault(match["kind"].lower(), name)
    return sets


def _pair_pages(
    images: str | None, masks: str | None, contents: Contents, *, kind: MaskKind
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """An entry for each image of a file; masks are left out if there is not one for each."""
    if images is None:
        return [], [(masks, "masks without images: no file beside it holds the images")] if masks else []
    try:
        pages = contents.pages(images)
    except Rejected as error:
        return [], [(name, str(error)) for name in (images, masks) if name]
    if pages == 0:
        return [], [(name, f"{images} holds no images") for name in (images, masks) if name]
    group = "/".join(filter(None, (neutral_folder(images), _head(images))))
    split = split_of(images) or split_in(stem(images))
    entries = [Entry(f"{images}/{page:04d}", images, page, split=split, group=group) for page in range(pages)]
    reason = _why_not(masks, contents, pages=pages, images=images) if masks is not None else None
    if masks is None or reason is not None:
        return entries, [(str(masks), reason)] if reason is not None else []
    return [replace(entry, masks=(masks,), mask_page=entry.page, mask_kind=kind) for entry in entries], []


def _why_not(masks: str, contents: Contents, *, pages: int, images: str) -> str | None:
    """Why these masks are not those of the images."""
    try:
        there = contents.pages(masks)
    except Rejected as error:
        return str(error)
    if there != pages:
        return f"{count(there, 'mask')}, but {count(pages, 'image')} in {images}: they do not belong together"
    return None


def _head(name: str) -> str:
    """What tells a stack from others in its folder; a stack called only by its kind is its folder."""
    return base(name) if suffix(name) in STACKS else ""


def _fold(name: str) -> str | None:
    found = _FOLD.search(name)
    return found[1].lstrip("0") if found else None
