"""The padded UNet."""

import numpy as np
import pytest
import torch

from services.trainer.networks import UNet, build_network
from services.trainer.serving.checks import Unfaithful, check_halo
from shared.schemas.jobs import UNetIn


def test_the_standard_unet_has_exactly_the_published_number_of_parameters() -> None:
    network = build_network(UNetIn())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    kept = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert (trained, kept) == (31_043_521, 11_776)


@pytest.mark.parametrize(
    ("levels", "grid", "halo"), [(2, 2, 10), (3, 4, 24), (4, 8, 48), (5, 16, 96), (6, 32, 192), (7, 64, 384)]
)
def test_grid_and_halo_follow_from_the_levels(levels: int, grid: int, halo: int) -> None:
    network = UNet([1] * levels, channels=1, classes=1)
    assert (network.grid, network.halo) == (grid, halo)


@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 1), (3, 4)])
def test_logits_have_a_plane_per_class_at_the_size_of_the_image(channels: int, classes: int) -> None:
    network = UNet([2, 3, 4], channels=channels, classes=classes)
    assert network(torch.zeros(2, channels, 12, 20)).shape == (2, classes, 12, 20)


@pytest.mark.parametrize(("height", "width"), [(16, 20), (20, 16)])
def test_a_side_off_the_grid_is_refused_with_the_multiple(height: int, width: int) -> None:
    network = UNet([1, 1, 1, 1], channels=3, classes=1)
    with pytest.raises(ValueError, match=f"multiples of 8 px, got {height} × {width}"):
        network(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_no_pixel_beyond_the_halo_reaches_the_core(levels: int) -> None:
    check_halo(UNet([3] * levels, channels=1, classes=2))


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_the_probe_finds_a_halo_one_grid_step_short(levels: int) -> None:
    class Boastful(UNet):
        @property
        def halo(self) -> int:
            return super().halo - self.grid

    with pytest.raises(Unfaithful, match="from a core change its logits by"):
        check_halo(Boastful([4] * levels, channels=1, classes=1))


def test_the_probe_finds_a_network_that_looks_at_the_tile_as_a_whole() -> None:
    class Global(UNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) + image.mean()

    with pytest.raises(Unfaithful):
        check_halo(Global([2, 2, 2], channels=1, classes=1))


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        return build_network(UNetIn(widths=[2, 3])).head.weight.detach().numpy()

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()
