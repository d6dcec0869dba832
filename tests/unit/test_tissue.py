"""Where a slide holds anything: no nucleus is lost, and nothing is said about pictures that are no stained slides."""

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from shared.imaging.drawing import HAEMATOXYLIN, draw_nuclei
from shared.imaging.tiling import Box, Pixels, plan_tiles
from shared.imaging.tissue import (
    Tissue,
    decode_tiles,
    encode_tiles,
    find_signal,
    find_tissue,
    overview_side,
    tiles_with_tissue,
)

GLASS = np.array([244.0, 242.0, 240.0])
CORE = 128  # px
MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


def glass(height: int, width: int, *, noise: float = 1.5) -> np.ndarray:
    """Bare glass as a camera sees it, (height, width, 3) float."""
    return GLASS + np.random.default_rng(0).normal(0, noise, (height, width, 3))


def stain(picture: np.ndarray, row: int, column: int, *, radius: float, amount: float) -> Box:
    """A round nucleus with that much haematoxylin, laid on the picture; where it lies."""
    rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
    inside = np.hypot(rows - row, columns - column) <= radius
    picture[inside] *= 10.0 ** (-amount * HAEMATOXYLIN)
    found = np.argwhere(inside)
    (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0) + 1
    return Box(int(top), int(left), int(bottom), int(right))


def as_pixels(picture: np.ndarray) -> Pixels:
    pixels: Pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return pixels


def seen_at(pixels: Pixels, factor: int) -> Pixels:
    """The overview in which a pixel stands for `factor × factor` px."""
    return np.asarray(Image.fromarray(pixels).reduce(factor))


def cut(height: int, width: int) -> list[Box]:
    return [tile.write for tile in plan_tiles(Box(0, 0, height, width), core=CORE, halo=0)]


def overlap(one: Box, other: Box) -> bool:
    return one.top < other.bottom and other.top < one.bottom and one.left < other.right and other.left < one.right


def touches(tissue: Tissue, box: Box, height: int, width: int) -> bool:
    return bool(tiles_with_tissue(tissue, [box], height, width)[0])


@settings(deadline=None, max_examples=25)
@given(
    row=st.integers(10, 500),
    column=st.integers(10, 700),
    radius=st.floats(4, 14),
    amount=st.floats(0.15, 1.5),
    factor=st.sampled_from([1, 2, 4]),
)
def test_no_tile_that_holds_a_part_of_a_faint_nucleus_is_left_out(row, column, radius, amount, factor) -> None:
    picture = glass(517, 713)
    nucleus = stain(picture, row, column, radius=radius, amount=amount)
    stain(picture, 3, 3, radius=3, amount=2)  # a picture without any colour would not be judged
    tissue = find_tissue(seen_at(as_pixels(picture), factor))
    assert tissue is not None
    boxes = cut(517, 713)
    chosen = tiles_with_tissue(tissue, boxes, 517, 713)
    assert all(chosen[index] for index, box in enumerate(boxes) if overlap(box, nucleus))


def test_a_single_nucleus_is_found_where_a_pixel_of_the_overview_is_larger_than_itself() -> None:
    picture, places = glass(1600, 1600), [(300, 1200), (800, 800), (1216, 400)]
    for row, column in places:  # in a pixel, and where four or two pixels meet
        stain(picture, row, column, radius=14, amount=0.6)
    tissue = find_tissue(seen_at(as_pixels(picture), 32))
    assert tissue is not None
    for row, column in places:
        assert touches(tissue, Box(row - 1, column - 1, row + 1, column + 1), 1600, 1600)


def test_most_tiles_of_bare_glass_are_left_out() -> None:
    picture = glass(1024, 1024)
    stain(picture, 100, 100, radius=60, amount=0.5)
    tissue = find_tissue(seen_at(as_pixels(picture), 4))
    assert tissue is not None
    chosen = tiles_with_tissue(tissue, cut(1024, 1024), 1024, 1024)
    assert 0 < chosen.sum() <= 8


def test_nothing_is_found_on_bare_glass() -> None:
    tissue = find_tissue(as_pixels(glass(400, 300)))
    assert tissue is not None
    assert not tiles_with_tissue(tissue, cut(400, 300), 400, 300).any()


def test_traces_of_jpeg_are_hardly_ever_tissue() -> None:
    picture = as_pixels(glass(800, 800, noise=4))
    tissue = find_tissue(imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(picture, level=70)))
    assert tissue is not None
    assert tissue.mask.mean() < 0.01


