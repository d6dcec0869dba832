"""The UNet+STN: an image, warped as its overview says, as a second input."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from services.trainer.networks import Localiser, UNetStn, build_network
from services.trainer.networks.geometry import crop
from services.trainer.networks.warping import warp
from shared.schemas.training import UNetStnIn
from tests.lively_networks import make_lively

STN = UNetStnIn(name="unet_stn", widths=[4, 5, 6], overview=32)


def make_stn() -> UNetStn:
    network = make_lively(STN)
    assert isinstance(network, UNetStn)
    return network


@pytest.mark.parametrize("transform", ["projective", "affine"])
@pytest.mark.parametrize("size_free", [True, False])
def test_an_untaught_localiser_leaves_the_image_as_it_is(transform: str, size_free: bool) -> None:
    network = build_network(STN.model_copy(update={"transform": transform, "size_free": size_free, "channels": 3}))
    assert isinstance(network, UNetStn)
    image = torch.rand(2, 3, 40, 56)
    with torch.inference_mode():
        assert torch.equal(network.localise(network.overview(image)), torch.eye(3).expand(2, 3, 3))
        torch.testing.assert_close(network.enrich(image), torch.cat([image, image], dim=1), rtol=0, atol=1e-5)


def test_a_transform_says_where_each_pixel_is_read() -> None:
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    to_the_right = torch.tensor([[[1.0, 0, 2 * 2 / 6], [0, 1, 0], [0, 0, 1]]])  # two of six columns
    upside_down = torch.tensor([[[1.0, 0, 0], [0, -1, 0], [0, 0, 1]]])
    columns = torch.tensor([2, 3, 4, 5, 5, 5])  # the border repeats
    torch.testing.assert_close(warp(image, to_the_right), image[..., columns], rtol=0, atol=1e-4)
    torch.testing.assert_close(warp(image, upside_down), image.flip(2), rtol=0, atol=1e-4)


def test_a_projective_transform_divides_and_knows_no_point_behind_the_picture() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    tilted = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]]])  # at x = 2/3 the depth is 4/3, the source 1/2
    row = warp(image, tilted)[0, 0, 1]
    assert row[1] == 4
    assert row[2].item() == pytest.approx(4 + 1.5 * 0.5)
    behind = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-3, 0, 1]]])  # beyond x = 1/3
    assert warp(image, behind)[0, 0, 1, 2] == 5


def test_the_overview_is_the_mean_of_what_a_pixel_covers() -> None:
    """To a byte: half a step at most."""
    network, image = make_stn(), torch.rand(1, 1, 96, 64)
    blocks = image.reshape(1, 1, 32, 3, 32, 2).mean(dim=(3, 5))
    torch.testing.assert_close(network.overview(image), blocks, rtol=0, atol=0.5001 / 255)
    uneven = torch.arange(45.0).expand(1, 1, 45, 45) / 45  # 45 columns to 32: two each, or three where they overlap
    starts, stops = np.arange(32) * 45 // 32, -(-np.arange(1, 33) * 45 // 32)
    expected = [np.arange(start, stop).mean() / 45 for start, stop in zip(starts, stops, strict=True)]
    np.testing.assert_allclose(network.overview(uneven)[0, 0, 0].numpy(), expected, atol=0.5001 / 255)
    bytes_of = network.overview(image) * 255
    torch.testing.assert_close(bytes_of, bytes_of.round(), rtol=0, atol=1e-4)


def test_half_precision_arithmetic_does_not_move_the_warped_image() -> None:
    network, image = make_stn(), torch.rand(1, 1, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        mixed = network.enrich(image)
    with torch.inference_mode():
        torch.testing.assert_close(mixed, network.enrich(image), rtol=0, atol=0)


def test_the_localiser_learns_to_undo_a_rotation_by_looking_at_the_result() -> None:
    """The loss is on pixels alone: it has to pass the sampler to reach the localiser."""
    torch.manual_seed(0)
    network = UNetStn(
        [2, 2], channels=1, classes=1, localiser=Localiser(1, overview=32, transform="affine", size_free=True)
    )
    angle = math.radians(20)
    turn = torch.tensor([[[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0.0, 0, 1]]])
    upright = functional.interpolate(torch.rand(4, 1, 5, 5), (32, 32), mode="bicubic", align_corners=False)
    turned = warp(upright, turn.expand(4, 3, 3))
    adam = torch.optim.Adam(network.localiser.parameters(), lr=3e-3)
    for _ in range(150):
        found = network.localise(turned)
        loss = functional.mse_loss(crop(network.warp(turned, found), 6), crop(upright, 6))
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close((turn @ found)[:, :2, :2], torch.eye(2).expand(4, 2, 2), rtol=0, atol=0.1)
