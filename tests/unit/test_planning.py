"""How an image is cut for a model: which tiles, which of them are worth predicting, where seams are measured."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from services.worker.settings import WorkerSettings
from services.worker.stages.facts import ImageFacts
from services.worker.stages.plan import find_cores, find_facts, plan_blocks, skip_empty_tiles
from services.worker.stages.seams import WINDOWS, choose_windows
from shared.errors import Rejected
from shared.imaging.tiling import Box, Pixels
from shared.imaging.tissue import encode_tiles
from shared.schemas.contracts import Exactness
from shared.slides import Slide, open_slide
from shared.tables.jobs import Stage
from tests.rows import CONTRACT

SETTINGS = WorkerSettings.model_construct(block_side=2048, engine_bytes=6_000_000_000)
GLASS, STAIN = (243, 242, 245), (120, 60, 140)
FACTS = ImageFacts(format="tiff", height=1000, width=2500, mpp=None, window=None, core=256, block_side=512)


def go_on() -> None:
    """Nobody wants the work to stop."""


def open_picture(folder: Path, pixels: Pixels) -> Slide:
    path = folder / "picture.tif"
    tifffile.imwrite(path, pixels, tile=(256, 256))
    return open_slide(path)


def draw_glass(height: int, width: int) -> Pixels:
    """Clean glass, with the noise of a camera."""
    noise = np.random.default_rng(0).integers(-2, 3, (height, width, 3))
    return (np.array(GLASS) + noise).astype(np.uint8)


class TestCores:
    def test_a_core_is_no_larger_than_the_engine_has_memory_for(self) -> None:
        contract = CONTRACT.model_copy(update={"cores": [256, 512, 1024], "bytes_per_pixel": 1000})
        seen = [(core + 2 * contract.halo) ** 2 * 1000 for core in contract.cores]
        assert find_cores(contract, SETTINGS.model_copy(update={"engine_bytes": seen[1]})) == [256, 512]
        assert find_cores(contract, SETTINGS.model_copy(update={"engine_bytes": seen[1] - 1})) == [256]
        assert find_cores(contract, SETTINGS.model_copy(update={"engine_bytes": 1})) == [256], "one is needed"

    def test_the_plan_says_how_much_is_computed_twice(self, tmp_path: Path) -> None:
        contract = CONTRACT.model_copy(update={"cores": [256]})
        facts = find_facts(open_picture(tmp_path, draw_glass(512, 300)), contract, SETTINGS, name="a")
        assert (facts.tiles, facts.core) == (4, 256)
        assert facts.redundancy == pytest.approx(1 - 512 * 300 / (4 * 320**2), abs=1e-3)

    def test_an_image_of_two_tiles_is_refused_by_a_model_that_cannot_be_tiled(self, tmp_path: Path) -> None:
        contract = CONTRACT.model_copy(update={"exactness": Exactness.UNTILEABLE})
        assert find_facts(open_picture(tmp_path, draw_glass(256, 256)), contract, SETTINGS, name="a").tiles == 1
        with pytest.raises(Rejected, match=r"a\.png: 257 × 200 px is more than one tile \(256 px\).*choose another"):
            find_facts(open_picture(tmp_path, draw_glass(200, 257)), contract, SETTINGS, name="a.png")


class TestEmptyTiles:
    @pytest.fixture
    def slide(self, tmp_path: Path) -> Slide:
        """Glass, with a nucleus of 12 px in one corner."""
        picture = draw_glass(1500, 2000)
        picture[1400:1412, 1900:1912] = STAIN
        return open_picture(tmp_path, picture)

    @pytest.fixture
    def facts(self, slide: Slide) -> ImageFacts:
        settings = SETTINGS.model_copy(update={"block_side": 512})
        return find_facts(slide, CONTRACT, settings, name="a")

    def test_glass_is_left_out_and_a_nucleus_is_not(self, slide: Slide, facts: ImageFacts) -> None:
        facts = skip_empty_tiles(slide, facts, "auto", check=go_on)
        assert facts.tiles - facts.skipped in (1, 2)
        assert facts.is_predicted(Box(1400, 1900, 1412, 1912))
        assert not facts.is_predicted(Box(0, 0, 256, 256))
        (block,) = plan_blocks(facts, halo=32)
        assert (block.stage, block.spec) == (Stage.PREDICT, {"box": [1024, 1536, 1500, 2000]})

    def test_everything_is_predicted_if_that_is_asked_for(self, slide: Slide, facts: ImageFacts) -> None:
        assert skip_empty_tiles(slide, facts, "predict", check=go_on) == facts
        assert len(plan_blocks(facts, halo=32)) == 12

    def test_bare_glass_is_assembled_at_once(self, tmp_path: Path, facts: ImageFacts) -> None:
        glass = skip_empty_tiles(open_picture(tmp_path, draw_glass(1500, 2000)), facts, "auto", check=go_on)
        assert glass.skipped == glass.tiles
        assert [block.stage for block in plan_blocks(glass, halo=32)] == [Stage.DIVIDE]

    def test_what_is_dark_in_fluorescence_is_left_out_only_if_that_is_asked_for(
        self, tmp_path: Path, facts: ImageFacts
    ) -> None:
        picture = np.random.default_rng(0).integers(3, 7, (1500, 2000, 1), dtype=np.uint8).repeat(3, axis=2)
        picture[700:730, 300:330] = 180
        slide = open_picture(tmp_path, picture)
        assert skip_empty_tiles(slide, facts, "auto", check=go_on).skipped == 0
        skipped = skip_empty_tiles(slide, facts, "skip", check=go_on)
        assert 0 < skipped.tiles - skipped.skipped <= 6
        assert skipped.is_predicted(Box(700, 300, 730, 330))

    def test_a_smaller_image_is_not_searched(self, slide: Slide) -> None:
        facts = find_facts(slide, CONTRACT, SETTINGS, name="a")
        assert skip_empty_tiles(slide, facts, "auto", check=go_on).skipped == 0

    @given(wanted=st.lists(st.booleans(), min_size=40, max_size=40))
    def test_the_tiles_of_the_blocks_are_those_wanted(self, wanted: list[bool]) -> None:
        facts = FACTS.model_copy(update={"tissue": encode_tiles(np.array(wanted))})
        found = {tile.write for block in facts.blocks() for tile in facts.find_tiles(block, halo=32)}
        every = [tile.write for tile in FACTS.find_tiles(Box(0, 0, 1000, 2500), halo=32)]
        assert found == {box for box, flag in zip(every, wanted, strict=True) if flag}


class TestSeamWindows:
    @given(
        height=st.integers(1, 3000),
        width=st.integers(1, 3000),
        core=st.sampled_from([256, 512]),
        seed=st.text(max_size=3),
    )
    def test_a_window_lies_inside_on_the_grid_across_a_seam(
        self, height: int, width: int, core: int, seed: str
    ) -> None:
        facts = FACTS.model_copy(update={"height": height, "width": width, "core": core})
        contract = CONTRACT.model_copy(update={"cores": [128]})
        windows = choose_windows(facts, contract, seed=seed)
        assert windows == choose_windows(facts, contract, seed=seed)
        for box in windows:
            assert (box.height, box.width) == (128, 128)
            assert 0 <= box.top <= height - 128
            assert 0 <= box.left <= width - 128
            assert box.top % contract.grid == box.left % contract.grid == 0
            assert box.top // core != (box.bottom - 1) // core or box.left // core != (box.right - 1) // core

    def test_a_large_image_has_windows_and_one_of_a_single_tile_has_none(self) -> None:
        assert len(choose_windows(FACTS, CONTRACT, seed="a")) == WINDOWS
        assert choose_windows(FACTS.model_copy(update={"height": 256, "width": 256}), CONTRACT, seed="a") == []

    def test_no_window_looks_at_what_was_left_out(self) -> None:
        wanted = np.zeros(40, dtype=bool)
        assert choose_windows(FACTS.model_copy(update={"tissue": encode_tiles(wanted)}), CONTRACT, seed="a") == []
        wanted[[0, 1, 10, 11]] = True  # the first two tiles of the first two rows
        windows = choose_windows(FACTS.model_copy(update={"tissue": encode_tiles(wanted)}), CONTRACT, seed="a")
        assert all(box.bottom <= 512 and box.right <= 512 for box in windows)
