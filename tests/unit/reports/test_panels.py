"""Samples beside what a network makes of them."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.trainer.reports.panels import PanelRow, draw_panel
from shared.imaging.drawing import draw_nuclei

WHITE, ORANGE, SKY, PURPLE = (255, 255, 255), (230, 159, 0), (86, 180, 233), (204, 121, 167)
TOP, LEFT, STEP, SIDE = 60, 12, 268, 256  # where the first row's pictures are, px


def make_row(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], *, name: str = "a.png") -> PanelRow:
    return PanelRow(name, np.full((*truth.shape, 1), 77, np.uint8), truth, prediction)


def look(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(png), formats=("PNG",)))


def cut(png: bytes, column: int) -> NDArray[np.uint8]:
    """A picture of the first row, its size that of 256 × 256 px."""
    left = LEFT + column * STEP
    return look(png)[TOP : TOP + SIDE, left : left + SIDE]


def colours(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(int(value) for value in colour) for colour in np.unique(picture.reshape(-1, 3), axis=0)}


def test_every_pixel_is_told_as_found_missed_or_not_there():
    truth = np.zeros((256, 256), np.uint8)
    truth[:128] = 1
    plane = np.zeros((1, 256, 256), np.uint8)
    plane[:, :, :128] = 200
    compared = cut(draw_panel([make_row(truth, plane)]), 3)
    assert colours(compared[:128, :128]) == {WHITE}
    assert colours(compared[:128, 128:]) == {ORANGE}
    assert colours(compared[128:, :128]) == {SKY}
    assert colours(compared[128:, 128:]) == {(0, 0, 0)}


def test_the_threshold_decides_what_one_plane_has_found():
    truth, plane = np.ones((64, 64), np.uint8), np.full((1, 64, 64), 128, np.uint8)
    assert colours(cut(draw_panel([make_row(truth, plane)]), 3)) == {WHITE}
    assert colours(cut(draw_panel([make_row(truth, plane)], threshold=0.6), 3)) == {ORANGE}


def test_a_prediction_of_one_plane_is_shown_as_probability():
    plane = np.arange(256, dtype=np.uint8).repeat(256).reshape(1, 256, 256)
    shown = cut(draw_panel([make_row(np.ones((256, 256), np.uint8), plane)]), 2)
    assert (shown == plane[0, :, :, None]).all()


def test_a_wrong_class_is_told_from_a_missed_one():
    truth = np.full((64, 64), 2, np.uint8)
    planes = np.zeros((3, 64, 64), np.uint8)
    planes[0, :, :21], planes[1, :, 21:42], planes[2, :, 42:] = 255, 255, 255
    compared = cut(draw_panel([make_row(truth, planes)]), 3)
    assert [colours(compared[:, columns]) for columns in (slice(0, 84), slice(84, 168), slice(168, 256))] == [
        {ORANGE},
        {PURPLE},
        {WHITE},
    ]


def test_truth_and_prediction_colour_a_class_alike_whether_it_comes_as_planes_or_as_a_map():
    truth = np.arange(4, dtype=np.uint8).repeat(16).reshape(4, 16).repeat(16, axis=0)
    planes = np.stack([np.where(truth == number, 255, 0).astype(np.uint8) for number in range(4)])
    for prediction in (truth, planes):
        png = draw_panel([make_row(truth, prediction)])
        assert (cut(png, 1) == cut(png, 2)).all()
        assert len(colours(cut(png, 1)[:, :64])) == 4


def test_a_large_image_is_cut_where_most_foreground_is():
    truth = np.zeros((1000, 900), np.uint8)
    truth[700:740, 600:640] = 1
    png = draw_panel([make_row(truth, truth[None] * 255)])
    assert np.count_nonzero(cut(png, 1)) == 3 * 40 * 40


def test_a_small_image_is_enlarged_by_a_whole_factor():
    truth = np.zeros((60, 100), np.uint8)
    truth[0, 0] = 1
    shown = cut(draw_panel([make_row(truth, truth[None] * 255)]), 1)
    assert (shown[:2, :2] == 255).all()
    assert not shown[:2, 2:200].any()


def test_rows_of_all_sizes_and_channels_stand_below_each_other():
    rows = []
    for seed, (height, width) in enumerate([(256, 256), (40, 300), (90, 60)]):
        image, labels = draw_nuclei(height, width, seed=seed, stain="histology" if seed else "fluorescence")
        truth = (labels > 0).astype(np.uint8)
        rows.append(
            PanelRow("long/" * 60 + f"{seed}.png", image if seed else image[:, :, :1], truth, truth[None] * 255)
        )
    picture = look(draw_panel(rows))
    assert picture.shape == (TOP + sum(height + 36 for height in (256, 40, 2 * 90)), 1084, 3)
    assert (picture[:, -12:] == 255).all()  # no name leaves the sheet


@pytest.mark.parametrize(
    ("image", "truth", "prediction"),
    [
        ((8, 8, 3), (8, 9), (1, 8, 9)),
        ((8, 8, 3), (8, 8), (1, 8, 9)),
        ((8, 8, 2), (8, 8), (1, 8, 8)),
        ((8, 8), (8, 8), (8, 8)),
        ((8, 8, 3), (8, 8), (1, 1, 8, 8)),
        ((0, 8, 3), (0, 8), (1, 0, 8)),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(image, truth, prediction):
    row = PanelRow("odd.png", *(np.zeros(shape, np.uint8) for shape in (image, truth, prediction)))
    with pytest.raises(ValueError, match=r"odd\.png"):
        draw_panel([row])


def test_no_rows_no_panel():
    with pytest.raises(ValueError, match="at least one row"):
        draw_panel([])
