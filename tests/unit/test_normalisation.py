"""From what microscopes write to uint8 RGB."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.imaging.normalisation import Samples, Window, colours_of, find_window, to_channels, to_rgb, to_uint8

NUMBER_TYPES = [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.float16, np.float32, float]
SMALL = arrays.array_shapes(min_dims=1, max_dims=3, max_side=12)


@settings(deadline=None)
@given(data=st.data(), number_type=st.sampled_from(NUMBER_TYPES), shape=SMALL)
def test_any_samples_become_uint8_in_their_order(
    data: st.DataObject, number_type: type, shape: tuple[int, ...]
) -> None:
    samples = data.draw(arrays.arrays(number_type, shape))
    pixels = find_window([samples]).apply(samples)
    assert (pixels.shape, pixels.dtype.name) == (shape, "uint8")
    finite = np.isfinite(samples)
    order = np.argsort(samples[finite], kind="stable")
    assert (np.diff(pixels[finite][order].astype(int)) >= 0).all()


@settings(deadline=None)
@given(samples=arrays.arrays(np.uint16, st.integers(1, 200)), parts=st.integers(1, 5))
def test_a_window_does_not_depend_on_how_the_image_comes(samples: np.ndarray, parts: int) -> None:
    assert find_window(np.array_split(samples, parts)) == find_window([samples])


@pytest.mark.parametrize("number_type", [np.uint16, np.int32, np.float32])
def test_the_ends_of_the_window_become_black_and_white(number_type: type) -> None:
    samples: Samples = np.array([90, 100, 150, 200, 300], dtype=number_type)
    assert Window(100, 200).apply(samples).tolist() == [0, 0, 128, 255, 255]


def test_the_window_of_sixteen_bits_leaves_out_a_thousandth_at_each_end() -> None:
    samples = np.concatenate([np.zeros(9), np.arange(1000, 10_982), np.full(9, 65535)]).astype(np.uint16)
    assert find_window([samples]) == Window(1001, 10_980)


def test_a_few_bright_pixels_on_a_constant_background_are_not_lost() -> None:
    samples = np.zeros((1000, 1000), dtype=np.uint16)
    samples[500, 500:600] = 4000
    pixels = find_window([samples]).apply(samples)
    assert (pixels[500, 550], pixels[0, 0]) == (255, 0)


def test_floats_are_stretched_between_their_finite_ends() -> None:
    samples = np.array([np.nan, -np.inf, 1.5, 3.5, np.inf, 1e300])
    assert find_window([samples]) == Window(1.5, 3.5)
    assert Window(1.5, 3.5).apply(samples).tolist() == [0, 0, 0, 255, 255, 255]


@pytest.mark.parametrize("value", [0.0, 5.0, -3e37, 5e-324])
def test_a_constant_image_is_black(value: float) -> None:
    samples = np.full(4, value)
    assert find_window([samples]).apply(samples).tolist() == [0, 0, 0, 0]


def test_the_smallest_and_the_largest_span_are_no_trouble() -> None:
    for low, high in [(0.0, 5e-324), (-9e37, 9e37)]:
        samples = np.array([low, high])
        assert find_window([samples]).apply(samples).tolist() == [0, 255]


def test_without_any_number_there_is_a_window_all_the_same() -> None:
    nothing = np.full(3, np.nan)
    assert find_window([nothing]).apply(nothing).tolist() == [0, 0, 0]


def test_sixteen_bits_take_little_more_memory_than_their_result() -> None:
    samples = np.zeros((2000, 2000), dtype=np.uint16)
    tracemalloc.start()
    Window(0, 100).apply(samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * samples.size


@settings(deadline=None)
@given(pixels=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))))
def test_anything_becomes_rgb(pixels: np.ndarray) -> None:
    rgb = to_rgb(pixels)
    assert (rgb.shape, rgb.dtype.name) == ((*pixels.shape[:2], 3), "uint8")
    colours = np.broadcast_to(colours_of(pixels), rgb.shape)
    alpha = pixels[:, :, -1:] / 255 if pixels.shape[2] in (2, 4) else 1.0
    np.testing.assert_allclose(rgb, colours * alpha + 255 * (1 - alpha), atol=0.51)


def test_grey_without_a_channel_axis_becomes_rgb() -> None:
    assert to_rgb(np.array([[7, 9]], dtype=np.uint8)).tolist() == [[[7, 7, 7], [9, 9, 9]]]


@pytest.mark.parametrize("channels", [0, 5])
def test_other_channels_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"{channels} channels"):
        to_rgb(np.zeros((2, 2, channels), dtype=np.uint8))


@pytest.mark.parametrize(("number_type", "opaque"), [(np.uint16, 65535), (np.float32, 1.0)])
def test_alpha_is_scaled_by_its_number_type_and_colours_by_the_window(number_type: type, opaque: float) -> None:
    samples: Samples = np.array([[[10, 20, 30, opaque], [10, 20, 30, 0]]], dtype=number_type)
    assert to_uint8(samples, Window(10, 30)).tolist() == [[[0, 128, 255, 255], [0, 128, 255, 0]]]


def test_a_network_of_one_channel_sees_grey_as_it_was() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(to_channels(to_rgb(grey), 1)[:, :, 0], grey)


def test_a_network_of_one_channel_sees_the_rounded_mean_of_colours() -> None:
    assert to_channels(np.array([[[1, 1, 0], [1, 0, 0], [255, 255, 255]]], dtype=np.uint8), 1).ravel().tolist() == [
        1,
        0,
        255,
    ]


def test_a_network_of_three_channels_sees_rgb_and_others_do_not_exist() -> None:
    rgb = np.zeros((2, 2, 3), dtype=np.uint8)
    assert to_channels(rgb, 3) is rgb
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        to_channels(rgb, 2)
