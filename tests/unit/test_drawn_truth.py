"""Outlines that are drawn tile by tile: each tile is what the mask, drawn whole, would have there."""

import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.worker.stages.views import view_of
from shared.annotations import Shapes
from shared.annotations.outlines import Outline, to_ring
from shared.errors import Rejected
from shared.imaging.steps.drawn import DrawnTruth
from shared.imaging.steps.mask_steps import make_mask_step
from shared.imaging.steps.transform import Made, Source, transform
from shared.imaging.steps.truth import Truth
from shared.imaging.steps.views import View
from shared.imaging.tiling import Box
from shared.schemas.steps import as_json, read_steps
from shared.slides import open_slide

HEIGHT, WIDTH = 70, 90
CLASSES = {1: "stroma", 2: "tumour"}
ELSEWHERE = 300  # objects before, so that numbers are beyond those of bytes
CORNERS = st.lists(st.tuples(st.floats(-9, WIDTH + 9), st.floats(-9, HEIGHT + 9)), min_size=3, max_size=6)
OUTLINES = st.lists(
    st.builds(lambda ring, number: Outline(((to_ring(ring),),), number), CORNERS, st.integers(0, 2)), max_size=5
)
STEPS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.sampled_from(
        [
            {"step": "invert_mask"},
            {"step": "merge"},
            {"step": "map_classes", "mapping": {1: 2, 2: 1}, "others": "background"},
            {"step": "opening", "radius": 2},
            {"step": "closing", "radius": 3},
            {"step": "boundary", "width": 2, "side": "outer"},
            {"step": "boundary", "output": "class", "number": 3, "side": "thick"},
            {"step": "resize", "scale": 0.6},
            {"step": "resize", "side": 120},
        ]
    ),
    max_size=3,
)
TILE = {"step": "tile", "size": 32, "overlap": 5}


def truth_of(shapes: Shapes, height: int = HEIGHT, width: int = WIDTH) -> DrawnTruth:
    def draw(box: Box) -> Truth:
        found = shapes.draw(box)
        return Truth(found.labels, found.classes)

    return DrawnTruth("a.svs", height, width, draw)


def square(row: int, column: int, side: int = 5) -> Outline:
    corners = [[column, row], [column + side, row], [column + side, row + side], [column, row + side]]
    return Outline(((to_ring(corners),),), 1)


def make(truth: Truth | DrawnTruth, steps: list[dict[str, Any]]) -> Iterator[Made]:
    view = View.of(np.zeros((HEIGHT, WIDTH, 3), np.uint8), name="a.svs")
    return transform(view, truth, as_json(read_steps(steps)), Source("d"))


def tiles_of(truth: Truth | DrawnTruth, steps: list[dict[str, Any]]) -> list[tuple[str, Truth]]:
    return [(made.suffix, made.truth) for made in make(truth, steps)]


def are_steps(steps: list[dict[str, Any]]) -> bool:
    try:
        read_steps(steps)
    except ValueError:
        return False
    return True


