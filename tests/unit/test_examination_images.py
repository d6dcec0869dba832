"""What is found out about one image."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from shared.examination.images import ImageExamination, Picture, examine_image, find_image_problems
from shared.examination.thumbnails import decode_thumbnail
from shared.imaging.normalisation import find_window
from shared.imaging.tiling import Box, Pixels
from tests.array_slides import ArraySlide, PaintedSlide, drawn, flat

NOISE = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
SIDE = st.integers(1, 90)


def examine(pixels: Pixels, *, tile: tuple[int, int] = (256, 256)) -> ImageExamination:
    return examine_image(ArraySlide(pixels, tile=tile), check=lambda: None)


class Stop(Exception):
    """Raised to break an examination off."""


def stop() -> None:
    raise Stop


@given(height=SIDE, width=SIDE, rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_how_the_file_is_tiled_changes_nothing(height: int, width: int, rows: int, columns: int) -> None:
    pixels = NOISE[:height, :width]
    assert examine(pixels, tile=(rows, columns)) == examine(pixels, tile=(height, width))


def test_bands_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examine(NOISE, tile=(1, 200))
    monkeypatch.setattr("shared.examination.images.BAND", 3000)
    in_bands = examine(NOISE, tile=(1, 200))
    assert in_bands.focus == pytest.approx(whole.focus)
    assert in_bands.model_dump(exclude={"focus"}) == whole.model_dump(exclude={"focus"})
    assert in_bands.thumbnail == whole.thumbnail


def test_mean_and_deviation_are_those_of_the_pixels() -> None:
    found = examine(NOISE)
    assert found.mean == pytest.approx(NOISE.mean(axis=(0, 1)))
    assert found.deviation == pytest.approx(NOISE.std(axis=(0, 1)))


def test_the_histogram_counts_every_pixel_of_each_channel() -> None:
    expected = [np.histogram(NOISE[..., channel], bins=64, range=(0, 256))[0].tolist() for channel in range(3)]
    assert examine(NOISE).histogram == expected


def test_a_grey_image_has_one_histogram() -> None:
    found = examine(drawn(1))
    assert found.grey
    assert len(found.histogram) == len(found.mean) == 1


def test_saturated_and_black_pixels_are_counted() -> None:
    pixels = flat(100)
    pixels[:16] = 0
    pixels[:, :8, 1] = 255
    found = examine(pixels)
    assert found.saturated == pytest.approx(8 / 64)
    assert found.black == pytest.approx(16 / 64 * 56 / 64)


def test_one_changed_pixel_changes_the_hash() -> None:
    other = NOISE.copy()
    other[7, 7, 1] ^= 1
    assert examine(other).pixels_sha256 != examine(NOISE).pixels_sha256


def test_the_same_bytes_in_another_shape_are_another_image() -> None:
    turned = np.ascontiguousarray(NOISE).reshape(200, 300, 3)
    assert examine(turned).pixels_sha256 != examine(NOISE).pixels_sha256


def test_a_blurred_image_has_less_focus() -> None:
    sharp = drawn(2)
    blurred = gaussian_filter(sharp, (3, 3, 0))
    assert examine(blurred).focus < 0.2 * examine(sharp).focus


def test_a_blank_image_is_warned_about_by_name() -> None:
    noise = np.random.default_rng(0).normal(20, 1.5, (256, 256, 1)).repeat(3, axis=2).astype(np.uint8)
    [problem] = find_image_problems("plate/empty.png", examine(noise))
    assert (problem.code, problem.severity) == ("image_blank", "warning")
    assert problem.text.startswith("plate/empty.png: ")


@pytest.mark.parametrize("seed", range(5))
def test_an_image_with_nuclei_is_not_blank(seed: int) -> None:
    assert find_image_problems("a.png", examine(drawn(seed) // 4)) == []


def test_an_overexposed_fluorescence_image_is_warned_about() -> None:
    pixels = flat(5)
    pixels[:10] = 255
    assert [problem.code for problem in find_image_problems("a.png", examine(pixels))] == ["image_saturated"]


def test_white_glass_is_not_overexposed() -> None:
    assert find_image_problems("a.png", examine(np.maximum(drawn(3, stain="histology"), 255 - drawn(3)))) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_illumination_of_drawn_cells_is_told(seed: int) -> None:
    assert examine(drawn(seed)).illumination == "fluorescence"
    assert examine(255 - drawn(seed)).illumination == "brightfield"


def test_the_thumbnail_shows_the_image() -> None:
    pixels = drawn(4, side=512, stain="histology")
    thumbnail = decode_thumbnail(examine(pixels).thumbnail)
    assert thumbnail.shape == (256, 256, 3)
    averaged = pixels.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail - averaged).mean() < 5


def test_what_is_stored_as_json_has_no_picture_in_it_and_comes_back() -> None:
    found = examine(NOISE)
    stored = found.model_dump_json()
    assert "picture" not in stored
    assert ImageExamination.model_validate_json(stored) == found.model_copy(update={"picture": Picture()})


def test_an_image_of_100_gigapixels_is_sampled_in_flat_memory() -> None:
    slide = PaintedSlide(300_000, 340_000, lambda box: np.full((box.height, box.width, 3), box.top % 251, np.uint8))
    tracemalloc.start()
    found = examine_image(slide, check=lambda: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.sampled
    assert slide.painted < 64 * 256**2 + 300_000 * 340_000 / 64**2 * 1.1
    assert peak < 150e6


def test_the_sample_lies_inside_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.examination.images.WHOLE", 0)
    assert examine(NOISE[:100, :30]).sampled


def test_an_examination_can_be_broken_off() -> None:
    with pytest.raises(Stop):
        examine_image(ArraySlide(NOISE), check=stop)


def test_damage_is_passed_on() -> None:
    def fail(box: Box) -> Pixels:
        raise ValueError(box)

    with pytest.raises(ValueError, match="Box"):
        examine_image(PaintedSlide(640, 640, fail), check=lambda: None)


def windowed(samples: NDArray[np.uint16]) -> ImageExamination:
    """A grey image of 16 bits, as its reader shows it."""
    window = find_window([samples])
    slide = ArraySlide(np.repeat(window.apply(samples)[:, :, None], 3, axis=2))
    slide.window = window
    return examine_image(slide, check=lambda: None)


@pytest.mark.parametrize("side", [128, 512])
def test_an_empty_well_is_blank_although_its_noise_is_stretched(side: int) -> None:
    noise = np.random.default_rng(0).normal(100, 3, (side, side))
    assert windowed(np.rint(noise).astype(np.uint16)).blank


@pytest.mark.parametrize("scale", [4, 20])
def test_faint_nuclei_in_noise_are_not_blank(scale: int) -> None:
    signal = drawn(1)[:, :, 0] / 255 * 3 * scale
    noise = np.random.default_rng(0).normal(100, 3, signal.shape)
    assert not windowed(np.rint(noise + signal).astype(np.uint16)).blank


def test_twice_as_bright_is_not_the_same_image_though_it_is_shown_the_same() -> None:
    samples = drawn(1)[:, :, 0].astype(np.uint16) * 16
    one, other = windowed(samples), windowed(samples * 2)
    assert one.thumbnail == other.thumbnail
    assert one.pixels_sha256 != other.pixels_sha256


def test_channels_are_called_what_a_database_keeps() -> None:
    slide = ArraySlide(drawn(1))
    slide.channels = ("DAPI\x00", "\ud800")
    assert examine_image(slide, check=lambda: None).channels == ["DAPI\ufffd", "\ufffd"]


def test_a_grey_picture_with_as_much_light_as_dark_is_not_guessed_to_be_brightfield() -> None:
    values = np.clip(np.random.default_rng(0).normal(150, 35, (128, 128, 1)), 0, 255).astype(np.uint8)
    assert examine(np.repeat(values, 3, axis=2)).illumination == "unclear"
