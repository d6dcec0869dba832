"""Which images are there twice."""

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.examination.duplicates import Duplicates, find_duplicates
from shared.examination.images import examine_image
from shared.examination.portraits import Gallery, Portrait, join
from shared.imaging.tiling import Pixels
from tests.array_slides import ArraySlide, drawn, flat

VIEWS: list[Callable[[Pixels], Pixels]] = [
    np.fliplr,
    np.flipud,
    np.rot90,
    lambda pixels: np.rot90(pixels, 2),
    lambda pixels: np.rot90(pixels, 3),
    lambda pixels: pixels.swapaxes(0, 1),
    lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
]
CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "compressed": lambda pixels: compress(pixels, 40),
    "brighter": lambda pixels: np.minimum(pixels, 200) + np.uint8(30),
    "of more contrast": lambda pixels: np.clip(pixels * 1.15, 0, 255).astype(np.uint8),
    "halved": lambda pixels: np.asarray(Image.fromarray(pixels).reduce(2)),
    "noisier": lambda pixels: add_noise(pixels, 4),
    "shifted": lambda pixels: pixels[2:, 2:],
    "turned and compressed": lambda pixels: compress(np.rot90(pixels), 60),
}
FIELDS = {(stain, seed): drawn(seed, stain=stain) for stain in ("fluorescence", "histology") for seed in range(8)}


def compress(pixels: Pixels, quality: int) -> Pixels:
    target = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, "JPEG", quality=quality)
    return np.asarray(Image.open(target))


def add_noise(pixels: Pixels, deviation: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, deviation, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def find(images: Sequence[Pixels]) -> Duplicates:
    examined = [examine_image(ArraySlide(image), check=lambda: None) for image in images]
    return find_duplicates(Gallery([Portrait.of(one) for one in examined]), check=lambda: None)


def test_different_fields_are_no_duplicates() -> None:
    assert find(list(FIELDS.values())) == Duplicates([], [])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_fields(change: str) -> None:
    others = list(FIELDS.values())
    copies = [CHANGES[change](image) for image in others[::3]]
    assert find([*others, *copies]).groups() == [(3 * place, len(others) + place) for place in range(len(copies))]


@settings(max_examples=40)
@given(place=st.integers(0, len(FIELDS) - 1), view=st.sampled_from(VIEWS), crop=st.integers(0, 3))
def test_flips_and_quarter_turns_are_found(place: int, view: Callable[[Pixels], Pixels], crop: int) -> None:
    image = list(FIELDS.values())[place][: 256 - crop, : 200 + crop]
    assert find([image, np.ascontiguousarray(view(image))]).groups() == [(0, 1)]


def test_the_same_pixels_are_told_from_similar_ones() -> None:
    first, second = drawn(1), drawn(2)
    found = find([first, second, first.copy(), compress(first, 50), second.copy()])
    assert found.same == [(0, 2), (1, 4)]
    assert [(pair.first, pair.second) for pair in found.near] == [(0, 3)]
    assert found.groups() == [(0, 2, 3), (1, 4)]


def test_blank_images_are_no_duplicates_of_each_other() -> None:
    assert find([flat(level) for level in (0, 10, 20)]) == Duplicates([], [])


def test_empty_fields_full_of_noise_are_no_duplicates_of_each_other() -> None:
    generator = np.random.default_rng(0)
    images = [generator.normal(30, 12, (256, 256, 1)).clip(0, 255).astype(np.uint8).repeat(3, 2) for _ in range(8)]
    assert find(images) == Duplicates([], [])


def test_the_negative_is_another_image() -> None:
    assert find([drawn(5), 255 - drawn(5)]) == Duplicates([], [])


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_have_no_duplicates(count: int) -> None:
    assert find([drawn(1)][:count]) == Duplicates([], [])


@given(pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(13, 25)), max_size=30))
def test_joined_groups_part_what_the_pairs_link(pairs: list[tuple[int, int]]) -> None:
    groups = join(pairs)
    place = {number: place for place, group in enumerate(groups) for number in group}
    assert sorted(place) == sorted({number for pair in pairs for number in pair})
    assert all(place[one] == place[other] for one, other in pairs)
    assert sum(len(group) - 1 for group in groups) <= len(set(pairs))


def test_the_search_can_be_broken_off() -> None:
    def stop() -> None:
        raise InterruptedError

    examined = [examine_image(ArraySlide(drawn(seed)), check=lambda: None) for seed in (1, 2)]
    with pytest.raises(InterruptedError):
        find_duplicates(Gallery([Portrait.of(one) for one in examined]), check=stop)
