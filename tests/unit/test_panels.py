"""Pictures of what a model got wrong."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.worker.writers.panels import (
    CELL,
    FALSE,
    GAP,
    HIT,
    MISSED,
    WINDOW,
    WorstWindow,
    compress_panel,
    draw_panel,
)
from shared.imaging.metrics.accumulating import AnswerBlock, TruthBlock
from shared.imaging.tiling import Box, plan_blocks


def decode(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(body)))


def cell(panel: np.ndarray, number: int) -> np.ndarray:
    width = (panel.shape[1] - 3 * GAP) // 4
    return panel[:, number * (width + GAP) : number * (width + GAP) + width]


def quarters() -> tuple[np.ndarray, TruthBlock, AnswerBlock]:
    """A hit above left, a miss above right, a false alarm below left, 32 px each."""
    truth, found = np.zeros((64, 64), np.int32), np.zeros((64, 64), np.uint8)
    truth[:32] = 1
    found[:, :32] = 1
    return np.full((64, 64, 3), 120, np.uint8), TruthBlock(truth), AnswerBlock(found)


def test_hits_misses_and_false_alarms_have_their_colours():
    errors = cell(decode(draw_panel(*quarters())), 3)
    assert [tuple(errors[row, column].tolist()) for row, column in ((64, 64), (64, 192), (192, 64))] == [
        HIT,
        MISSED,
        FALSE,
    ]


def test_the_first_picture_is_the_image_itself():
    assert (cell(decode(draw_panel(*quarters())), 0) == 120).all()


def test_objects_are_outlined_and_not_filled():
    outlined = cell(decode(draw_panel(*quarters())), 1)
    assert (outlined[10, 10] == 120).all()
    assert (outlined[127, 60] != 120).any()


@given(height=st.integers(1, 600), width=st.integers(1, 600))
def test_no_cell_is_larger_than_it_may_be(height, width):
    labels = np.zeros((height, width), np.int32)
    image = np.zeros((height, width, 3), np.uint8)
    panel = decode(draw_panel(image, TruthBlock(labels), AnswerBlock(labels.astype(np.uint8))))
    assert max(panel.shape[0], (panel.shape[1] - 3 * GAP) // 4) <= CELL


def test_the_window_is_where_most_pixels_are_wrong():
    worst = WorstWindow(2000, 3000)
    for box in plan_blocks(2000, 3000, side=700):
        wrong = np.zeros((2000, 3000), bool)
        wrong[1100:1110, 2100:2110] = True
        worst.add(box, wrong[box.slices()])
    assert worst.find() == Box(1024, 2048, 1536, 2560)


def test_a_window_at_the_border_is_of_full_size():
    worst = WorstWindow(520, 1300)
    worst.add(Box(512, 1290, 520, 1300), np.ones((8, 10), bool))
    assert worst.find() == Box(520 - WINDOW, 1300 - WINDOW, 520, 1300)


def test_a_small_image_is_shown_whole():
    assert WorstWindow(30, 50).find() == Box(0, 0, 30, 50)


def test_what_the_page_holds_is_the_same_picture():
    panel = draw_panel(*quarters())
    difference = np.abs(decode(compress_panel(panel)).astype(int) - decode(panel))
    assert np.percentile(difference, 95) < 8


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="no picture"):
        compress_panel(b"nothing")
