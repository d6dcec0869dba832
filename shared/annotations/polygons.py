"""Annotation files of polygons: COCO's, and GeoJSON as QuPath writes it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.annotations.outlines import Outline, Shape, Stamp, to_ring
from shared.annotations.run_lengths import uncompress_runs
from shared.annotations.shapes import Shapes
from shared.errors import Rejected
from shared.layouts.documents import short_name, walk

LARGEST_JSON = 512 * 2**20  # bytes
MOST_RUNS = 50_000_000  # of one object
REGIONS = ("annotation", "tile", "tma_core", "root")  # QuPath's kinds of objects that may surround the cells
MOST_CLASSES = 255
_ASKED = ("id", "iscrowd", "category_id", "segmentation")  # of COCO's objects


def read_text(path: Path, name: str) -> bytes:
    """The whole of a JSON file. Raises Rejected if it is larger than what is taken."""
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise Rejected(
            f"{name}: {size / 2**20:,.0f} MB of JSON, {LARGEST_JSON // 2**20} MB are taken; export fewer objects a file"
        )
    return path.read_bytes()


def read_geojson(path: Path, name: str, classes: Sequence[str] = ()) -> Shapes:
    """The polygons of a GeoJSON, in px of the full resolution.

    Where QuPath has exported cells or detections, its annotations, tiles and cores are the regions around them, and
    left out. Points and lines are left out, too. Numbers of classes are their places in `classes`, from 1; names that
    are missing there follow in their order.

    Raises:
        Rejected: no GeoJSON, or a polygon of it is none.
    """
    features = list(_find_features(path, name))
    kinds = {kind for _, kind, _ in features}
    cells = any(kind not in REGIONS for kind in kinds if kind is not None)
    regions = [shape for shape, kind, _ in features if cells and kind in REGIONS]
    kept = [(shape, called) for shape, kind, called in features if not (cells and kind in REGIONS)]
    drawn = [(shape, called) for shape, called in kept if shape is not None]
    numbers = _number_classes({called for _, called in drawn if called}, classes, name)
    notes = []
    if regions:
        notes.append(f"regions around the cells, left out: {len(regions)}")
    if len(drawn) < len(kept):
        notes.append(f"points or lines, left out: {len(kept) - len(drawn)}")
    nameless = sum(called is None for _, called in drawn)
    if numbers and nameless:
        notes.append(f"objects without a class: {nameless}")
    shapes = [Outline(shape, numbers[called] if called else 0) for shape, called in drawn]
    return Shapes(name, shapes, {number: called for called, number in numbers.items()}, tuple(notes))


_Polygons = tuple[tuple[np.ndarray[Any, np.dtype[np.float64]], ...], ...]


def _find_features(path: Path, name: str) -> Iterator[tuple[_Polygons | None, str | None, str | None]]:
    """Of each feature its polygons (None for points and lines), QuPath's kind of object, and the name of its class."""
    alone: dict[str, Any] = {}  # the members of a file that is a single feature
    for key, item in walk(read_text(path, name), name):
        if key in ("features", "") and isinstance(item, dict):
            yield _read_feature(item, name)
        elif isinstance(item, dict):
            alone[key] = item
    if "geometry" in alone:
        yield _read_feature(alone, name)


def _read_feature(feature: Mapping[str, Any], name: str) -> tuple[_Polygons | None, str | None, str | None]:
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    kind = properties.get("objectType", properties.get("object_type"))
    classification = properties.get("classification")
    called = classification.get("name") if isinstance(classification, dict) else classification
    geometry = feature.get("geometry")
    return (
        _read_geometry(geometry if isinstance(geometry, dict) else {}, name),
        str(kind).lower() if kind is not None else None,
        short_name(called) if isinstance(called, str) and called else None,
    )


def _read_geometry(geometry: Mapping[str, Any], name: str) -> _Polygons | None:
    coordinates, kind = geometry.get("coordinates"), geometry.get("type")
    try:
        if kind == "Polygon":
            return (tuple(to_ring(ring) for ring in coordinates or ()),) if coordinates else None
        if kind == "MultiPolygon":
            return tuple(tuple(to_ring(ring) for ring in polygon) for polygon in coordinates or () if polygon) or None
    except (ValueError, TypeError, OverflowError) as error:
        raise Rejected(f"{name}: a {kind} is damaged ({error}); export it again") from error
    return None


