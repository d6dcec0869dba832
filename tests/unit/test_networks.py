"""What every network promises, and what each of them is."""

import copy
import functools
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from services.trainer.export import write_graph
from services.trainer.networks import LayerChoice, Network, UNet, UNetStn, build_network
from services.trainer.networks.geometry import crop
from services.trainer.networks.inputs import as_input
from services.trainer.networks.trimming import Inputs, nested_inputs, trim, unet_inputs
from services.trainer.serving.checks import Unfaithful, check_halo
from shared.imaging.tiling import Box, plan_tiles, read_mirrored
from shared.schemas.training import NetworkIn, UNetIn, UNetPlusPlusIn, UNetStnIn
from tests.lively_networks import make_image, make_lively

STN = UNetStnIn(name="unet_stn", widths=[4, 5, 6], overview=32)
PLUS_PLUS = UNetPlusPlusIn(name="unet_plus_plus", widths=[4, 5, 6], channels=3, classes=3)
ORDERS: dict[str, NetworkIn] = {
    "unet": UNetIn(widths=[4, 5, 6]),
    "unet of 2015": UNetIn(widths=[3, 4, 5, 6], padding="valid", batch_norm=False, channels=1, classes=2),
    "unet, up-sampling": UNetIn(widths=[4, 5, 6], decoder="upsampling", batch_norm=False, dropout=0.2, channels=1),
    "unet+stn": STN,
    "unet+stn as published": STN.model_copy(
        update={"channels": 3, "classes": 3, "transform": "affine", "size_free": False, "batch_norm": True}
    ),
    "unet++": PLUS_PLUS,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def lively(name: str) -> Network:
    """Made once each: whoever changes one takes a copy."""
    return make_lively(ORDERS[name])


def is_allowed(network: Network, side: int) -> bool:
    """Whether an answer may have this side, px."""
    try:
        network.refuse_crop(side)
    except ValueError:
        return False
    return True


def answer_tiled(network: Network, image: Tensor, *, core: int) -> Tensor:
    """Logits (planes, H, W) of an image (1, C, H, W), enriched as a whole and then read tile by tile."""
    height, width = image.shape[-2:]
    enriched = network.enrich(image)[0].permute(1, 2, 0).numpy()
    whole = torch.full((network.classes, height, width), math.nan, dtype=image.dtype)
    for tile in plan_tiles(Box(0, 0, height, width), core=core, halo=network.halo):
        found = network.core(torch.from_numpy(read_mirrored(enriched, tile.read)).permute(2, 0, 1)[None])
        whole[:, *tile.write.slices()] = found[0, :, : tile.write.height, : tile.write.width]
    return whole


@pytest.mark.parametrize("name", ORDERS)
class TestEveryNetwork:
    @pytest.fixture
    def network(self, name: str) -> Network:
        return lively(name)

    @pytest.fixture
    def crops(self, network: Network) -> Tensor:
        """Two different images of the smallest square size from 32 px on that the network takes."""
        side = next(side for side in range(32, 128) if is_allowed(network, side)) + 2 * network.margin
        images = np.stack([make_image(side, side, network.channels, seed) for seed in (8, 9)])
        return as_input(torch.from_numpy(images))

    def test_logits_have_a_plane_per_class_and_the_size_of_the_image_less_the_margin(self, network: Network) -> None:
        high, wide = [side for side in range(8, 64) if is_allowed(network, side)][:2]
        lost = 2 * network.margin
        with torch.inference_mode():
            heads = network.heads(torch.rand(2, network.channels, high + lost, wide + lost))
        assert {head.shape for head in heads} == {(2, network.classes, high, wide)}

    def test_an_image_is_refused_unless_its_answer_may_have_that_side(self, network: Network) -> None:
        lost, good = 2 * network.margin, next(side for side in range(8, 64) if is_allowed(network, side))
        for side in range(3 * network.grid):
            image = torch.zeros(1, network.channels, good + lost, side + lost)
            if is_allowed(network, side):
                assert network(image).shape[-2:] == (good, side)
            elif side + lost > 0:
                with pytest.raises(
                    ValueError, match=f"multiples of {network.grid} px.* got {good + lost} × {side + lost};"
                ):
                    network(image)

    def test_a_refused_crop_is_told_the_multiple_and_one_that_would_do(self, network: Network) -> None:
        for side in (1, 33, 1021):
            with pytest.raises(ValueError, match=rf"multiples of {network.grid} px.*, got {side};") as refusal:
                network.refuse_crop(side)
            better = re.search(r"; (\d+) would do", str(refusal.value))
            assert better is not None
            assert is_allowed(network, int(better[1]))
            assert abs(int(better[1]) - side) <= network.grid / 2 or side == 1

    def test_tile_by_tile_is_the_whole_image(self, network: Network) -> None:
        exact = copy.deepcopy(network).double()  # what is left in single precision is the order of sums
        image = as_input(torch.from_numpy(make_image(61, 45, network.channels, 5)[None])).double()
        with torch.inference_mode():
            whole = answer_tiled(exact, image, core=64)  # one tile holds it
            tiled = answer_tiled(exact, image, core=2 * network.grid)
        assert whole.std() > 0.5  # a network that answers always the same would be seamless, too
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-9)

    def test_a_core_is_the_middle_of_the_answer(self, network: Network) -> None:
        exact, side = copy.deepcopy(network).double(), 2 * network.halo + 2 * network.grid
        tile, cut = torch.rand(2, network.tile_channels, side, side + network.grid).double(), network.geometry.cut
        with torch.inference_mode():
            answer = exact.segment(crop(tile, cut))[-1]
            core = exact.core(tile)
        assert core.shape[-2:] == (2 * network.grid, 3 * network.grid)
        torch.testing.assert_close(core, crop(answer, network.halo - network.margin - cut), rtol=0, atol=1e-12)

    def test_what_only_the_halo_depends_on_is_not_computed(self, network: Network) -> None:
        side = 2 * network.halo + 2 * network.grid
        tile, cut = torch.rand(1, network.tile_channels, side, side), network.geometry.cut
        with torch.inference_mode():
            whole = _count_convolved(network, lambda: network.segment(crop(tile, cut)))
            core = _count_convolved(network, lambda: network.core(tile))
        assert core < (1 if network.margin else 0.7) * whole  # valid convolutions have left most of it out already

    def test_no_pixel_beyond_the_halo_reaches_the_core(self, network: Network) -> None:
        check_halo(network)

    def test_the_halo_is_no_grid_step_too_wide(self, network: Network) -> None:
        boastful = copy.deepcopy(network)
        boastful.halo -= boastful.grid
        with pytest.raises(Unfaithful, match=r"change its logits by|px answers"):
            check_halo(boastful)

    def test_the_onnx_graph_gives_torchs_logits(self, network: Network) -> None:
        side = 2 * network.halo + 2 * network.grid
        tile = torch.rand(1, network.tile_channels, side, side)
        graph = write_graph(_Core(network), tile, input_names=["TILE"])
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"TILE": tile.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(found, network.core(tile).numpy(), rtol=0, atol=1e-4)

    def test_every_weight_learns(self, network: Network, crops: Tensor) -> None:
        pupil = copy.deepcopy(network).train()
        torch.stack([head.square().mean() for head in pupil.heads(crops)]).sum().backward()
        idle = [name for name, weight in pupil.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert not idle

    def test_a_frozen_encoder_keeps_weights_and_statistics_while_the_rest_learns(
        self, network: Network, crops: Tensor
    ) -> None:
        pupil = copy.deepcopy(network)
        pupil.freeze_encoder()
        sgd = torch.optim.SGD(pupil.train().parameters(), lr=0.1)
        pupil.heads(crops)[-1].square().mean().backward()
        sgd.step()
        for name, before in network.state_dict().items():
            after = pupil.state_dict()[name]
            assert torch.equal(before, after) or not name.startswith("encoder."), name
        assert any(not torch.equal(before, after) for before, after in _pairs(network, pupil, "head"))
        assert all(torch.equal(before, after) for before, after in _pairs(network, pupil, "encoder."))

    def test_the_seed_decides_the_weights(self, network: Network, name: str) -> None:
        first, again, other = (make_lively(ORDERS[name], seed=seed) for seed in (0, 0, 1))
        assert all(torch.equal(one, two) for one, two in _pairs(first, again, ""))
        assert any(not torch.equal(one, two) for one, two in _pairs(first, other, "encoder."))


def _count_convolved(network: Network, compute: Callable[[], object]) -> int:
    """How many values the 3×3 convolutions make, channels and pixels."""
    made: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, answer: made.append(answer.numel()))
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
    ]
    compute()
    for hook in hooks:
        hook.remove()
    return sum(made)


