"""Where tiles lie and what they read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.imaging.tiling import Box, choose_core, mirror_read, plan_blocks, plan_tiles, read_mirrored, reflect

SIDE = st.integers(1, 300)


@given(height=SIDE, width=SIDE, core=st.integers(1, 128), halo=st.integers(0, 64))
def test_tiles_write_every_pixel_exactly_once(height: int, width: int, core: int, halo: int) -> None:
    written = np.zeros((height, width), dtype=int)
    for tile in plan_tiles(Box(0, 0, height, width), core=core, halo=halo):
        written[tile.write.slices()] += 1
    assert (written == 1).all()


@given(height=SIDE, width=SIDE, side=st.integers(1, 128))
def test_blocks_cover_every_pixel_exactly_once(height: int, width: int, side: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for block in plan_blocks(height, width, side=side):
        covered[block.slices()] += 1
    assert (covered == 1).all()


@given(top=st.integers(0, 20), left=st.integers(0, 20), size=SIDE, cores=st.integers(1, 8), halos=st.integers(0, 6))
def test_every_read_is_one_size_and_begins_on_the_grid(top: int, left: int, size: int, cores: int, halos: int) -> None:
    grid = 16
    region = Box(top * grid, left * grid, top * grid + size, left * grid + size)
    for tile in plan_tiles(region, core=cores * grid, halo=halos * grid):
        assert (tile.read.height, tile.read.width) == ((cores + 2 * halos) * grid,) * 2
        assert (tile.read.top % grid, tile.read.left % grid) == (0, 0)
        assert (tile.write.top, tile.write.left) == (tile.read.top + halos * grid, tile.read.left + halos * grid)


@given(height=st.integers(1, 40), width=st.integers(1, 40), data=st.data())
def test_mirroring_is_numpys_reflection_however_far_the_box_leaves_the_image(
    height: int, width: int, data: st.DataObject
) -> None:
    image = np.arange(height * width, dtype=np.uint32).reshape(height, width, 1).astype(np.uint8)
    before, after = data.draw(st.integers(0, 120)), data.draw(st.integers(0, 120))
    padded = np.pad(image, ((before, after), (before, after), (0, 0)), mode="reflect")
    seen = read_mirrored(image, Box(-before, -before, height + after, width + after))
    np.testing.assert_array_equal(seen, padded)


@given(height=st.integers(1, 60), width=st.integers(1, 60), data=st.data())
def test_a_mirrored_read_asks_only_for_what_lies_inside_the_image(height: int, width: int, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(-80, 80)), data.draw(st.integers(-80, 80))
    box = Box(top, left, top + data.draw(st.integers(1, 90)), left + data.draw(st.integers(1, 90)))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def read(inside: Box) -> np.ndarray:
        assert 0 <= inside.top < inside.bottom <= height
        assert 0 <= inside.left < inside.right <= width
        return image[inside.slices()]

    seen = mirror_read(read, box, height=height, width=width)
    np.testing.assert_array_equal(
        seen, image[reflect(box.top, box.bottom, size=height)][:, reflect(box.left, box.right, size=width)]
    )


def test_one_pixel_is_repeated() -> None:
    assert (read_mirrored(np.full((1, 1, 3), 7, dtype=np.uint8), Box(-5, -5, 9, 9)) == 7).all()


def test_the_core_that_reads_fewest_pixels_is_chosen() -> None:
    cores = [256, 512, 1024, 2048]
    assert choose_core(200, 200, cores=cores, halo=96) == 256
    assert choose_core(4096, 4096, cores=cores, halo=96) == 2048
    assert choose_core(2967, 2220, cores=cores, halo=96) == 1024


@pytest.mark.parametrize(("core", "halo"), [(0, 1), (-1, 1), (1, -1)])
def test_impossible_tiles_are_refused(core: int, halo: int) -> None:
    with pytest.raises(ValueError, match="positive core"):
        plan_tiles(Box(0, 0, 10, 10), core=core, halo=halo)


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Box(0, 0, 0, 5)
