"""Drawn nuclei and the pictures that test an engine."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from shared.imaging.drawing import Stain, draw_nuclei
from shared.imaging.probes import known_question

STAINS: list[Stain] = ["fluorescence", "histology"]


@pytest.mark.parametrize("stain", STAINS)
def test_image_and_labels_have_the_ordered_size(stain: Stain) -> None:
    image, labels = draw_nuclei(70, 110, seed=0, stain=stain)
    assert image.shape == (70, 110, 3)
    assert labels.shape == (70, 110)
    assert (image.dtype, labels.dtype) == (np.dtype(np.uint8), np.dtype(np.uint16))


@pytest.mark.parametrize("stain", STAINS)
def test_the_seed_decides_the_picture(stain: Stain) -> None:
    first, same, other = (draw_nuclei(64, 64, seed=seed, stain=stain) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], same[0])
    np.testing.assert_array_equal(first[1], same[1])
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(("stain", "sign"), [("fluorescence", 1), ("histology", -1)])
@pytest.mark.parametrize("seed", range(6))
def test_nuclei_are_bright_in_fluorescence_and_dark_in_histology(stain: Stain, sign: int, seed: int) -> None:
    image, labels = draw_nuclei(160, 160, seed=seed, stain=stain)
    red = image[:, :, 0].astype(float)  # haematoxylin absorbs it, eosin and DAB hardly do
    inside = binary_erosion(labels > 0, iterations=2)
    outside = ~binary_dilation(labels > 0, iterations=3)
    assert sign * (red[inside].mean() - red[outside].mean()) > 10


def test_every_nucleus_has_its_own_label_and_some_touch() -> None:
    pieces, nuclei = 0, 0
    for seed in range(5):
        labels = draw_nuclei(200, 200, seed=seed, stain="histology")[1]
        nuclei += len(np.unique(labels)) - 1
        pieces += label(labels > 0)[1]
    assert nuclei > 100
    assert pieces < 0.9 * nuclei


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (50, 2)])
@pytest.mark.parametrize("stain", STAINS)
def test_the_smallest_pictures_can_be_drawn(size: tuple[int, int], stain: Stain) -> None:
    assert draw_nuclei(*size, seed=0, stain=stain)[0].shape == (*size, 3)


def test_an_unknown_stain_is_refused() -> None:
    with pytest.raises(ValueError, match="fluorescence or histology"):
        draw_nuclei(8, 8, seed=0, stain="gram")  # type: ignore[arg-type]


def test_the_known_question_never_changes() -> None:
    # Stored models hold answers to it: whoever changes it makes all of them fail.
    question = known_question(448, 3, 0)
    remembered = [[120, 254, 206, 15], [75, 128, 51, 94], [119, 132, 146, 165], [120, 153, 232, 144]]
    np.testing.assert_allclose(question[::128, ::128, 0], remembered, atol=1)
    assert question.mean() == pytest.approx(128.196, abs=0.01)


@pytest.mark.parametrize(("side", "channels"), [(448, 3), (256, 1)])
def test_the_known_question_varies_at_every_scale(side: int, channels: int) -> None:
    question = known_question(side, channels, 1).astype(float)
    assert question.shape == (side, side, channels)
    assert question.std() > 30
    assert np.abs(np.diff(question, axis=0)).mean() > 5
    assert question.min() < 30
    assert question.max() > 225