@settings(deadline=None, max_examples=150)
@given(
    outlines=OUTLINES,
    named=st.booleans(),
    steps=STEPS.filter(are_steps),
    least=st.sampled_from([0.0, 0.2]),
    first=st.sampled_from([0, ELSEWHERE]),
)
def test_tiles_are_those_of_the_mask_drawn_whole(
    outlines: list[Outline], named: bool, steps: list[dict[str, Any]], least: float, first: int
) -> None:
    assume(named or all(step["step"] != "map_classes" for step in steps))
    beyond = Outline(((to_ring([[-9, -9], [-8, -9], [-8, -8]]),),))
    shapes = Shapes("a.geojson", [beyond] * first + outlines, CLASSES if named else {})
    whole = shapes.draw(Box(0, 0, HEIGHT, WIDTH))
    listed = [*steps, {**TILE, "least_foreground": least}]
    held = tiles_of(Truth(whole.labels, whole.classes), listed)
    drawn = tiles_of(truth_of(shapes), listed)
    assert [suffix for suffix, _ in drawn] == [suffix for suffix, _ in held]
    for (_, found), (_, expected) in zip(drawn, held, strict=True):
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.classes, expected.classes)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from(["opening", "closing", "boundary"]),
    size=st.integers(1, 3),
    place=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_a_step_reaches_no_further_than_it_says(seed: int, step: str, size: int, place: tuple[int, int]) -> None:
    """On random pixels, where every one of them counts."""
    random = np.random.default_rng(seed)
    labels = ((random.random((40, 40)) < random.uniform(0.2, 0.99)) * random.integers(1, 3, (40, 40))).astype(np.int32)
    field = "width" if step == "boundary" else "radius"
    changes = make_mask_step(as_json(read_steps([{"step": step, field: size}]))[0])
    box = Box(*place, place[0] + 10, place[1] + 10)
    found = DrawnTruth("a.svs", 40, 40, Truth(labels).crop).after(changes, step).crop(box)
    expected = changes(Truth(labels)).crop(box)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.classes, expected.classes)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_step_that_the_mask_does_not_suit_is_refused_whichever_way(drawn: bool) -> None:
    shapes = Shapes("a.geojson", [square(10, 10)])
    whole = shapes.draw(Box(0, 0, HEIGHT, WIDTH))
    truth = truth_of(shapes) if drawn else Truth(whole.labels)
    with pytest.raises(Rejected, match=r"^a\.svs: its mask numbers objects and says no classes; leave"):
        list(make(truth, [{"step": "map_classes", "mapping": {1: 2}}, TILE]))


def test_a_step_that_needs_whole_objects_is_refused_with_the_mend() -> None:
    with pytest.raises(Rejected, match=r"^a\.svs: .*fill needs whole objects; put tile into a preprocess of its own"):
        list(make(truth_of(Shapes("a.geojson", [])), [{"step": "fill"}, TILE]))


def test_a_slide_that_is_small_by_now_needs_no_tiles() -> None:
    [made] = make(truth_of(Shapes("a.geojson", [square(10, 20, side=30)])), [{"step": "resize", "scale": 0.5}])
    assert made.truth.labels is not None
    assert made.truth.labels.shape == (HEIGHT // 2, WIDTH // 2)
    assert made.truth.labels.sum() == 15 * 15


def slide_of(path: Path, height: int, width: int) -> Path:
    """A TIFF of tiles that are all the same."""
    tile = zlib.compress(np.full((512, 512, 3), 230, np.uint8).tobytes())
    count = -(-height // 512) * -(-width // 512)
    tiles = iter([tile] * count)
    shape, kind = (height, width, 3), np.uint8
    tifffile.imwrite(path, tiles, shape=shape, dtype=kind, tile=(512, 512), compression="zlib", photometric="rgb")
    return path


def cut_slide(path: Path, shapes: Shapes) -> tuple[int, int, int]:
    """How many tiles with an object there are, how many objects they show, and the most memory it took, bytes."""
    steps = as_json(read_steps([{"step": "tile", "size": 256, "least_foreground": 0.001}]))
    tiles, seen = 0, set[int]()
    with open_slide(path) as slide:
        view = view_of(slide, [], name="a.tif")
        tracemalloc.start()
        for made in transform(view, truth_of(shapes, slide.height, slide.width), steps, Source("d")):
            assert made.pixels.shape == (256, 256, 3)
            assert made.truth.labels is not None
            tiles, seen = tiles + 1, seen | set(made.truth.labels.ravel().tolist())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return tiles, len(seen - {0}), peak


@pytest.mark.long
def test_a_slide_sixteen_times_as_large_is_cut_in_the_same_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    peaks = []
    for height, width in ((7_500, 10_000), (30_000, 40_000)):
        nests = random.integers(500, (height - 500, width - 500), (40, 2))
        places = nests.repeat(50, axis=0) + random.integers(-250, 250, (2000, 2))
        shapes = Shapes("a.geojson", [square(row, column, side=20) for row, column in places.tolist()])
        tiles, objects, peak = cut_slide(slide_of(tmp_path / f"{width}.tif", height, width), shapes)
        peaks.append(peak)
        assert objects > 1800
        assert 200 < tiles < 800
    assert peaks[1] < 1.2 * peaks[0]
