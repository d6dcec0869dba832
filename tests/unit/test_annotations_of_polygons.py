"""Polygons and run lengths as label images, of the whole or of a part."""

import json
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from shared.annotations import Annotation, AnnotationReader, read_annotation, read_shapes
from shared.annotations.outlines import Outline, Stamp, rasterise, to_ring
from shared.annotations.polygons import CocoFile, open_coco
from shared.annotations.run_lengths import uncompress_runs
from shared.errors import Rejected
from shared.imaging.tiling import Box
from shared.layouts import Entry

SIDE = 24
CORNERS = st.lists(st.tuples(*[st.floats(-4, SIDE + 4, width=32)] * 2), min_size=3, max_size=9)
OUTLINES = st.lists(
    st.builds(
        lambda rings: Outline(tuple((to_ring(ring),) for ring in rings)), st.lists(CORNERS, min_size=1, max_size=2)
    ),
    max_size=6,
)
WHOLE = Box(0, 0, SIDE, SIDE)
SQUARE = [[2, 1], [8, 1], [8, 5], [2, 5], [2, 1]]  # x, y: columns 2 … 7, rows 1 … 4
HOLE = [[4, 2], [6, 2], [6, 4], [4, 4], [4, 2]]


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    top, left = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return Box(top, left, draw(st.integers(top + 1, SIDE)), draw(st.integers(left + 1, SIDE)))


def marked(rows: slice, columns: slice, *, height: int = 8, width: int = 10) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


# Polygons


@settings(deadline=None)
@given(shapes=OUTLINES, box=boxes())
def test_a_part_that_is_drawn_is_the_part_of_the_whole(shapes: list[Outline], box: Box) -> None:
    whole, _ = rasterise(shapes, WHOLE)
    np.testing.assert_array_equal(rasterise(shapes, box)[0], whole[box.slices()])


@settings(deadline=None)
@given(shapes=OUTLINES)
def test_no_pixel_lies_outside_the_box_of_its_object(shapes: list[Outline]) -> None:
    for shape in shapes:
        covered = shape.cover(WHOLE)
        if shape.box is not None:
            rows, columns = (
                np.clip(part, 0, SIDE)
                for part in ((shape.box.top, shape.box.bottom), (shape.box.left, shape.box.right))
            )
            covered[rows[0] : rows[1], columns[0] : columns[1]] = False
        assert not covered.any()


@settings(deadline=None)
@given(corners=CORNERS)
def test_a_pixel_is_inside_if_a_ray_from_its_centre_meets_an_odd_number_of_edges(
    corners: list[tuple[float, float]],
) -> None:
    covered = Outline(((to_ring(corners),),)).cover(WHOLE)
    for row, column in ((0, 0), (5, 7), (12, 12), (23, 3)):
        x, y = column + 0.5, row + 0.5
        odd = False
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if (y0 <= y) != (y1 <= y):
                (xa, ya), (xb, yb) = ((x0, y0), (x1, y1)) if y0 <= y1 else ((x1, y1), (x0, y0))
                odd ^= xa + (y - ya) * (xb - xa) / (yb - ya) <= x
        assert covered[row, column] == odd


@settings(deadline=None)
@given(cut=st.tuples(*[st.floats(0, SIDE, width=32)] * 2))
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_no_gap(cut: tuple[float, float]) -> None:
    left = Outline(((to_ring([[0, 0], [cut[0], 0], [cut[1], SIDE], [0, SIDE]]),),)).cover(WHOLE)
    right = Outline(((to_ring([[cut[0], 0], [SIDE, 0], [SIDE, SIDE], [cut[1], SIDE]]),),)).cover(WHOLE)
    assert (left ^ right).all()


def test_whole_corners_cover_whole_pixels() -> None:
    covered = Outline(((to_ring(SQUARE),),)).cover(Box(0, 0, 8, 10))
    np.testing.assert_array_equal(covered, marked(slice(1, 5), slice(2, 8)))


