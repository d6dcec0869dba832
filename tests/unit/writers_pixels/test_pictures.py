"""What is looked at: the overlay of an image, and the contact sheet of a job."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from services.worker.writers.contact_sheet import CELL, MOST, Contact, choose_pictures, draw_contact_sheet
from services.worker.writers.overlay import OverviewGrid, ShownLabels, draw_objects, find_edges
from services.worker.writers.palette import colour_table
from services.worker.writers.pyramid import Labels
from shared.imaging.tiling import Pixels, plan_blocks
from tests.unit.writers_pixels.drawn import draw_blobs

GREY = 90


def decode(png: bytes) -> Pixels:
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def draw(labels: Labels, classes: list[int]) -> Pixels:
    grey = np.full((*labels.shape, 3), GREY, dtype=np.uint8)
    return decode(draw_objects(grey, labels, np.array(classes, dtype=np.uint8)))


def draw_touching() -> Labels:
    """Two objects side by side, the first with a hole, in an image that is not enlarged."""
    labels = np.zeros((600, 600), dtype=np.uint32)
    labels[100:200, 100:200], labels[100:200, 200:300] = 1, 2
    labels[140:160, 140:160] = 0
    return labels


CLASSES = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


class TestContours:
    def test_of_two_that_touch_each_has_its_own(self) -> None:
        picture = draw(draw_touching(), [0, 1, 3])
        assert (picture[110, 199], picture[110, 200]) == (
            pytest.approx(colour_table()[1]),
            pytest.approx(colour_table()[3]),
        )
        assert (picture[110, [198, 201]] == GREY).all()

    def test_of_two_of_one_class_the_border_is_shown(self) -> None:
        picture = draw(draw_touching(), [0, 1, 1])
        assert (picture[110, 199:201] == colour_table()[1]).all()

    def test_a_hole_has_one_too(self) -> None:
        picture = draw(draw_touching(), [0, 1, 1])
        assert (picture[150, 139] == colour_table()[1]).all()
        assert (picture[150, 140] == GREY).all()

    def test_the_border_of_the_image_is_none(self) -> None:
        assert (draw(np.ones((600, 600), dtype=np.uint32), [0, 1]) == GREY).all()

    def test_nothing_is_drawn_where_nothing_was_found(self) -> None:
        assert (draw(np.zeros((20, 30), dtype=np.uint32), [0]) == GREY).all()

    @settings(deadline=None)
    @given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
    def test_edges_are_pixels_with_another_beside_them(self, height: int, width: int, seed: int) -> None:
        labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint32)
        padded = np.pad(labels, 1, mode="edge")
        others = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        expected = (labels > 0) & np.any([other != labels for other in others], axis=0)
        np.testing.assert_array_equal(find_edges(labels), expected)


class TestShownLabels:
    @settings(max_examples=30, deadline=None)
    @given(height=st.integers(1, 90), width=st.integers(1, 90), factor=st.integers(1, 9), side=st.integers(1, 100))
    def test_they_are_those_at_the_middle_of_the_overviews_pixels(
        self, height: int, width: int, factor: int, side: int
    ) -> None:
        labels, size = draw_blobs(height, width), (-(-height // factor), -(-width // factor))
        shown = ShownLabels(full=(height, width), overview=size)
        for block in plan_blocks(height, width, side=side):
            shown.add(block, labels[block.slices()])
        whole = next(iter(plan_blocks(height, width, side=90)))
        expected = OverviewGrid(full=(height, width), overview=size).pick(labels, whole)
        np.testing.assert_array_equal(shown.labels, expected)


def overlay_of(height: int, width: int) -> bytes:
    labels = np.zeros((height, width), dtype=np.uint32)
    labels[height // 4 : height // 2, width // 4 : width // 2] = 1
    return draw_objects(np.full((height, width, 3), GREY, dtype=np.uint8), labels, np.array([0, 1], dtype=np.uint8))


class TestContactSheet:
    @pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (60, 6, 10)])
    def test_it_has_a_cell_for_each_image(self, count: int, columns: int, rows: int) -> None:
        sheet = decode(draw_contact_sheet([Contact("a", 1, overlay_of(40, 60))] * count, of=count))
        assert sheet.shape[1] // CELL == columns
        assert sheet.shape[0] // (CELL + 40) == rows

    @pytest.mark.parametrize("shape", [(1500, 1100), (1536, 8), (600, 700)])
    def test_contours_stay_visible_in_a_picture_that_is_scaled_down(self, shape: tuple[int, int]) -> None:
        sheet = decode(draw_contact_sheet([Contact("a", 1, overlay_of(*shape))], of=1)).astype(int)
        greenish = (sheet[..., 1] > sheet[..., 0] + 80) & (sheet[..., 1] > sheet[..., 2] + 60)
        assert greenish.any()

    def test_a_small_picture_is_enlarged_by_a_whole_factor(self) -> None:
        sheet = decode(draw_contact_sheet([Contact("a", 0, overlay_of(10, 10))], of=1))
        assert (sheet == GREY).all(axis=2).sum() > 80**2

    def test_an_image_that_failed_keeps_its_place(self) -> None:
        told = decode(draw_contact_sheet([Contact("a", None, None)], of=1))
        shown = decode(draw_contact_sheet([Contact("a", 7, overlay_of(40, 60))], of=1))
        assert told.shape == shown.shape
        assert (told != shown).any()

    def test_the_count_of_objects_is_told(self) -> None:
        first, second = (draw_contact_sheet([Contact("a", n, overlay_of(40, 60))], of=1) for n in (7, 8))
        assert first != second

    def test_it_tells_that_images_were_left_out(self) -> None:
        contacts = [Contact("a", 1, overlay_of(40, 60))]
        assert decode(draw_contact_sheet(contacts, of=9)).shape[0] > decode(draw_contact_sheet(contacts, of=1)).shape[0]

    def test_a_long_name_stays_in_its_cell(self) -> None:
        sheet = decode(draw_contact_sheet([Contact("0123456789" * 30 + ".png", 1, overlay_of(40, 60))], of=1))
        assert (sheet[CELL + 12 :, CELL + 12 :] == 255).all()

    def test_a_sheet_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one image"):
            draw_contact_sheet([], of=0)

    @given(count=st.integers(0, 5000))
    def test_pictures_are_spread_over_the_job(self, count: int) -> None:
        chosen = choose_pictures(count)
        assert len(chosen) == min(count, MOST)
        assert chosen == sorted(set(chosen))
        steps = np.diff(chosen)
        assert steps.size == 0 or steps.max() - steps.min() <= 1


def test_an_outline_is_what_touches_another_class() -> None:
    classes = np.zeros((5, 6), dtype=np.uint8)
    classes[1:5, 1:5] = 2
    expected = classes.copy()
    expected[2:5, 2:4] = 0  # the inside, and the lower edge, which is the image's own
    expected[4, 1], expected[4, 4] = 2, 2
    np.testing.assert_array_equal(np.where(find_edges(classes), classes, 0), expected)


@settings(deadline=None)
@given(classes=CLASSES)
def test_outlines_keep_their_class_and_lie_where_a_neighbour_differs(classes: np.ndarray) -> None:
    outlines = np.where(find_edges(classes), classes, 0)
    padded = np.pad(classes, 1, mode="edge")
    neighbours = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    differs = np.any([neighbour != classes for neighbour in neighbours], axis=0)
    np.testing.assert_array_equal(outlines, np.where(differs, classes, 0))


def test_one_class_everywhere_has_no_outline() -> None:
    assert not find_edges(np.ones((4, 4), dtype=np.uint8)).any()
    assert not find_edges(np.ones((1, 1), dtype=np.uint8)).any()
