"""Two models on the same images."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from shared.imaging.metrics.comparison import Difference, compare


def differ(first: list[float | None], second: list[float | None]) -> Difference:
    rows = [{str(n): {"name": str(n), "f1": value} for n, value in enumerate(values)} for values in (first, second)]
    return compare(rows[0], rows[1], names=["f1"])["f1"]


def test_a_gain_on_every_image_is_a_difference():
    found = differ([0.5, 0.6, 0.4, 0.5, 0.7, 0.6, 0.5, 0.4], [0.6, 0.65, 0.5, 0.63, 0.72, 0.7, 0.64, 0.41])
    assert found.verdict == "higher"
    assert 0 < found.low < found.mean < found.high


def test_the_other_way_round_it_is_a_loss():
    assert differ([0.6, 0.65, 0.5, 0.63, 0.72, 0.7], [0.5, 0.6, 0.4, 0.5, 0.7, 0.6]).verdict == "lower"


def test_gains_that_losses_outweigh_are_undecided():
    generator = np.random.default_rng(0)
    first = generator.random(40)
    assert differ(first.tolist(), (first + generator.normal(0, 0.1, 40)).tolist()).verdict == "undecided"


def test_five_images_are_too_few_for_a_verdict():
    assert differ([0.1] * 5, [0.9, 0.8, 0.7, 0.85, 0.95]).verdict == "undecided"


def test_equal_images_are_ties_and_no_evidence():
    found = differ([0.5, 0.5, 0.4], [0.5, 0.5, 0.6])
    assert (found.images, found.higher, found.lower, found.ties) == (3, 1, 0, 2)


def test_the_same_model_twice_differs_in_nothing():
    found = differ([0.5] * 9, [0.5] * 9)
    assert (found.mean, found.p, found.verdict) == (0, 1, "undecided")


def test_the_test_is_the_signed_rank_test():
    first, second = np.random.default_rng(1).random((2, 20))
    assert differ(first.tolist(), second.tolist()).p == pytest.approx(wilcoxon(second - first).pvalue)


def test_images_that_one_model_has_no_score_for_are_left_out():
    assert differ([0.5, None, 0.4, np.nan], [0.5, 0.7, 0.6, 0.9]).images == 2


def test_scores_that_are_nowhere_given_are_left_out():
    assert compare({"a": {"f1": 1.0}}, {"a": {}}, names=["f1"]) == {}


def test_five_images_that_differ_are_too_few_however_many_are_equal():
    same: list[float | None] = [0.5] * 7
    found = differ([0.1, 0.1, 0.1, 0.1, 0.1, *same], [0.9, 0.8, 0.7, 0.85, 0.95, *same])
    assert (found.images, found.verdict) == (12, "undecided")
    assert found.p > 0.05
