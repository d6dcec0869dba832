"""Objects as COCO instances."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from services.worker.writers.coco import CocoImage, CocoPart, string_coco
from services.worker.writers.run_lengths import spell_runs
from tests.object_tables import HOLED, L_SHAPE, PINCHED, SQUARE, Labels, draw_labels, scatter_labels, tabulate
from tests.outlines import compressed, runs_of

CATEGORIES = {"nucleus": 1, "stroma": 2}
LABELS = draw_labels([SQUARE, L_SHAPE, HOLED, PINCHED])
EMPTY = draw_labels([])


def part_of(labels: Labels) -> bytes:
    target = io.BytesIO()
    height, width = labels.shape
    with CocoPart(target, height=height, width=width, categories=CATEGORIES) as part:
        part.add(tabulate(labels, classes=tuple(CATEGORIES)))
    return target.getvalue()


def image_of(labels: Labels, name: str = "a.png", *, chunk: int = 1000) -> CocoImage:
    part = part_of(labels)
    height, width = labels.shape
    return CocoImage(name, height, width, (part[start : start + chunk] for start in range(0, len(part), chunk)))


def coco(*images: CocoImage) -> dict[str, Any]:
    target = io.BytesIO()
    string_coco(target, images, categories=CATEGORIES)
    content: dict[str, Any] = json.loads(target.getvalue())
    return content


def opened(path: Path, *images: CocoImage) -> COCO:
    path.write_text(json.dumps(coco(*images)))
    return COCO(str(path))


def drawn(reader: COCO, image: int, shape: tuple[int, ...]) -> Labels:
    """The label image that pycocotools makes of what it read."""
    labels = np.zeros(shape, dtype=np.uint32)
    for annotation in reader.loadAnns(reader.getAnnIds(imgIds=image)):
        labels[reader.annToMask(annotation) > 0] = annotation["label"]
    return labels


class TestShapes:
    def test_pycocotools_draws_the_labels(self, tmp_path: Path) -> None:
        reader = opened(tmp_path / "coco.json", image_of(LABELS))
        np.testing.assert_array_equal(drawn(reader, 1, LABELS.shape), LABELS)

    @settings(deadline=None, max_examples=25)
    @given(
        seed=st.integers(0, 2**32 - 1), height=st.integers(1, 16), width=st.integers(1, 16), density=st.floats(0.3, 1)
    )
    def test_pycocotools_draws_shapes_of_any_kind(
        self, tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int, density: float
    ) -> None:
        labels = scatter_labels(seed, height=height, width=width, density=density)
        reader = opened(tmp_path_factory.mktemp("coco") / "coco.json", image_of(labels))
        np.testing.assert_array_equal(drawn(reader, 1, labels.shape), labels)

    def test_objects_may_all_have_holes(self, tmp_path: Path) -> None:
        labels = draw_labels([HOLED, PINCHED])
        reader = opened(tmp_path / "coco.json", image_of(labels))
        np.testing.assert_array_equal(drawn(reader, 1, labels.shape), labels)

    def test_only_what_has_holes_is_told_by_run_lengths(self) -> None:
        shapes = [type(annotation["segmentation"]) for annotation in coco(image_of(LABELS))["annotations"]]
        assert shapes == [list, list, dict, dict]

    @settings(deadline=None, max_examples=25)
    @given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.3, 1))
    def test_run_lengths_are_those_of_the_drawn_object(self, seed: int, density: float) -> None:
        labels = scatter_labels(seed, height=9, width=13, density=density)
        told = spell_runs(tabulate(labels).outlines, height=9, width=13).to_pylist()
        assert told == [compressed(runs_of(labels == label)) for label in range(1, int(labels.max()) + 1)]

    def test_run_lengths_reach_across_gigapixels(self) -> None:
        outlines = tabulate(LABELS).outlines
        outlines.points[:] += [80_000, 90_000]
        counts = spell_runs(outlines, height=100_000, width=90_000).to_pylist()
        areas = coco_mask.area([{"size": [100_000, 90_000], "counts": count} for count in counts])
        assert areas.tolist() == [25, 5, 10, 7]


class TestAnnotations:
    def test_boxes_are_those_of_the_pixels(self) -> None:
        assert [a["bbox"] for a in coco(image_of(LABELS))["annotations"][:2]] == [[1, 1, 5, 5], [9, 1, 3, 3]]

    def test_areas_leave_out_holes(self) -> None:
        assert [a["area"] for a in coco(image_of(LABELS))["annotations"]] == [25, 5, 10, 7]

    def test_classes_have_the_numbers_of_their_categories(self) -> None:
        assert [a["category_id"] for a in coco(image_of(LABELS))["annotations"]] == [1, 2, 1, 2]

    def test_the_score_is_the_probability(self) -> None:
        scores = [annotation["score"] for annotation in coco(image_of(LABELS))["annotations"]]
        assert scores == pytest.approx(tabulate(LABELS).columns["probability"].tolist(), rel=5e-6)

    def test_a_class_without_a_number_is_refused(self) -> None:
        with CocoPart(io.BytesIO(), height=8, width=8, categories={}) as part, pytest.raises(KeyError, match="nucleus"):
            part.add(tabulate(draw_labels([SQUARE])))


class TestStringing:
    def test_annotations_are_numbered_through_the_job(self) -> None:
        annotations = coco(image_of(LABELS, "a"), image_of(EMPTY, "b"), image_of(LABELS, "c"))["annotations"]
        assert [(a["id"], a["image_id"]) for a in annotations] == list(zip(range(1, 9), [1] * 4 + [3] * 4, strict=True))

    def test_images_without_objects_are_listed(self) -> None:
        images = coco(image_of(EMPTY, "empty.png"))["images"]
        assert images == [{"id": 1, "file_name": "empty.png", "height": 8, "width": 8}]

    def test_a_job_without_images_is_read(self, tmp_path: Path) -> None:
        assert opened(tmp_path / "coco.json").getImgIds() == []

    @pytest.mark.parametrize("chunk", [1, 7, 10_000])
    def test_parts_may_come_in_chunks_of_any_size(self, chunk: int) -> None:
        assert coco(image_of(LABELS, chunk=chunk)) == coco(image_of(LABELS))

    def test_a_part_that_was_cut_off_is_refused(self) -> None:
        with pytest.raises(ValueError, match="cut off"):
            coco(CocoImage("a.png", 8, 8, [part_of(LABELS)[:-5]]))

    @given(name=st.text(max_size=20), category=st.text(max_size=20))
    def test_any_name_is_read_back(self, name: str, category: str) -> None:
        target = io.BytesIO()
        string_coco(target, [CocoImage(name, 8, 8, [])], categories={category: 1})
        content = json.loads(target.getvalue())
        assert (content["images"][0]["file_name"], content["categories"]) == (name, [{"id": 1, "name": category}])
