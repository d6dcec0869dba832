"""Probabilities against how often they are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.imaging.metrics.calibration import calibrate
from shared.imaging.metrics.pixels import count_levels


def test_probabilities_that_are_as_often_right_as_they_say_have_no_error():
    levels = np.zeros((2, 256), np.int64)
    levels[:, 51] = 80, 20  # 51 / 255 = 0.2
    levels[:, 204] = 20, 80
    assert calibrate(levels).error == pytest.approx(0)


def test_a_model_that_is_sure_and_half_as_often_right_errs_by_a_half():
    levels = np.zeros((2, 256), np.int64)
    levels[:, 255] = 50, 50
    assert calibrate(levels).error == pytest.approx(0.5)


@given(
    probabilities=arrays(np.uint8, (5, 7)),
    truth=arrays(np.bool_, (5, 7)),
)
def test_the_brier_score_is_the_mean_squared_error(probabilities, truth):
    expected = np.mean((probabilities / 255 - truth) ** 2)
    assert calibrate(count_levels(probabilities, truth)).brier == pytest.approx(expected)


@given(probabilities=arrays(np.uint8, (5, 7)), truth=arrays(np.bool_, (5, 7)), bins=st.integers(1, 30))
def test_every_pixel_is_in_one_bin(probabilities, truth, bins):
    assert calibrate(count_levels(probabilities, truth), bins=bins).pixels.sum() == truth.size


def test_an_empty_bin_says_nothing():
    levels = np.zeros((2, 256), np.int64)
    levels[0, 0] = 10
    found = calibrate(levels, bins=2)
    assert found.observed[0] == 0
    assert np.isnan(found.observed[1])


def test_no_pixels_have_no_error():
    found = calibrate(np.zeros((2, 256), np.int64))
    assert (found.error, found.brier) == (0, 0)
