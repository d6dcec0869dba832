"""Files of polygons, GeoJSON and COCO, as annotations of their image."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.annotations import Annotation, AnnotationReader, read_annotation, read_shapes
from shared.annotations.polygons import CocoFile, open_coco
from shared.errors import Rejected
from shared.imaging.tiling import Box
from shared.layouts import Entry
from tests.outlines import HOLE, SQUARE, compressed, marked, runs_of

# GeoJSON


def feature(geometry: Any, kind: str | None = None, called: str | None = None) -> dict[str, Any]:
    properties = ({"objectType": kind} if kind else {}) | ({"classification": {"name": called}} if called else {})
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def annotate(folder: Path, document: Any, *, kind: str = "geojson", classes: Sequence[str] = ()) -> Annotation:
    path = folder / "a.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    entry = Entry("a", "a.png", masks=("a.json",), mask_kind=kind, reference="7")  # type: ignore[arg-type]
    return read_annotation(entry, {"a.json": path}, height=8, width=10, classes=classes)


def test_a_polygon_may_have_holes(tmp_path: Path) -> None:
    found = annotate(tmp_path, {"type": "FeatureCollection", "features": [feature(polygon(SQUARE, HOLE))]})
    np.testing.assert_array_equal(found.labels, marked(slice(1, 5), slice(2, 8)) & ~marked(slice(2, 4), slice(4, 6)))
    assert (found.kind, found.classes) == ("instances", None)


@pytest.mark.parametrize("wrap", [lambda item: item, lambda item: [item], lambda item: {"features": [item]}])
def test_several_polygons_may_be_one_object(tmp_path: Path, wrap: Any) -> None:
    apart = {
        "type": "MultiPolygon",
        "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 1]]], [[[8, 6], [9, 6], [9, 7], [8, 7]]]],
    }
    found = annotate(tmp_path, wrap(feature(apart)))
    np.testing.assert_array_equal(found.labels, marked(slice(1), slice(1)) | marked(slice(6, 7), slice(8, 9)))


def test_classes_are_numbered_by_the_dataset_and_then_by_name(tmp_path: Path) -> None:
    other = [[0, 6], [3, 6], [3, 8], [0, 8]]
    document = [feature(polygon(SQUARE), called="Tumor"), feature(polygon(other), called="Immune cells")]
    found = annotate(tmp_path, document)
    assert found.classes is not None
    assert (found.class_names, found.classes[1, 2]) == ({1: "Immune cells", 2: "Tumor"}, 2)
    known = annotate(tmp_path, document, classes=["Stroma", "Tumor"])
    assert known.classes is not None
    assert known.class_names == {1: "Stroma", 2: "Tumor", 3: "Immune cells"}
    assert (known.classes[1, 2], known.classes[6, 0], known.classes[0, 9]) == (2, 3, 0)


def test_regions_around_cells_are_no_cells(tmp_path: Path) -> None:
    region = feature(polygon([[0, 0], [10, 0], [10, 8], [0, 8]]), kind="annotation")
    found = annotate(tmp_path, [region, feature(polygon(SQUARE), kind="cell")])
    np.testing.assert_array_equal(found.labels, marked(slice(1, 5), slice(2, 8)))
    assert found.notes == ("regions around the cells, left out: 1",)
    alone = annotate(tmp_path, [region])
    assert alone.labels is not None
    assert alone.labels.all()


def test_points_are_left_out_with_a_note(tmp_path: Path) -> None:
    found = annotate(tmp_path, [feature({"type": "Point", "coordinates": [1, 2]}), feature(polygon(SQUARE))])
    assert found.notes == ("points or lines, left out: 1",)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "the JSON is damaged or cut off"),
        (b'{"features": [{"geo', "the JSON is damaged or cut off"),
        (b'{"features": []} x', "something follows its end"),
        (b"\xff\xfe", "the JSON is damaged or cut off"),
        (b"[" * 100_000, "the JSON is damaged or cut off"),
        (json.dumps([feature(polygon([[0, 0], [1, "x"], [2, 2]]))]).encode(), "a Polygon is damaged"),
        (json.dumps([feature(polygon([[0, 0], [1e12, 1], [2, 2]]))]).encode(), "lies beyond all images"),
        (json.dumps([feature(polygon([[0, 0]]))]).encode(), "a Polygon is damaged"),
        (json.dumps([feature({"type": "MultiPolygon", "coordinates": 7})]).encode(), "a MultiPolygon is damaged"),
    ],
)
def test_damaged_polygons_are_refused_by_name_cause_and_mend(tmp_path: Path, content: bytes, cause: str) -> None:
    with pytest.raises(Rejected, match=rf"^a\.json: .*{cause}.*; export"):
        annotate(tmp_path, content)


def test_a_part_of_a_slide_too_large_to_be_held_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps([feature(polygon((np.array(SQUARE) + 500_000).tolist()))]))
    entry = Entry("x", "x.svs", masks=("x.geojson",), mask_kind="geojson")
    shapes = read_shapes(entry, {"x.geojson": path}, height=10**6, width=10**6)
    assert shapes is not None
    found = shapes.draw(Box(500_000, 500_000, 500_008, 500_010))
    np.testing.assert_array_equal(found.labels, marked(slice(1, 5), slice(2, 8)))


# COCO


def coco(*annotations: dict[str, Any], height: int = 8) -> dict[str, Any]:
    return {
        "info": {"nested": [1, {"a": []}]},
        "images": [{"id": 7, "file_name": "a.png", "height": height, "width": 10}],
        "annotations": [{"image_id": 7, "category_id": 3, "iscrowd": 0} | item for item in annotations],
        "categories": [{"id": 3, "name": "nucleus"}, {"id": 1, "name": "cell"}],
    }


FLAT = [value for corner in SQUARE[:4] for value in corner]
MASK = marked(slice(1, 5), slice(2, 8))


@pytest.mark.parametrize(
    "segmentation",
    [
        [FLAT],
        {"size": [8, 10], "counts": runs_of(MASK)},
        {"size": [8, 10], "counts": compressed(runs_of(MASK))},
    ],
)
def test_coco_gives_polygons_or_run_lengths(tmp_path: Path, segmentation: Any) -> None:
    found = annotate(
        tmp_path, coco({"segmentation": segmentation}, {"image_id": 8, "segmentation": [FLAT]}), kind="coco"
    )
    np.testing.assert_array_equal(found.labels, MASK)
    assert found.class_names == {1: "cell", 2: "nucleus"}
    np.testing.assert_array_equal(found.classes, MASK * 2)


def test_several_rings_of_coco_are_parts_of_one_object(tmp_path: Path) -> None:
    found = annotate(tmp_path, coco({"segmentation": [FLAT, [0, 6, 2, 6, 2, 8, 0, 8]]}), kind="coco")
    np.testing.assert_array_equal(found.labels, MASK | marked(slice(6, 8), slice(2)))


def test_crowds_and_objects_without_outlines_are_left_out_with_a_note(tmp_path: Path) -> None:
    found = annotate(tmp_path, coco({"iscrowd": 1, "segmentation": [FLAT]}, {"bbox": [1, 2, 3, 4]}), kind="coco")
    assert found.labels is not None
    assert not found.labels.any()
    assert found.notes == ("crowds, left out: 1", "objects without outlines, left out: 1")


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        (coco(height=9), "made for an image of 10 × 9 px, but it has 10 × 8 px"),
        (
            coco({"segmentation": {"size": [8, 10], "counts": [5, 5]}}),
            "run lengths are not those of an image of 10 × 8",
        ),
        (coco({"segmentation": {"size": [8, 10], "counts": [90, -10]}}), "run lengths are not those of an image"),
        (coco({"segmentation": {"size": [8, 10], "counts": "\x01"}}), "is no part of run lengths"),
        (coco({"segmentation": {}}), "run lengths are missing"),
        (coco({"segmentation": [[1, 2, 3]]}), "a ring of corners has the shape"),
    ],
)
def test_damaged_objects_of_coco_are_refused_by_name(tmp_path: Path, document: Any, cause: str) -> None:
    with pytest.raises(Rejected, match=rf"^a\.json: .*{cause}"):
        annotate(tmp_path, document, kind="coco")


# Annotation files that strangers wrote


def test_threads_of_a_block_take_a_coco_file_apart_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def count(path: Path, name: str) -> CocoFile:
        opened.append(path)
        return open_coco(path, name)

    monkeypatch.setattr("shared.annotations.reading.open_coco", count)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    reader, entry = AnnotationReader(), Entry("a", "a", masks=("a.json",), mask_kind="coco", reference="1")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: reader.read(entry, {"a.json": path}, height=8, width=8), range(16)))
    assert opened == [path]


def test_objects_of_a_category_that_is_not_listed_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    item = {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    document = {"images": [], "annotations": [item], "categories": [{"id": 1, "name": "cell"}]}
    path.write_text(json.dumps(document))
    entry = Entry("a", "a", masks=("a.json",), mask_kind="coco", reference="1")
    annotation = read_annotation(entry, {"a.json": path}, height=8, width=8)
    assert annotation.notes == ("objects of a category that is not listed: 1",)


def test_names_of_classes_are_what_a_database_keeps(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    names = ["a\x00b", "\ud800", "x" * 1000]
    features = [
        {
            "type": "Feature",
            "properties": {"classification": {"name": name}},
            "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
        }
        for name in names
    ]
    path.write_text(json.dumps({"features": features}))
    entry = Entry("a", "a", masks=("a.geojson",), mask_kind="geojson")
    annotation = read_annotation(entry, {"a.geojson": path}, height=8, width=10)
    kept = sorted(annotation.class_names.values())
    assert kept == sorted(["a\ufffdb", "\ufffd", "x" * 199 + "…"])
