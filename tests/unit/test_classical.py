"""Nuclei by a threshold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.imaging.classical import Baseline, apply_baseline, find_otsu, plan_baseline
from shared.imaging.drawing import draw_nuclei
from shared.imaging.metrics.pixels import Confusion
from shared.imaging.tiling import Pixels, plan_blocks


def draw_discs(*, ground: int, nuclei: int) -> tuple[Pixels, np.ndarray]:
    rows, columns = np.mgrid[:64, :64]
    truth = ((rows % 32 - 16) ** 2 + (columns % 32 - 16) ** 2) < 64
    grey = np.where(truth, nuclei, ground) + np.random.default_rng(0).integers(-9, 10, truth.shape)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), truth


@pytest.mark.parametrize(("ground", "nuclei", "method"), [(20, 90, "bright"), (220, 120, "dark")])
def test_nuclei_are_found_whether_bright_or_dark(ground, nuclei, method):
    image, truth = draw_discs(ground=ground, nuclei=nuclei)
    baseline = plan_baseline(image)
    assert baseline.method == method
    assert np.array_equal(apply_baseline(image, baseline)[0] == 255, truth)


@pytest.mark.parametrize(("seed", "stain"), [(3, "fluorescence"), (5, "histology")])
def test_drawn_nuclei_are_mostly_found(seed, stain):
    image, labels = draw_nuclei(192, 192, seed=seed, stain=stain)
    found = apply_baseline(image, plan_baseline(image))[0] == 255
    assert Confusion.of(labels > 0, found).f1 > 0.6


def test_stained_tissue_is_cut_by_its_haematoxylin():
    image, _ = draw_nuclei(192, 192, seed=5, stain="histology")
    assert plan_baseline(image).method == "haematoxylin"


def test_coloured_fluorescence_is_not_taken_for_tissue():
    grey, _ = draw_discs(ground=20, nuclei=200)
    image = grey.copy()
    image[..., :2] = 0
    assert plan_baseline(image).method == "bright"


@given(side=st.integers(1, 70), seed=st.integers(0, 3))
def test_any_part_is_cut_as_in_the_whole(side, seed):
    image = np.random.default_rng(seed).integers(0, 256, (40, 61, 3)).astype(np.uint8)
    for method in ("bright", "dark", "haematoxylin"):
        baseline = Baseline(method, 0.4 if method == "haematoxylin" else 120.3)
        whole = apply_baseline(image, baseline)
        for box in plan_blocks(40, 61, side=side):
            assert np.array_equal(apply_baseline(image[box.slices()], baseline), whole[:, *box.slices()])


@given(st.lists(st.integers(0, 255), min_size=2, max_size=60))
def test_no_other_threshold_parts_values_better(values):
    array = np.array(values, dtype=np.float64)

    def between(threshold: int) -> float:
        upper = array >= threshold
        if upper.all() or not upper.any():
            return 0.0
        return float(upper.mean() * (1 - upper.mean()) * (array[upper].mean() - array[~upper].mean()) ** 2)

    best = max(between(threshold) for threshold in range(256))
    assert between(int(find_otsu(array, low=0, high=256))) == pytest.approx(best)


def test_an_even_image_has_no_nuclei():
    image = np.full((16, 16, 3), 37, np.uint8)
    assert not apply_baseline(image, plan_baseline(image)).any()


def test_facts_survive_the_database():
    baseline = plan_baseline(draw_discs(ground=20, nuclei=90)[0])
    assert Baseline.from_json(json.loads(json.dumps(baseline.as_json()))) == baseline


def test_a_sample_without_colours_is_refused():
    with pytest.raises(ValueError, match="RGB"):
        plan_baseline(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("colour", [(240, 240, 240), (245, 238, 243), (20, 20, 20), (0, 0, 0), (255, 255, 255)])
def test_nothing_is_found_in_an_even_image(colour: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (128, 128, 1))
    for image in (np.full((64, 64, 3), colour, np.uint8), np.clip(colour + noise, 0, 255).astype(np.uint8)):
        assert not apply_baseline(image, plan_baseline(image)).any()


def test_nothing_is_found_in_glass_whose_colours_are_noisy() -> None:
    image = np.random.default_rng(0).normal((245, 238, 243), 3, (128, 128, 3)).clip(0, 255).astype(np.uint8)
    assert not apply_baseline(image, plan_baseline(image)).any()
