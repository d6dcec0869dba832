"""The localiser's lesson."""

import numpy as np
import pytest
import torch

from services.trainer.networks import UNetStn, build_network
from services.trainer.pretraining import draw_warps, teach_localiser
from shared.schemas.training import LocaliserIn
from tests.small_trainings import make_order

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_localiser_learns_from_images_without_masks_to_undo_a_warp() -> None:
    order = make_order(network={"name": "unet_stn", "widths": [2, 4], "channels": 1, "overview": 32}).network
    torch.manual_seed(0)
    network = build_network(order)
    assert isinstance(network, UNetStn)
    noise = np.random.default_rng(0).integers(0, 32, (16, 64, 64, 1))
    lit_from_above = np.linspace(0, 220, 64)[:, None, None]  # without a light nobody could tell what is upright
    images = list((lit_from_above + noise).astype(np.uint8))
    lesson = LocaliserIn(epochs=40, learning_rate=3e-3, rotate=60, scale=0, translate=0)
    losses = teach_localiser(network, images, lesson, seed=0, check=lambda: None)
    assert losses[-1] < 0.3 * losses[0]


def test_the_warps_of_a_lesson_stay_within_its_bounds() -> None:
    lesson = LocaliserIn(rotate=0, scale=0, translate=0.3)
    warps = draw_warps(4, lesson, np.random.default_rng(0))
    assert torch.equal(warps[:, :2, :2], torch.eye(2).expand(4, 2, 2))