@dataclass(frozen=True)
class CocoFile:
    """A COCO file, taken apart by image."""

    name: str
    sizes: Mapping[str, tuple[int, int]]  # id of the image → (height, width) where the file tells
    objects: Mapping[str, list[dict[str, Any]]]
    categories: Mapping[str, str]  # id → name


def read_coco(file: CocoFile, image: str, *, size: tuple[int, int], classes: Sequence[str] = ()) -> Shapes:
    """The objects that a COCO file lists for the image of this id. Crowds, which are no single objects, are left out.

    `size`: (height, width) of the image, px, for run lengths. `classes`: as for `read_geojson`.

    Raises:
        Rejected: damaged, or made for an image of another size.
    """
    name, told = file.name, file.sizes.get(image)
    if told is not None and told != size:
        raise Rejected(
            f"{name}: made for an image of {told[1]} × {told[0]} px, but it has {size[1]} × {size[0]} px; send the "
            "image that was annotated"
        )
    objects = file.objects.get(image, [])
    single = [item for item in objects if not item.get("iscrowd")]
    names = [file.categories.get(str(item.get("category_id"))) for item in single]
    numbers = _number_classes(set(file.categories.values()), classes, name)
    shapes = [
        _read_object(item, numbers.get(called or "", 0), size, name) for item, called in zip(single, names, strict=True)
    ]
    drawn = [shape for shape in shapes if shape is not None]
    counts = {
        "crowds, left out": len(objects) - len(single),
        "objects without outlines, left out": len(shapes) - len(drawn),
        "objects of a category that is not listed": names.count(None) if numbers else 0,
    }
    notes = tuple(f"{what}: {number}" for what, number in counts.items() if number)
    return Shapes(name, drawn, {number: called for called, number in numbers.items()}, notes)


def open_coco(path: Path, name: str) -> CocoFile:
    """Raises Rejected for a file that is damaged or too large."""
    sizes: dict[str, tuple[int, int]] = {}
    objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    categories: dict[str, str] = {}
    for key, item in walk(read_text(path, name), name):
        if not isinstance(item, dict):
            continue
        if key == "images" and isinstance(item.get("height"), int) and isinstance(item.get("width"), int):
            sizes[str(item.get("id"))] = item["height"], item["width"]
        elif key == "annotations":
            objects[str(item.get("image_id"))].append({key: item[key] for key in _ASKED if key in item})
        elif key == "categories":
            categories[str(item.get("id"))] = short_name(item.get("name"))
    return CocoFile(name, sizes, dict(objects), categories)


def _read_object(item: Mapping[str, Any], category: int, size: tuple[int, int], name: str) -> Shape | None:
    """An outline of one or more rings, or pixels by run lengths; None if there is neither."""
    given = item.get("segmentation")
    try:
        if isinstance(given, list):
            rings = [to_ring(ring) for ring in given if ring]
            return Outline(tuple((ring,) for ring in rings), category) if rings else None
        if isinstance(given, dict):
            return _read_runs(given, category, size)
    except (ValueError, TypeError, OverflowError) as error:
        raise Rejected(f"{name}: object {item.get('id')} is damaged ({error}); export it again") from error
    return None


def _read_runs(given: Mapping[str, Any], category: int, size: tuple[int, int]) -> Stamp:
    counts = given.get("counts")
    if not isinstance(counts, (str, list)) or len(counts) > MOST_RUNS:
        raise ValueError("its run lengths are missing or too many")
    runs = uncompress_runs(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if list(given.get("size", size)) != list(size) or min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError(f"its run lengths are not those of an image of {size[1]} × {size[0]} px")
    return Stamp(tuple(runs), *size, category)


def _number_classes(names: set[str], classes: Sequence[str], source: str) -> dict[str, int]:
    """Name → number, from 1: those of the dataset first."""
    ordered = [*classes, *sorted(names - set(classes))]
    if len(ordered) > MOST_CLASSES:
        raise Rejected(f"{source}: {len(ordered)} classes, {MOST_CLASSES} are taken; merge some")
    return {called: number for number, called in enumerate(ordered, 1)} if names or classes else {}
