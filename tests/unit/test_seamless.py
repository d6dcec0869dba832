"""The promise of the name: tile by tile or all at once, every pixel gets the same answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from services.trainer.networks import Network
from services.trainer.networks.inputs import as_input
from services.trainer.serving.served_graph import probability
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored
from shared.schemas.training import NetworkIn
from tests.lively_networks import make_image, make_lively

Answer = NDArray[np.floating]
Case = tuple[int, int, int, int]  # depth, core, height, width

DEPTHS = st.integers(1, 4)
SEEDS = st.integers(0, 1000)
ROUNDING = 1e-5  # of a probability, in single precision


pytestmark = pytest.mark.usefixtures("one_thread")


KINDS: dict[str, dict[str, Any]] = {
    "unet": {},
    "valid": {"padding": "valid", "batch_norm": False},
    "upsampling": {"decoder": "upsampling", "dropout": 0.2},
    "unet_stn": {"name": "unet_stn", "overview": 32},
    "unet_plus_plus": {"name": "unet_plus_plus"},
}


def make_network(
    depth: int, *, kind: str = "unet", classes: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Network:
    """Of widths 3, 4, 5, …, for images in colour."""
    order = {"name": "unet", **KINDS[kind], "widths": list(range(3, 4 + depth)), "channels": 3, "classes": classes}
    return make_lively(TypeAdapter[NetworkIn](NetworkIn).validate_python(order), seed=seed, dtype=dtype)


def as_tensor(network: Network, images: list[Pixels]) -> Tensor:
    """What the network takes: (N, C, H, W) of 0 … 1, in its own precision."""
    return as_input(torch.from_numpy(np.stack(images))).to(next(network.parameters()).dtype)


def enrich(network: Network, image: Pixels) -> NDArray[Any]:
    """What tiles are cut from, (H, W, tile_channels)."""
    with torch.inference_mode():
        return network.enrich(as_tensor(network, [image]))[0].permute(1, 2, 0).numpy()


def answer(network: Network, tiles: Sequence[NDArray[Any]]) -> Answer:
    """Probabilities (N, planes, H − 2 halo, W − 2 halo)."""
    with torch.inference_mode():
        return probability(network.core(torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2))).numpy()


def answer_whole(network: Network, image: Pixels) -> Answer:
    """The whole image, extended by mirroring, at once: probabilities (planes, H, W)."""
    height, width = image.shape[:2]
    grid = network.grid
    box = Box(0, 0, -(-height // grid) * grid, -(-width // grid) * grid).grow(network.halo)
    return answer(network, [read_mirrored(enrich(network, image), box)])[0, :, :height, :width]


def answer_tiled(network: Network, image: Pixels, *, core: int, shift: int = 0) -> Answer:
    """Tile by tile, each read `shift` px up and to the left of where it should be: probabilities (planes, H, W).

    What is shifted reads `shift` px more below and to the right, rounded up to the grid, so as to own the same core.
    """
    height, width = image.shape[:2]
    enriched, more = enrich(network, image), -(-shift // network.grid) * network.grid
    tiles = plan_tiles(Box(0, 0, height, width), core=core, halo=network.halo)
    reads = [Box(tile.read.top, tile.read.left, tile.read.bottom + more, tile.read.right + more) for tile in tiles]
    answers = answer(network, [read_mirrored(enriched, read.move(-shift, -shift)) for read in reads])
    whole = np.full((answers.shape[1], height, width), np.nan, answers.dtype)
    for tile, found in zip(tiles, answers, strict=True):
        rows, columns = Box(0, 0, tile.write.height, tile.write.width).move(shift, shift).slices()
        whole[:, *tile.write.slices()] = found[:, rows, columns]
    return whole


def find_classes(probabilities: Answer) -> NDArray[np.integer]:
    several = len(probabilities) > 1
    classes: NDArray[np.integer] = probabilities.argmax(axis=0) if several else (probabilities[0] >= 0.5).astype(int)
    return classes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An image of 1 px to four cores a side, often smaller than the halo."""
    depth = draw(DEPTHS)
    core = 2**depth * draw(st.integers(1, 4))
    side = st.integers(1, min(4 * core, 130))
    return depth, core, draw(side), draw(side)