class _Core(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, tile: Tensor) -> Tensor:
        return self.network.core(tile)


def _pairs(one: Network, other: Network, prefix: str) -> Iterator[tuple[Tensor, Tensor]]:
    """State of the same name in both."""
    values = other.state_dict()
    return ((value, values[name]) for name, value in one.state_dict().items() if name.startswith(prefix))


# The published figures.

FULL_STN = UNetStnIn(name="unet_stn", overview=512, size_free=False)


@pytest.mark.parametrize(
    ("order", "trained", "statistics"),
    [
        (UNetIn(), 31_043_521, 11_776),
        (UNetIn(padding="valid", batch_norm=False, channels=1, classes=2), 31_030_658, 0),
        (UNetIn(decoder="upsampling", batch_norm=False, dropout=0.2, channels=1), 31_377_793, 0),
        (FULL_STN, 39_317_637, 0),
    ],
)
def test_a_network_has_exactly_the_published_number_of_parameters(
    order: NetworkIn, trained: int, statistics: int
) -> None:
    with torch.device("meta"):  # no memory, no random numbers
        network = build_network(order)
    kept = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert (sum(weight.numel() for weight in network.parameters()), kept) == (trained, statistics)


def test_the_localiser_as_published_has_7_939_268_parameters() -> None:
    with torch.device("meta"):
        network = build_network(FULL_STN)
    assert isinstance(network, UNetStn)
    assert sum(weight.numel() for weight in network.localiser.parameters()) == 7_939_268


