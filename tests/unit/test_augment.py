"""Changes to crops that leave their truth true."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.trainer.augment import Augmenter, equalise
from services.trainer.warps import draw_smooth
from shared.imaging.levels import Levels, count_values
from shared.schemas.training import AugmentationIn

NOTHING: dict[str, Any] = {"turns": False, "flips": False}
GEOMETRY: list[dict[str, Any]] = [
    {"turns": True},
    {"flips": True},
    {"scale": 0.3},
    {"translate": 5},
    {"rotate": 90},
    {"shear": 20},
    {"elastic": 3, "elastic_sigma": 6},
]
PHOTOMETRY: list[dict[str, Any]] = [
    {"contrast": 0.3},
    {"brightness": 40},
    {"colour": 0.3},
    {"invert": 1.0},
    {"equalise": 1.0},
]
EVERYTHING = {name: value for changes in GEOMETRY + PHOTOMETRY for name, value in changes.items()}


pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes: Any) -> Augmenter:
    return Augmenter(AugmentationIn(**(NOTHING | changes)))


def draw_blobs(crops: int = 6, *, side: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """Images that show their masks of classes 0, 1 and 3, in three channels, and borders that do the same."""
    torch.manual_seed(7)
    smooth = torch.nn.functional.interpolate(torch.rand(crops, 1, 5, 5), size=(side, side), mode="bicubic")[:, 0]
    masks = ((smooth > 0.45).to(torch.uint8) + 2 * (smooth > 0.6).to(torch.uint8)).contiguous()
    images = (masks / 4)[:, None].repeat(1, 3, 1, 1)
    return images, masks, masks.float()


def seeded(augment: Augmenter, seed: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    batch = draw_blobs()
    torch.manual_seed(seed)
    return augment(*batch)


def find_uniform(masks: Tensor) -> Tensor:
    """Where all pixels up to 2 px away have the same class, within the crop."""
    windows = torch.nn.functional.pad(masks.float(), (2, 2, 2, 2), value=-1).unfold(1, 5, 1).unfold(2, 5, 1)
    return windows.amax((-2, -1)) == windows.amin((-2, -1))


def name_of(changes: dict[str, Any]) -> str:
    return next(iter(changes))


def test_with_everything_off_nothing_changes_and_nothing_is_drawn() -> None:
    batch, before = draw_blobs(), torch.random.get_rng_state()
    changed = make()(*batch)
    for old, new in zip(batch, changed, strict=True):
        assert new is old
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("changes", GEOMETRY, ids=name_of)
def test_image_mask_and_border_move_together(changes: dict[str, Any]) -> None:
    images, masks, borders = seeded(make(**changes))
    original = draw_blobs()[1]
    assert (masks != original).float().mean() > 0.05
    assert borders is not None
    torch.testing.assert_close(images[:, 0] * 4, borders, atol=1e-4, rtol=0)
    inside = find_uniform(masks)  # at the seams an image is a mixture, but a mask one class
    assert inside.float().mean() > 0.2
    torch.testing.assert_close(borders[inside], masks[inside].float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("changes", PHOTOMETRY, ids=name_of)
def test_photometry_leaves_the_truth_alone(changes: dict[str, Any]) -> None:
    images, masks, borders = seeded(make(**changes))
    before = draw_blobs()
    assert (images != before[0]).any()
    assert torch.equal(masks, before[1])
    assert borders is not None
    assert torch.equal(borders, before[2])


def test_masks_stay_class_indices_and_images_within_their_range() -> None:
    images, masks, borders = seeded(make(**EVERYTHING))
    assert masks.dtype == torch.uint8
    assert set(masks.unique().tolist()) <= {0, 1, 3}
    assert images.dtype == torch.float32
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert borders is not None
    assert float(borders.max()) <= 3 + 1e-4


@pytest.mark.parametrize("changes", [*GEOMETRY, *PHOTOMETRY[:3], {"invert": 0.5}, {"equalise": 0.5}], ids=name_of)
def test_the_seed_decides(changes: dict[str, Any]) -> None:
    augment = make(**changes)
    first, again = seeded(augment, 1), seeded(augment, 1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert any(not torch.equal(first[0], seeded(augment, seed)[0]) for seed in (2, 3, 4))


@pytest.mark.parametrize("changes", [GEOMETRY[0] | GEOMETRY[1], EVERYTHING])
def test_crops_without_borders_are_changed_alike(changes: dict[str, Any]) -> None:
    images, masks, _ = draw_blobs()
    torch.manual_seed(0)
    alone = make(**changes)(images, masks, None)
    full = seeded(make(**changes))
    assert alone[2] is None
    assert torch.equal(alone[0], full[0])
    assert torch.equal(alone[1], full[1])


def test_turns_and_flips_are_the_eight_symmetries_of_the_square() -> None:
    masks = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).repeat(100, 1, 1)
    torch.manual_seed(0)
    images, turned, _ = make(turns=True, flips=True)(masks[:, None] / 255, masks, None)
    assert torch.equal((images[:, 0] * 255).round().to(torch.uint8), turned)
    symmetries = {
        torch.rot90(side, times, (0, 1)).numpy().tobytes() for side in (masks[0], masks[0].T) for times in range(4)
    }
    assert {mask.contiguous().numpy().tobytes() for mask in turned} == symmetries


def test_crops_that_are_not_square_are_not_turned() -> None:
    with pytest.raises(ValueError, match="only square crops"):
        make(turns=True)(torch.zeros(1, 1, 4, 6), torch.zeros(1, 4, 6), None)


def test_translation_is_in_pixels_and_mirrors_outside() -> None:
    ramp = (torch.arange(32.0) / 64).expand(200, 1, 32, 32)
    torch.manual_seed(0)
    images, _, _ = make(translate=4)(ramp, torch.zeros(200, 32, 32, dtype=torch.uint8), None)
    shifts = (ramp[:, 0, 16, 16] - images[:, 0, 16, 16]) * 64
    assert 3.5 < float(shifts.max()) <= 4.001
    assert -4.001 <= float(shifts.min()) < -3.5
    right = int(shifts.argmax())  # what came in on the left is the mirror image of what was there
    expected = float(shifts[right]) / 64
    assert float(images[right, 0, 16, 0]) == pytest.approx(expected, abs=1e-3)


def test_scale_is_a_factor_about_the_centre() -> None:
    rows = (torch.arange(33.0) - 16)[None, None, :, None].expand(200, 1, 33, 33) / 64 + 0.5
    torch.manual_seed(0)
    images, _, _ = make(scale=0.2)(rows, torch.zeros(200, 33, 33, dtype=torch.uint8), None)
    assert torch.allclose(images[:, 0, 16], torch.tensor(0.5), atol=1e-4)
    factors = 8 / (64 * (images[:, 0, 24, 16] - 0.5))  # what lay 8 / f px from the centre lies 8 px from it
    assert 0.8 - 1e-3 <= float(factors.min()) < 0.82
    assert 1.18 < float(factors.max()) <= 1.2 + 1e-3


def test_rotation_is_in_degrees_about_the_centre() -> None:
    rows = (torch.arange(33.0) - 16)[None, None, :, None].expand(200, 1, 33, 33) / 64 + 0.5
    torch.manual_seed(0)
    images, _, _ = make(rotate=30)(rows, torch.zeros(200, 33, 33, dtype=torch.uint8), None)
    down, right = images[:, 0, 20, 16] - images[:, 0, 12, 16], images[:, 0, 16, 20] - images[:, 0, 16, 12]
    angles = torch.rad2deg(torch.atan2(right, down))
    assert -30.1 <= float(angles.min()) < -28
    assert 28 < float(angles.max()) <= 30.1


def test_shear_is_in_degrees() -> None:
    columns = (torch.arange(33.0) - 16).expand(200, 1, 33, 33) / 64 + 0.5
    torch.manual_seed(0)
    images, _, _ = make(shear=20)(columns, torch.zeros(200, 33, 33, dtype=torch.uint8), None)
    slopes = (images[:, 0, 20, 16] - images[:, 0, 12, 16]) * 64 / 8  # columns per row
    assert 18 < float(torch.rad2deg(torch.atan(slopes.abs())).max()) <= 20.1


@pytest.mark.parametrize("sigma", [2.0, 12.0, 100.0])
def test_elastic_displacements_have_the_ordered_size_and_smoothness(sigma: float) -> None:
    torch.manual_seed(0)
    smooth = draw_smooth(200, 64, 48, sigma=sigma, device=torch.device("cpu"))
    assert smooth.shape == (200, 2, 64, 48)
    assert float(smooth.std()) == pytest.approx(1, abs=0.1)
    step = float((smooth[:, :, 1:] - smooth[:, :, :-1]).std())  # of noise smoothed by σ: 1 / (√2 σ)
    assert step == pytest.approx(1 / (2**0.5 * sigma), rel=0.15)


def test_contrast_is_one_factor_and_colour_one_for_each_channel() -> None:
    images = torch.full((100, 3, 2, 2), 0.5)
    masks = torch.zeros(100, 2, 2, dtype=torch.uint8)
    torch.manual_seed(0)
    contrast, _, _ = make(contrast=0.2)(images, masks, None)
    colour, _, _ = make(colour=0.2)(images, masks, None)
    for changed in (contrast, colour):
        assert 0.4 <= float(changed.min()) < 0.405
        assert 0.595 < float(changed.max()) <= 0.6 + 1e-6
    assert torch.equal(contrast[:, 0], contrast[:, 2])
    assert ((colour[:, 0] - colour[:, 2]).abs() > 1e-3).float().mean() > 0.9


def test_brightness_is_added_in_grey_levels_and_clipped() -> None:
    images = torch.tensor([0.0, 0.5, 1.0]).expand(100, 1, 1, 3)
    torch.manual_seed(0)
    changed, _, _ = make(brightness=51)(images, torch.zeros(100, 1, 3, dtype=torch.uint8), None)
    shifts = changed[:, 0, 0, 1] - 0.5
    assert -0.2 <= float(shifts.min()) < -0.19
    assert 0.19 < float(shifts.max()) <= 0.2 + 1e-6
    torch.testing.assert_close(changed[:, 0, 0, 0], shifts.clamp(min=0))
    torch.testing.assert_close(changed[:, 0, 0, 2], 1 + shifts.clamp(max=0))


@pytest.mark.parametrize("change", ["invert", "equalise"])
def test_only_a_share_of_the_crops_is_inverted_or_equalised(change: str) -> None:
    images, masks, borders = draw_blobs(100, side=8)
    torch.manual_seed(0)
    changed, _, _ = make(**{change: 0.25})(images, masks, borders)
    alone, _, _ = make(**{change: 1.0})(images, masks, borders)
    is_changed = (changed != images).flatten(1).any(1)
    assert 10 < int(is_changed.sum()) < 40
    assert torch.equal(changed[is_changed], alone[is_changed])


def test_inverting_exchanges_bright_and_dark() -> None:
    images, masks, borders = draw_blobs()
    torch.testing.assert_close(make(invert=1.0)(images, masks, borders)[0], 1 - images)


def test_crops_are_equalised_by_the_rule_of_whole_images() -> None:
    pixels = np.random.default_rng(0).exponential(30, (3, 31, 29, 2)).clip(0, 255).astype(np.uint8)
    pixels[1, :, :, 0] = 77  # constant
    expected = np.stack([Levels.equalising(count_values([image])).apply(image) for image in pixels])
    found = equalise(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).permute(0, 2, 3, 1) * 255
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_memory_layout_is_kept() -> None:
    images, masks, borders = draw_blobs()
    changed, _, _ = make(**EVERYTHING)(images.contiguous(memory_format=torch.channels_last), masks, borders)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert make(**EVERYTHING)(images, masks, borders)[0].is_contiguous()