@settings(max_examples=40, deadline=None)
@given(case=cases(), kind=st.sampled_from(sorted(KINDS)), classes=st.integers(1, 3), seed=SEEDS)
def test_the_tiled_answer_is_the_whole_image_answer(case: Case, kind: str, classes: int, seed: int) -> None:
    depth, core, height, width = case
    network = make_network(depth, kind=kind, classes=classes, seed=seed)
    image = make_image(height, width, 3, seed)
    tiled = answer_tiled(network, image, core=core)
    np.testing.assert_allclose(tiled, answer_whole(network, image), rtol=0, atol=ROUNDING)


# In double precision no two probabilities are so close that the order of a sum decides between classes.
@settings(max_examples=20, deadline=None)
@given(case=cases(), kind=st.sampled_from(sorted(KINDS)), classes=st.integers(1, 3), seed=SEEDS)
def test_every_pixel_gets_the_same_class_borders_included(case: Case, kind: str, classes: int, seed: int) -> None:
    depth, core, height, width = case
    network = make_network(depth, kind=kind, classes=classes, seed=seed, dtype=torch.float64)
    image = make_image(height, width, 3, seed)
    tiled = answer_tiled(network, image, core=core)
    np.testing.assert_array_equal(find_classes(tiled), find_classes(answer_whole(network, image)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (5, 33), (95, 97)])
@pytest.mark.parametrize("kind", ["unet", "valid"])
def test_an_image_smaller_than_the_halo_is_mirrored_as_often_as_it_takes(kind: str, height: int, width: int) -> None:
    network, image = make_network(4, kind=kind), make_image(height, width, 3, seed=0)
    tiled = answer_tiled(network, image, core=32)
    np.testing.assert_allclose(tiled, answer_whole(network, image), rtol=0, atol=ROUNDING)


# The controls: were the tests above blind, these would fail.


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("depth", [3, 4])
def test_an_origin_4_px_off_the_grid_changes_most_pixels(depth: int, kind: str) -> None:
    network, image = make_network(depth, kind=kind), make_image(150, 150, 3, seed=0)
    shifted = answer_tiled(network, image, core=64, shift=4)
    aligned = answer_tiled(network, image, core=64, shift=network.grid)
    whole = answer_whole(network, image)
    assert (np.abs(shifted - whole) > 1e-3).mean() > 0.5
    np.testing.assert_allclose(aligned, whole, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("kind", ["unet", "upsampling", "unet_plus_plus"])  # without padding too little is no answer
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_halo_one_grid_step_short_changes_pixels(depth: int, kind: str) -> None:
    network, image = make_network(depth, kind=kind), make_image(150, 150, 3, seed=0)
    whole = answer_whole(network, image)
    network.halo -= network.grid
    assert np.abs(answer_tiled(network, image, core=64) - whole).max() > 100 * ROUNDING


def test_tiles_that_find_their_own_warp_are_not_seamless() -> None:
    network, image = make_network(2, kind="unet_stn"), make_image(150, 150, 3, seed=0)
    height, width = (side // 2 for side in image.shape[:2])
    quarter = enrich(network, np.ascontiguousarray(image[:height, :width]))
    assert np.abs(quarter - enrich(network, image)[:height, :width]).max() > 0.1


def test_a_batch_normalised_over_the_tile_is_not_seamless() -> None:
    network, image = make_network(2), make_image(150, 150, 3, seed=0)
    network.train()
    tiled = answer_tiled(network, image, core=64)
    assert np.abs(tiled - answer_whole(network, image)).max() > 100 * ROUNDING