def test_an_object_far_away_is_drawn_as_exactly() -> None:
    far = to_ring(np.array(SQUARE, float) + 90_000_000)
    covered = Outline(((far,),)).cover(Box(90_000_000, 90_000_000, 90_000_008, 90_000_010))
    np.testing.assert_array_equal(covered, marked(slice(1, 5), slice(2, 8)))


def test_of_overlapping_polygons_the_smaller_one_is_seen() -> None:
    large, small = (Outline(((to_ring(ring),),)) for ring in (SQUARE, HOLE))
    for shapes in ([large, small], [small, large]):
        labels, contested = rasterise(shapes, Box(0, 0, 8, 10))
        assert labels[2, 4] == shapes.index(small) + 1
        assert contested == 4


@pytest.mark.parametrize(
    "points",
    [[], [[1, 2], [3, 4]], [1, 2, 3], [[1], [2], [3]], [[0, 0], [1, 1], [float("nan"), 2]], [[0, 0], [9e9, 1], [1, 2]]],
)
def test_what_is_no_ring_is_refused(points: Any) -> None:
    with pytest.raises(ValueError, match=r"ring|corner|inhomogeneous"):
        to_ring(points)


# Run lengths


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """How many pixels are off, on, off, …, column by column."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def compressed(runs: Sequence[int]) -> str:
    """Run lengths as COCO's tools write them."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text += chr(48 + code + 32 * more)
            if not more:
                break
    return text


@settings(deadline=None)
@given(mask=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_go_there_and_back(mask: NDArray[np.bool_]) -> None:
    runs = runs_of(mask)
    assert uncompress_runs(compressed(runs)) == runs
    np.testing.assert_array_equal(Stamp(tuple(runs), *mask.shape).cover(Box(0, 0, *mask.shape)), mask)


@given(runs=st.lists(st.integers(0, 2**40)))
def test_runs_of_any_length_are_uncompressed(runs: list[int]) -> None:
    assert uncompress_runs(compressed(runs)) == runs


@pytest.mark.parametrize("text", ["\x00", "é", "o", "ooooooooooooooooooo0"])
def test_what_are_no_run_lengths_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        uncompress_runs(text)


@settings(deadline=None)
@given(mask=arrays.arrays(bool, (SIDE, SIDE)), box=boxes())
def test_a_part_of_an_object_of_run_lengths_is_the_part_of_the_whole(mask: NDArray[np.bool_], box: Box) -> None:
    labels, _ = rasterise([Stamp(tuple(runs_of(mask)), SIDE, SIDE)], box)
    np.testing.assert_array_equal(labels, mask[box.slices()])


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


# Large objects, and many


@settings(deadline=None)
@given(shapes=OUTLINES, strip=st.integers(1, 60))
def test_strips_add_up_to_the_whole(shapes: list[Outline], strip: int) -> None:
    whole = rasterise(shapes, WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.annotations.outlines.STRIP", strip)
        in_strips = rasterise(shapes, WHOLE)
    np.testing.assert_array_equal(in_strips[0], whole[0])
    assert in_strips[1] == whole[1]


def test_a_large_object_takes_hardly_more_memory_than_its_labels() -> None:
    side = 6000
    square = Outline(((to_ring([[0, 0], [side, 0], [side, side], [0, side]]),),))
    tracemalloc.start()
    labels, _ = rasterise([square], Box(0, 0, side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.all()
    assert peak < labels.nbytes + 40e6


def test_an_object_of_many_small_polygons_is_drawn_polygon_by_polygon() -> None:
    places = np.random.default_rng(0).integers(0, 3990, (400, 2)).tolist()
    specks = tuple((to_ring([[x, y], [x + 4, y], [x + 4, y + 4], [x, y + 4]]),) for x, y in places)
    begun = time.process_time()
    rasterise([Outline(specks)], Box(0, 0, 4000, 4000))
    assert time.process_time() - begun < 5  # seconds; the whole box for each polygon would take a minute


def test_drawing_can_be_broken_off_between_objects() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    square = Outline(((to_ring(SQUARE),),))
    with pytest.raises(Stop):
        rasterise([square], WHOLE, check=stop)


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
