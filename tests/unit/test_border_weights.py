"""How much the gaps between objects count."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from services.trainer.data.border_weights import REACH, weigh_borders
from shared.annotations import number_objects
from shared.imaging.drawing import draw_nuclei
from shared.schemas.training import BorderIn


def weigh_by_brute_force(labels: NDArray[Any], order: BorderIn) -> NDArray[np.float64]:
    """A distance transform of the whole image for each object: equation 2 of Ronneberger et al. 2015 as it stands."""
    numbers = [number for number in np.unique(labels) if number]
    if len(numbers) < 2:
        return np.zeros(labels.shape)
    distances = np.sort(np.stack([distance_transform_edt(labels != number) for number in numbers]), axis=0)
    weights: NDArray[np.float64] = order.w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * order.sigma**2))
    return weights


@pytest.mark.parametrize("sigma", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_border_weights_are_those_of_the_brute_force(seed: int, sigma: float) -> None:
    _, drawn = draw_nuclei(96, 128, seed=seed, stain="histology")
    labels, order = number_objects(drawn), BorderIn(w0=10, sigma=sigma)
    expected, found = weigh_by_brute_force(labels, order), weigh_borders(labels, order)
    assert labels.max() > 5
    assert expected.max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=order.w0 * np.exp(-(REACH**2) / 2))


def test_border_weights_of_the_smallest_and_of_far_objects_are_exact_too() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[3, 3], labels[5, 9], labels[30:35, 50:] = 1, 2, 3
    order = BorderIn(w0=100, sigma=3)
    np.testing.assert_allclose(
        weigh_borders(labels, order), weigh_by_brute_force(labels, order), rtol=1e-3, atol=100 * np.exp(-(REACH**2) / 2)
    )


@pytest.mark.parametrize("objects", [0, 1])
def test_fewer_than_two_objects_have_no_border(objects: int) -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[5:9, 5:9] = objects
    assert not weigh_borders(labels, BorderIn()).any()
