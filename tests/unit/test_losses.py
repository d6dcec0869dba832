"""What training makes small."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.data import Sample
from services.trainer.data.border_weights import weigh_borders
from services.trainer.devices import determinism
from services.trainer.losses import Loss, cross_entropies, dice_loss, make_loss, pixel_loss, weigh_classes
from shared.schemas.training import BorderIn, LossIn


def make(mask: Any = ((0, 1),), *, classes: int = 1, **order: Any) -> Loss:
    """A loss for samples of one mask."""
    mask = np.array(mask, np.uint8)
    sample = Sample("a.png", np.zeros((*mask.shape, 1), np.uint8), mask)
    return make_loss(LossIn(**order), classes=classes, samples=[sample])


def draw(planes: int, *, side: int = 8) -> tuple[Tensor, Tensor]:
    """Logits (2, planes, side, side) and class indices, both random."""
    torch.manual_seed(0)
    return torch.randn(2, planes, side, side), torch.randint(max(planes, 2), (2, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("planes", [1, 3])
def test_the_loss_is_small_for_the_truth_and_large_for_its_contrary(planes: int) -> None:
    masks = torch.tensor([[[0, 1], [1, 0]]])
    true = 20.0 * (2 * masks[:, None] - 1) if planes == 1 else 20.0 * torch.eye(3)[masks].permute(0, 3, 1, 2)
    loss = make(classes=planes, dice=1.0)
    assert pixel_loss(true, masks) < 1e-6
    assert pixel_loss(-true, masks) > 10
    assert loss([true], masks) < 1e-3
    assert loss([-true], masks) > 10


@pytest.mark.parametrize("planes", [1, 3])
def test_without_weights_it_is_the_plain_cross_entropy(planes: int) -> None:
    logits, masks = draw(planes)
    torch.testing.assert_close(make(classes=planes)([logits], masks), pixel_loss(logits, masks))


@pytest.mark.parametrize("planes", [1, 3])
def test_the_loss_of_several_heads_is_their_mean(planes: int) -> None:
    (first, masks), second = draw(planes), torch.zeros(2, planes, 8, 8)
    loss = make(classes=planes, dice=0.5)
    expected = (loss([first], masks) + loss([second], masks)) / 2
    torch.testing.assert_close(loss([first, second], masks), expected)


def test_the_terms_are_weighed_and_summed() -> None:
    logits, masks = draw(1)
    loss = make(cross_entropy=0.3, dice=2.0)([logits], masks)
    torch.testing.assert_close(loss, 0.3 * pixel_loss(logits, masks) + 2 * dice_loss(logits, masks))


def test_half_precision_is_added_up_in_single() -> None:
    logits, masks = draw(1, side=64)
    loss = make(dice=1.0)([logits.bfloat16()], masks)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make(dice=1.0)([logits.bfloat16().float()], masks))


def test_frequency_weights_are_pixels_over_classes_and_pixels_of_the_class() -> None:
    loss = make([[0, 0, 0, 0, 0, 0, 1, 2]], classes=3, class_weights="frequency")
    assert loss.class_weights is not None
    torch.testing.assert_close(loss.class_weights, torch.tensor([8 / (3 * 6), 8 / 3, 8 / 3]))


def test_frequency_weights_tell_background_and_foreground_of_one_class() -> None:
    mask = [[0, 0, 0, 1]]
    logits = torch.zeros(1, 1, 1, 4)
    logits[0, 0, 0, 3] = -3.0  # wrong where it is rare
    per_pixel = functional.binary_cross_entropy_with_logits(logits[0, 0], torch.tensor(mask).float(), reduction="none")
    expected = (per_pixel * torch.tensor([[2 / 3, 2 / 3, 2 / 3, 2.0]])).sum() / 4
    weighted = make(mask, class_weights="frequency")([logits], torch.tensor([mask], dtype=torch.uint8))
    torch.testing.assert_close(weighted, expected)


def test_frequencies_are_counted_over_all_samples() -> None:
    masks = [np.zeros((2, 2), np.uint8), np.array([[1, 0], [0, 0]], np.uint8)]
    samples = [Sample(str(n), np.zeros((2, 2, 1), np.uint8), mask) for n, mask in enumerate(masks)]
    torch.testing.assert_close(weigh_classes(samples, 2), torch.tensor([8 / 14, 8 / 2]))


@pytest.mark.parametrize("classes", [1, 3])
def test_masks_without_an_object_break_nothing(classes: int) -> None:
    loss = make(np.zeros((4, 4)), classes=classes, class_weights="frequency", dice=1.0)
    logits = torch.randn(1, classes, 4, 4, requires_grad=True)
    masks = torch.zeros(1, 4, 4, dtype=torch.uint8)
    value = loss([logits], masks, torch.zeros(1, 4, 4))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_where_nothing_is_dice_wants_nothing_found() -> None:
    nothing, masks = torch.full((1, 1, 8, 8), -20.0), torch.zeros(1, 8, 8)
    assert dice_loss(nothing, masks) < 1e-3
    assert dice_loss(-nothing, masks) > 0.9


def test_dice_is_that_of_milletari_over_the_batch() -> None:
    logits, masks = draw(1, side=64)
    found, truth = torch.sigmoid(logits[:, 0]), masks.float()
    expected = 1 - 2 * (found * truth).sum() / ((found**2).sum() + (truth**2).sum())
    torch.testing.assert_close(dice_loss(logits, masks), expected, atol=1e-3, rtol=0)


def test_dice_of_several_classes_leaves_out_the_background() -> None:
    masks = torch.tensor([[[0] * 30 + [1, 2]]])
    right = 30.0 * torch.eye(3)[masks].permute(0, 3, 1, 2)
    blind = torch.zeros_like(right)
    blind[:, 0] = 30.0  # background everywhere: right for 30 of 32 px
    assert dice_loss(right, masks) < 1e-3
    assert dice_loss(blind, masks) == pytest.approx(0.5)  # 1 − (0 + 1) / (1 + 1) of each class, by the extra pixel


def test_the_gap_between_touching_cells_carries_the_large_weight() -> None:
    labels = np.zeros((24, 40), np.int32)
    labels[4:20, 4:19], labels[4:20, 21:36] = 1, 2  # a gap of two pixels
    border = weigh_borders(labels, BorderIn(w0=10, sigma=5))
    masks = torch.from_numpy(labels > 0)[None].to(torch.uint8)
    logits = torch.zeros(1, 1, 24, 40, requires_grad=True)
    make(labels > 0, class_weights="frequency", border={})([logits], masks, torch.from_numpy(border)[None]).backward()
    assert logits.grad is not None
    pull = logits.grad[0, 0].abs()
    gap, outside = pull[6:18, 19:21], torch.cat([pull[:, :2], pull[:, -2:]], dim=1)
    assert gap.min() > 8 * outside.max()


def test_border_weights_are_added_and_the_sum_is_divided_by_pixels() -> None:
    logits, masks = draw(3)
    borders = torch.rand(2, 8, 8)
    per_pixel = functional.cross_entropy(logits, masks.long(), reduction="none")
    expected = ((1 + borders) * per_pixel).sum() / per_pixel.numel()
    torch.testing.assert_close(make(classes=3)([logits], masks, borders), expected)


def test_in_deterministic_mode_the_cross_entropy_is_the_same() -> None:
    logits, masks = torch.randn(2, 5, 8, 8), torch.randint(5, (2, 8, 8))
    usual = cross_entropies(logits, masks)
    with determinism(wanted=True):
        torch.testing.assert_close(cross_entropies(logits, masks), usual)