def test_the_unet_of_2015_takes_572_px_and_answers_388() -> None:
    with torch.device("meta"):
        network = build_network(UNetIn(padding="valid", batch_norm=False, channels=1, classes=2))
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
        with pytest.raises(ValueError, match=r"multiples of 16 px plus 12, 188 at least, got 573 × 560; .* 572 × 556"):
            network(torch.empty(1, 1, 573, 560))
    assert network.margin == 92


@pytest.mark.parametrize(
    ("levels", "grid", "padded", "valid", "margin"),
    [(2, 2, 10, 8, 8), (3, 4, 24, 20, 20), (4, 8, 48, 48, 44), (5, 16, 96, 96, 92), (6, 32, 192, 192, 188)],
)
def test_grid_halo_and_margin_follow_from_the_levels(
    levels: int, grid: int, padded: int, valid: int, margin: int
) -> None:
    one, other = (
        UNet([1] * levels, channels=1, classes=1, choice=LayerChoice(padding)) for padding in ("same", "valid")
    )
    assert (one.grid, one.halo, one.margin) == (grid, padded, 0)
    assert (other.grid, other.halo, other.margin) == (grid, valid, margin)


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_valid_convolutions_answer_as_padded_ones_do_where_no_padding_is_near(levels: int) -> None:
    """The same weights, and poolings that pair up the same pixels: only the border tells the two apart."""
    order = UNetIn(widths=[4] * levels, padding="valid", batch_norm=False, channels=1)
    valid = make_lively(order, dtype=torch.float64)
    padded = build_network(order.model_copy(update={"padding": "same"})).double()
    padded.load_state_dict(valid.state_dict())
    # Two convolutions take 2 px before the first pooling, 2^(i + 1) − 2 px before the i-th: always 2 short of its grid.
    shift = (valid.geometry.cut - 2) % valid.grid
    image = torch.rand(1, 1, 3 * valid.halo, 3 * valid.halo, dtype=torch.float64)
    with torch.inference_mode():
        core = crop(valid.core(image), valid.grid)  # padding reaches 2 px further than the margin
        whole = padded(torch.roll(image, (-shift, -shift), dims=(2, 3)))
    start = valid.halo + valid.grid - shift
    inner = slice(start, start + core.shape[-1])
    assert core.std() > 0.1
    torch.testing.assert_close(core, whole[:, :, inner, inner], rtol=0, atol=1e-9)


def test_the_probe_finds_a_network_that_looks_at_the_tile_as_a_whole() -> None:
    class Global(UNet):
        def segment(self, enriched: Tensor, spare: int = 0) -> list[Tensor]:
            return [super().segment(enriched, spare)[-1] + enriched.mean()]

    with pytest.raises(Unfaithful, match="change its logits"):
        check_halo(Global([2, 2, 2], channels=1, classes=1))


def test_dropout_silences_while_training_only() -> None:
    network, image = make_lively(ORDERS["unet, up-sampling"]), torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(image), network(image))
        network.train()
        assert not torch.equal(network(image), network(image))


# What is left out of a tile.


def test_a_tile_of_five_levels_is_trimmed_level_by_level() -> None:
    starts = trim(unet_inputs(4), {(0, 4): 96}, spoilt=2).starts
    assert [starts[level, 0] for level in range(5)] == [0, 2, 2, 2, 2]
    assert [starts[level, 4 - level] for level in range(4)] == [94, 44, 20, 8]


@given(
    inputs=st.builds(lambda make, depth: make(depth), st.sampled_from([unet_inputs, nested_inputs]), st.integers(1, 6)),
    spare=st.integers(0, 400),
    spoilt=st.sampled_from([0, 2]),
)
def test_no_node_begins_before_those_that_it_takes_from(inputs: Inputs, spare: int, spoilt: int) -> None:
    trimming = trim(inputs, {list(inputs)[-1]: spare}, spoilt=spoilt)
    assert all(start % 2 == 0 for start in trimming.starts.values())
    assert all(trimming.between(source, node) >= 0 for node in inputs for source in inputs[node])


@pytest.mark.parametrize("inputs", [unet_inputs(3), nested_inputs(3)])
def test_nothing_is_trimmed_of_an_image_that_is_asked_for_whole(inputs: Inputs) -> None:
    assert not any(trim(inputs, {(0, 3): 0}, spoilt=2).starts.values())


# The nested skips.


def test_weights_are_called_alike_with_and_without_dropout() -> None:
    with_dropout, without = (build_network(UNetIn(widths=[2, 3], dropout=share)) for share in (0.2, 0.0))
    assert with_dropout.state_dict().keys() == without.state_dict().keys()
    assert any(isinstance(layer, nn.Dropout) for layer in with_dropout.modules())