def test_what_a_scanner_left_white_is_no_reason_to_take_the_glass_for_tissue() -> None:
    picture = as_pixels(glass(400, 400))
    picture[:, :250] = 255
    tissue = find_tissue(picture)
    assert tissue is not None
    assert not tissue.mask[:, 300:].any()


@pytest.mark.parametrize("seed", range(6))
def test_every_nucleus_of_a_drawn_slide_is_kept(seed: int) -> None:
    picture, labels = draw_nuclei(512, 512, seed=seed, stain="histology")
    tissue = find_tissue(picture)
    kept = np.ones(labels.shape, dtype=bool) if tissue is None else tissue.mask
    assert kept[labels > 0].mean() > 0.999  # a pixel of an outline may be as pale as the glass


@pytest.mark.parametrize("seed", range(4))
def test_fluorescence_is_not_judged(seed: int) -> None:
    assert find_tissue(draw_nuclei(300, 300, seed=seed, stain="fluorescence")[0]) is None


def test_coloured_fluorescence_is_not_judged() -> None:
    picture = draw_nuclei(300, 300, seed=0, stain="fluorescence")[0] // np.array([1, 3, 9], dtype=np.uint8)
    assert find_tissue(picture) is None


@pytest.mark.parametrize("level", [0, 128, 240, 255])
def test_a_picture_without_colour_is_not_judged(level: int) -> None:
    assert find_tissue(np.full((100, 120, 3), level, dtype=np.uint8)) is None


def test_tissue_without_any_glass_is_not_judged() -> None:
    picture = glass(200, 200) * 10.0 ** (-0.3 * np.array([0.1, 0.9, 0.3]))
    assert find_tissue(as_pixels(picture)) is None


def test_the_smallest_pictures_can_be_asked_about() -> None:
    for shape in ((1, 1, 3), (2, 1, 3), (1, 7, 3)):
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        tissue = find_tissue(picture)
        assert tissue is None or tissue.mask.shape == shape[:2]


@pytest.mark.parametrize("seed", range(4))
def test_bright_nuclei_are_signal(seed: int) -> None:
    picture, labels = draw_nuclei(400, 400, seed=seed, stain="fluorescence")
    signal = find_signal(picture)
    assert signal is not None
    assert set(np.unique(labels[signal.mask])) >= set(np.unique(labels))


def test_dark_ground_is_no_signal() -> None:
    picture = np.random.default_rng(0).poisson(6, (300, 300, 1)).astype(np.uint8).repeat(3, axis=2)
    picture[140:160, 140:160] += 30
    signal = find_signal(picture)
    assert signal is not None
    assert signal.mask[145:155, 145:155].all()
    assert signal.mask.mean() < 0.05


def test_a_bright_picture_holds_no_signal_to_be_told_apart() -> None:
    assert find_signal(as_pixels(glass(100, 100))) is None


@settings(deadline=None)
@given(mask=MASKS, factor=st.integers(1, 40), data=st.data())
def test_a_box_over_something_that_was_found_touches_it(mask, factor, data) -> None:
    height, width = (data.draw(st.integers((side - 1) * factor + 1, side * factor)) for side in mask.shape)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = Box(row, column, row + data.draw(st.integers(1, 50)), column + data.draw(st.integers(1, 50)))
    part = mask[row // factor : -(-box.bottom // factor), column // factor : -(-box.right // factor)]
    assert touches(Tissue(mask), box, height, width) or not part.any()


def test_far_from_everything_found_nothing_is_touched() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[10, 20] = True
    boxes = [Box(0, 0, 400, 800), Box(500, 0, 900, 800), Box(0, 1000, 400, 1600), Box(-50, -50, 90, 190)]
    chosen = tiles_with_tissue(Tissue(mask), boxes, height=3200, width=4000)
    assert chosen.tolist() == [True, False, False, False]


def test_no_boxes_are_no_tiles() -> None:
    assert tiles_with_tissue(Tissue(np.ones((2, 2), dtype=bool)), [], 100, 100).tolist() == []


@given(chosen=arrays.arrays(np.bool_, st.integers(0, 70)))
def test_flags_of_tiles_come_back_as_they_were(chosen) -> None:
    text = encode_tiles(chosen)
    assert len(text) == 2 * -(-len(chosen) // 8)
    np.testing.assert_array_equal(decode_tiles(text, len(chosen)), chosen)


@pytest.mark.parametrize("text", ["", "ff", "ffffff"])
def test_flags_of_another_number_of_tiles_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="12 tiles"):
        decode_tiles(text, 12)


def test_an_overview_grows_with_the_image_within_bounds() -> None:
    assert [overview_side(side, side // 2) for side in (300, 16_000, 200_000)] == [512, 1000, 2048]
