"""Layouts whose masks are polygons in JSON: COCO, and GeoJSON as QuPath exports it."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import Rejected
from shared.layouts.documents import short_name, walk
from shared.layouts.entries import Arrangement, Contents, Entry, Split
from shared.layouts.names import base, is_image, parent, split_in, split_of, stem, suffix, without_role
from shared.layouts.parts import Files

_CLASS = re.compile(rb'"classification"\s*:\s*\{[^{}]*?"name"\s*:\s*"((?:[^"\\]|\\.){1,200})"')

_Tail = tuple[str, Split | None]  # the last parts of a path, and a split


def arrange_coco(files: Files, contents: Contents) -> Arrangement:
    """Images that JSON files list by name. A name fits a path that ends with it, if it is the only one."""
    images = [name for name in files.names if is_image(name) or name in files.parts]
    paths = _Paths(images)
    entries: dict[str, Entry] = {}
    ignored: list[tuple[str, str]] = []
    notes: list[str] = []
    classes: set[str] = set()
    for name in files.names:
        if suffix(name) != ".json":
            continue
        try:
            listed, categories = _read_lists(contents.text(name), name)
        except Rejected as error:
            ignored.append((name, str(error)))
            continue
        found = [(image, item) for item in listed if (image := paths.find(str(item.get("file_name")), name))]
        new = {image: _entry(image, item, name) for image, item in reversed(found) if image not in entries}
        entries |= new
        if not new:
            ignored.append((name, _why_unused(listed, found)))
            continue
        classes |= categories
        missing = len(listed) - len(found)
        if missing:
            notes.append(f"{name}: of the {len(listed):,} images that it lists, {missing:,} are not among the files")
    return Arrangement(list(entries.values()), ignored, notes, tuple(sorted(classes)))


def _read_lists(content: bytes, name: str) -> tuple[list[dict[str, Any]], set[str]]:
    """The images that a COCO file lists, and the names of its categories."""
    images: list[dict[str, Any]] = []
    categories: set[str] = set()
    for key, item in walk(content, name):
        if key == "images" and isinstance(item, dict):
            images.append(item)
        elif key == "categories" and isinstance(item, dict) and "name" in item:
            categories.add(short_name(item["name"]))
    return images, categories


def _entry(image: str, item: Mapping[str, Any], annotations: str) -> Entry:
    split = split_of(image) or split_of(annotations) or split_in(stem(annotations))
    return Entry(image, image, masks=(annotations,), mask_kind="coco", split=split, reference=str(item.get("id")))


def _why_unused(listed: Sequence[object], found: Sequence[object]) -> str:
    if found:
        return "another annotation file lists the same images"
    return f"none of the {len(listed):,} images that it lists is among the files" if listed else "JSON, but not COCO's"


class _Paths:
    """Paths of images by how they may be called elsewhere."""

    def __init__(self, images: Sequence[str]) -> None:
        self._images = images
        self._known = set(images)
        self._by_tail: dict[int, dict[_Tail, list[str]]] = {}  # of so many parts

    def find(self, called: str, annotations: str) -> str | None:
        """The image that the file `annotations` calls so."""
        called = called.replace("\\", "/").lstrip("./")
        beside = f"{parent(annotations)}/{called}".lstrip("/")
        if beside in self._known:
            return beside
        tail = called if self._find_ending(called, None) else base(called)
        fitting = self._find_ending(tail, None)
        split = split_of(annotations) or split_in(stem(annotations))
        if len(fitting) > 1 and split is not None:
            fitting = self._find_ending(tail, split)
        return fitting[0] if len(fitting) == 1 else None

    def _find_ending(self, tail: str, split: Split | None) -> list[str]:
        """Of the paths that end so, and are in that split if one is named, two at most: more are as doubtful."""
        parts = tail.count("/") + 1
        if parts not in self._by_tail:
            self._by_tail[parts] = self._sort(parts)
        return self._by_tail[parts].get((tail, split), [])

    def _sort(self, parts: int) -> dict[_Tail, list[str]]:
        found: dict[_Tail, list[str]] = defaultdict(list)
        for path in self._images:
            ends = path.split("/")[-parts:]
            for split in {None, split_of(path) or split_in(parent(path))} if len(ends) == parts else ():
                known = found["/".join(ends), split]
                if len(known) < 2:
                    known.append(path)
        return dict(found)


def arrange_geojson(files: Files, contents: Contents) -> Arrangement:
    """`x.svs` with `x.geojson` or `x.svs.geojson`, beside it or in a folder of annotations."""
    images = _by_called(files)
    entries: dict[str, Entry] = {}
    ignored: list[tuple[str, str]] = []
    classes: set[str] = set()
    for name in (name for name in files.names if suffix(name) == ".geojson"):
        image = images.get((without_role(name), stem(name)))
        if image is None:
            ignored.append((name, f"annotations without an image: no image is called {stem(name)}"))
        elif image in entries:
            ignored.append((name, f"a second mask for {image}: {entries[image].masks[0]} is taken"))
        else:
            try:
                classes |= _classes_in(contents.text(name))
                entries[image] = Entry(image, image, masks=(name,), mask_kind="geojson")
            except Rejected as error:
                ignored.append((name, str(error)))
    return Arrangement(list(entries.values()), ignored, classes=tuple(sorted(classes)))


def _by_called(files: Files) -> dict[tuple[str, str], str]:
    """Images by where they meet their annotations, and by their name with and without suffix."""
    images: dict[tuple[str, str], str] = {}
    for name in files.names:
        if is_image(name) or name in files.parts:
            for called in (stem(name), base(name)):
                images.setdefault((without_role(name), called), name)
    return images


def _classes_in(content: bytes) -> set[str]:
    """Names of the classes that a GeoJSON mentions; found without building the document, which may be large."""
    quoted = {match[1] for match in _CLASS.finditer(content)}
    return {
        short_name(name) for _, name in walk(b"[" + b",".join(b'"%b"' % name for name in quoted) + b"]", "its classes")
    }
