"""Tiles of small images, put together for the engine."""

from unittest.mock import sentinel

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.stages.bundle import LARGEST_BATCH, Batch, make_batches
from services.worker.stages.small import SmallImage

SIDES = [64, 128, 192]


def make_image(number: int, side: int) -> SmallImage:
    tile = np.full((side, side, 3), number % 256, dtype=np.uint8)
    return SmallImage(
        image=sentinel.row,
        facts=sentinel.facts,
        pixels=tile,
        samples=tile,
        channels=("red", "green", "blue"),
        features=sentinel.features,
        truth=None,
        tile=tile,
    )


@given(sides=st.lists(st.sampled_from(SIDES), max_size=60), batch_pixels=st.integers(0, 300_000))
def test_every_image_is_in_one_batch_with_others_of_its_size(sides: list[int], batch_pixels: int) -> None:
    images = [make_image(number, side) for number, side in enumerate(sides)]
    batches = list(make_batches(images, batch_pixels))
    assert sorted(map(id, images)) == sorted(id(image) for batch in batches for image in batch.images)
    for batch in batches:
        assert len({image.tile.shape for image in batch.images}) == 1
        assert 1 <= len(batch.images) <= batch.size <= LARGEST_BATCH
        assert batch.size == 1 or batch.size * batch.shape[1] ** 2 <= batch_pixels
    for side in SIDES:
        assert len({batch.shape for batch in batches if batch.shape[1] == side}) <= 1, "one is compiled for a size"


def test_a_model_of_before_batches_gets_its_tiles_one_by_one() -> None:
    images = [make_image(number, 64) for number in range(5)]
    assert [batch.shape for batch in make_batches(images, 0)] == [(1, 64, 64, 3)] * 5


@pytest.mark.parametrize("filled", [1, 3, 4])
def test_what_is_missing_of_a_batch_is_black(filled: int) -> None:
    batch = Batch([make_image(number + 1, 64) for number in range(filled)], 4)
    out = np.full(batch.shape, 255, dtype=np.uint8)
    batch.fill(out)
    assert out[:, 0, 0, 0].tolist() == [number + 1 if number < filled else 0 for number in range(4)]
