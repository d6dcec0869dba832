"""The warped image, box by box: the same everywhere, and the same as torch's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from services.trainer.networks.warping import warp
from shared.imaging import warping
from shared.imaging.tiling import Box, Pixels, mirror_read, plan_blocks
from shared.imaging.warping import AreaMean, average_overview, read_warped

Theta = NDArray[np.float64]
SIDES = st.integers(1, 40)
SEEDS = st.integers(0, 10_000)


pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def transforms(draw: st.DrawFn) -> Theta:
    """From nearly nothing to points far behind the picture plane."""
    strength = draw(st.sampled_from([0.02, 0.3, 1.5]))
    return np.eye(3) + strength * np.random.default_rng(draw(SEEDS)).uniform(-1, 1, (3, 3))


@st.composite
def boxes(draw: st.DrawFn, height: int, width: int) -> Box:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Box(top, left, draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width)))


def draw_image(height: int, width: int, channels: int = 1, seed: int = 0) -> Pixels:
    """Noise: a pixel that is read from the wrong place has the wrong value."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def reader(image: Pixels) -> Callable[[Box], Pixels]:
    """Reads as slides do, which refuse what leaves the image."""

    def read(box: Box) -> Pixels:
        assert min(box.top, box.left) >= 0
        assert (box.bottom, box.right) <= image.shape[:2]
        assert box.right <= image.shape[1]
        return image[box.slices()].copy()

    return read


def warp_whole(image: Pixels, theta: Theta) -> Pixels:
    height, width = image.shape[:2]
    return read_warped(reader(image), theta, Box(0, 0, height, width), height=height, width=width)


@settings(max_examples=60)
@given(height=SIDES, width=SIDES, channels=st.sampled_from([1, 3]), theta=transforms(), seed=SEEDS)
def test_the_warped_image_is_torchs(height: int, width: int, channels: int, theta: Theta, seed: int) -> None:
    image = draw_image(height, width, channels, seed)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    expected = warp(planes, torch.from_numpy(theta)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(warp_whole(image, theta) - expected).max() <= 0.5 + 1e-3  # it is rounded, torch's is not


@settings(max_examples=60)
@given(data=st.data(), height=SIDES, width=SIDES, theta=transforms())
def test_any_box_holds_what_the_whole_warped_image_holds_there(
    data: st.DataObject, height: int, width: int, theta: Theta
) -> None:
    image, box = draw_image(height, width), data.draw(boxes(height, width))
    found = read_warped(reader(image), theta, box, height=height, width=width)
    np.testing.assert_array_equal(found, warp_whole(image, theta)[box.slices()])


@settings(max_examples=60)
@given(height=SIDES, width=SIDES, theta=transforms(), limit=st.integers(25, 400))
def test_however_little_may_be_read_at_once_the_result_is_the_same(
    height: int, width: int, theta: Theta, limit: int
) -> None:
    image = draw_image(height, width)
    whole, areas = warp_whole(image, theta), []

    def read(box: Box) -> Pixels:
        areas.append(box.height * box.width)
        return reader(image)(box)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warping, "LARGEST_READ", limit)
        patch.setattr(warping, "AT_ONCE", 50)
        found = read_warped(read, theta, Box(0, 0, height, width), height=height, width=width)
    assert max(areas) <= limit
    np.testing.assert_array_equal(found, whole)


@given(data=st.data(), height=SIDES, width=SIDES, theta=transforms())
def test_at_the_border_image_and_warped_image_are_mirrored_together(
    data: st.DataObject, height: int, width: int, theta: Theta
) -> None:
    image = draw_image(height, width)
    both = np.concatenate([image, warp_whole(image, theta)], axis=2)

    def read(box: Box) -> Pixels:
        warped = read_warped(reader(image), theta, box, height=height, width=width)
        return np.concatenate([image[box.slices()], warped], axis=2)

    seen = data.draw(boxes(height, width)).grow(data.draw(st.integers(1, 50)))
    expected = mirror_read(lambda box: both[box.slices()], seen, height=height, width=width)
    np.testing.assert_array_equal(mirror_read(read, seen, height=height, width=width), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (30, 41)])
def test_the_identity_leaves_the_image_as_it_is(height: int, width: int) -> None:
    image = draw_image(height, width, 3)
    np.testing.assert_array_equal(warp_whole(image, np.eye(3)), image)


def test_a_shift_reads_further_on_and_repeats_the_border() -> None:
    image = draw_image(3, 10)
    theta = np.array([[1, 0, 4 / 10], [0, 1, 0], [0, 0, 1]])  # 2 px of 10: the axis is 2 long
    expected = np.concatenate([image[:, 2:], image[:, -1:], image[:, -1:]], axis=1)
    np.testing.assert_array_equal(warp_whole(image, theta), expected)


def test_a_box_is_read_from_its_surroundings_only() -> None:
    image, box, asked = draw_image(200, 300), Box(50, 60, 90, 110), []

    def read(seen: Box) -> Pixels:
        asked.append(seen)
        return image[seen.slices()]

    theta = np.array([[1, 0, 0.02], [0, 1, 0], [0, 0, 1]])  # 3 px to the right
    read_warped(read, theta, box, height=200, width=300)
    (seen,) = asked
    assert seen.top >= 45
    assert seen.left >= 58
    assert seen.bottom <= 95
    assert seen.right <= 118


@given(height=SIDES, width=SIDES, side=st.integers(1, 50), seed=SEEDS)
def test_the_overview_is_torchs_mean_of_areas(height: int, width: int, side: int, seed: int) -> None:
    image = draw_image(height, width, 3, seed)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    expected = functional.interpolate(planes, size=(side, side), mode="area")[0].permute(1, 2, 0).numpy()
    overview = average_overview(image, side)
    assert overview.shape == (side, side, 3)
    assert np.abs(overview - expected).max() <= 0.5 + 1e-9


@given(height=SIDES, width=SIDES, side=st.integers(1, 50), step=st.integers(1, 40))
def test_an_overview_of_parts_is_that_of_the_whole(height: int, width: int, side: int, step: int) -> None:
    image = draw_image(height, width, 3)
    mean = AreaMean(height, width, side=side, channels=3)
    for box in plan_blocks(height, width, side=step):
        mean.add(image[box.slices()], box)
    np.testing.assert_array_equal(mean.result(), average_overview(image, side))


def test_sums_of_a_bright_image_do_not_overflow() -> None:
    bright = np.full((40_000, 500, 1), 255, dtype=np.uint8)  # 5.1 billion in all, which 32 bits do not hold
    assert average_overview(bright, 1).item() == 255
