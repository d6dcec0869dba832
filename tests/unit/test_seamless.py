"""The promise of the name: tile by tile or all at once, every pixel gets the same answer."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from services.trainer.networks import UNet
from services.trainer.networks.inputs import as_input
from services.trainer.serving.served_graph import probability
from shared.imaging.tiling import Box, Pixels, plan_tiles, read_mirrored

Answer = NDArray[np.floating]
Case = tuple[int, int, int, int]  # depth, core, height, width

DEPTHS = st.integers(1, 4)
SEEDS = st.integers(0, 1000)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_network(depth: int, *, classes: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> UNet:
    """Small, random, and lively: BatchNorm holds statistics as after a training, and the logits spread over ±3.

    Without that a deep random network answers nearly the same everywhere, and no test could tell right from wrong.
    """
    torch.manual_seed(seed)
    network = UNet(range(3, 4 + depth), channels=3, classes=classes).to(dtype)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
            layer.momentum = None  # a plain mean over what it sees
    pixels = as_input(torch.from_numpy(np.stack([make_image(64, 64, seed) for seed in range(4)]))).to(dtype)
    with torch.no_grad():
        logits = network.train()(pixels)
        network.head.weight *= 3 / logits.std()
        network.head.bias -= network.eval()(pixels).mean(dim=(0, 2, 3))
    return network


def make_image(height: int, width: int, seed: int) -> Pixels:
    """Noise with patches of every size, so that the deep levels have something to see."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for size in (1, 4, 16, 64):
        patches = generator.normal(0, 32, (-(-height // size), -(-width // size), 3))
        total += patches.repeat(size, axis=0).repeat(size, axis=1)[:height, :width]
    return np.clip(128 + total, 0, 255).astype(np.uint8)


def answer(network: UNet, images: list[Pixels]) -> Answer:
    """Probabilities (N, planes, H, W)."""
    with torch.inference_mode():
        pixels = as_input(torch.from_numpy(np.stack(images))).to(network.head.weight.dtype)
        return probability(network(pixels)).numpy()


def answer_whole(network: UNet, image: Pixels) -> Answer:
    """The whole image, extended by mirroring, at once: probabilities (planes, H, W)."""
    height, width = image.shape[:2]
    grid, halo = network.grid, network.halo
    box = Box(0, 0, -(-height // grid) * grid, -(-width // grid) * grid).grow(halo)
    return answer(network, [read_mirrored(image, box)])[0, :, halo : halo + height, halo : halo + width]


def answer_tiled(network: UNet, image: Pixels, *, core: int, halo: int, shift: int = 0) -> Answer:
    """Tile by tile, each read `shift` px up and to the left of where it should be: probabilities (planes, H, W)."""
    height, width = image.shape[:2]
    tiles = plan_tiles(Box(0, 0, height, width), core=core, halo=halo)
    answers = answer(network, [read_mirrored(image, tile.read.move(-shift, -shift)) for tile in tiles])
    whole = np.full((answers.shape[1], height, width), np.nan, answers.dtype)
    for tile, found in zip(tiles, answers, strict=True):
        rows, columns = tile.write.move(shift - tile.read.top, shift - tile.read.left).slices()
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


@settings(max_examples=30, deadline=None)
@given(case=cases(), classes=st.integers(1, 3), seed=SEEDS)
def test_the_tiled_answer_is_the_whole_image_answer(case: Case, classes: int, seed: int) -> None:
    depth, core, height, width = case
    network = make_network(depth, classes=classes, seed=seed)
    image = make_image(height, width, seed)
    tiled = answer_tiled(network, image, core=core, halo=network.halo)
    np.testing.assert_allclose(tiled, answer_whole(network, image), rtol=0, atol=1e-5)


# In double precision no two probabilities are so close that the order of a sum decides between classes.
@settings(max_examples=20, deadline=None)
@given(case=cases(), classes=st.integers(1, 3), seed=SEEDS)
def test_every_pixel_gets_the_same_class_borders_included(case: Case, classes: int, seed: int) -> None:
    depth, core, height, width = case
    network = make_network(depth, classes=classes, seed=seed, dtype=torch.float64)
    image = make_image(height, width, seed)
    tiled = answer_tiled(network, image, core=core, halo=network.halo)
    np.testing.assert_array_equal(find_classes(tiled), find_classes(answer_whole(network, image)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (5, 33), (95, 97)])
def test_an_image_smaller_than_the_halo_is_mirrored_as_often_as_it_takes(height: int, width: int) -> None:
    network, image = make_network(4), make_image(height, width, seed=0)
    tiled = answer_tiled(network, image, core=32, halo=network.halo)
    np.testing.assert_allclose(tiled, answer_whole(network, image), rtol=0, atol=1e-5)


# The controls: were the tests above blind, these would fail.


@pytest.mark.parametrize("depth", [3, 4])
def test_an_origin_4_px_off_the_grid_changes_most_pixels(depth: int) -> None:
    network, image = make_network(depth), make_image(150, 150, seed=0)
    wide_enough = network.halo + network.grid  # so that only the grid is to blame
    shifted = answer_tiled(network, image, core=64, halo=wide_enough, shift=4)
    aligned = answer_tiled(network, image, core=64, halo=wide_enough, shift=network.grid)
    whole = answer_whole(network, image)
    assert (np.abs(shifted - whole) > 1e-3).mean() > 0.5
    np.testing.assert_allclose(aligned, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_halo_one_grid_step_short_changes_pixels(depth: int) -> None:
    network, image = make_network(depth), make_image(150, 150, seed=0)
    short = answer_tiled(network, image, core=64, halo=network.halo - network.grid)
    assert np.abs(short - answer_whole(network, image)).max() > 1e-3  # 100 times what the tests above allow


def test_a_batch_normalised_over_the_tile_is_not_seamless() -> None:
    network, image = make_network(2), make_image(150, 150, seed=0)
    network.train()
    tiled = answer_tiled(network, image, core=64, halo=network.halo)
    assert np.abs(tiled - answer_whole(network, image)).max() > 1e-3
