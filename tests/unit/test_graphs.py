"""What is computed of a graph, against what comes out when it runs."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from shared.graphs import GraphFacts, Unproven, analyse
from tests.graph_chains import OPSET, Chain, build

Answer = NDArray[np.float32]

BRIGHT = 1e24  # so much that its share of a deep sum still changes it


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # breaks Pad before a pool
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def measure_reach(graph: bytes, facts: GraphFacts) -> int:
    """How deep a cut between rows spoils the answer, px, seen in what ONNX Runtime makes of pictures around it.

    Weights are positive, so that whoever sees a bright row gets brighter, and whoever misses one stays darker. Rows get
    dimmer away from the cut, so that what is missed outshines what is not.
    """
    session = open_session(graph)
    half = 2 * facts.halo // facts.grid * facts.grid + facts.grid * 32
    width = 2 * facts.halo // facts.grid * facts.grid + facts.grid * 8

    def ask(rows: NDArray[np.float32], turn: slice) -> Answer:
        """The middle column of the answer to a picture whose rows are these, or these from the last to the first."""
        image = np.broadcast_to(rows[turn][None, :, None, None], (1, len(rows), width, 1))
        answer: Answer = session.run(None, {"x": np.ascontiguousarray(image)})[0][0, 0]
        return answer[turn, answer.shape[1] // 2]

    bright, dark, even = (np.full(half, value, np.float32) for value in (BRIGHT, 0, 1))
    dimming = (BRIGHT * 4.0 ** -np.minimum(np.arange(half), 60)).astype(np.float32)
    deepest = 0
    for turn in (slice(None), slice(None, None, -1)):  # the cut before the first row of the tile, after its last
        lit, unlit = (ask(np.concatenate([other, even]), turn) for other in (bright, dark))
        deepest = max(deepest, _count_to_last(lit[half - facts.halo :] != unlit[half - facts.halo :]))
        whole, tile = ask(np.concatenate([bright, dimming]), turn)[half:], ask(dimming, turn)
        spoilt = _count_to_last(~np.isclose(whole, tile, rtol=1e-5, atol=0))
        deepest = max(deepest, spoilt + facts.halo if spoilt else 0)
    return deepest


def _count_to_last(rows: NDArray[np.bool_]) -> int:
    """Rows up to the last one marked."""
    return int(np.flatnonzero(rows).max(initial=-1)) + 1


Layer = Callable[[Chain], Chain]
FLAT: list[Layer] = [
    lambda chain: chain.convolve(3, padding=1),
    lambda chain: chain.convolve(3),
    lambda chain: chain.convolve(3, padding=2, dilation=2),
    lambda chain: chain.convolve(5, padding=1),
    lambda chain: chain.add("Relu"),
    lambda chain: chain.crop(2),
    lambda chain: chain.pad(1),
]
DOWN: list[Layer] = [
    lambda chain: chain.pool(),
    lambda chain: chain.pool("AveragePool", 3, padding=1),
    lambda chain: chain.convolve(2, stride=2),
    lambda chain: chain.convolve(3, padding=1, stride=2),
]
UP: list[Layer] = [
    lambda chain: chain.transposed(2, stride=2),
    lambda chain: chain.transposed(4, stride=2, padding=1),
    lambda chain: chain.transposed(3, stride=2, padding=1, extra=1),
    lambda chain: chain.resize(),
    lambda chain: chain.resize("linear", "half_pixel"),
]


def _side_of_answer(chain: Chain, side: int) -> int:
    session = open_session(chain.build())
    answer: Answer = session.run(None, {"x": np.ones((1, side, side, 1), np.float32)})[0]
    return int(answer.shape[-1])


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Down and up again by as many steps, with layers of every kind in between."""
    chain, depth = Chain(), draw(st.integers(0, 2))
    for layers in (*[DOWN] * depth, *[UP] * depth):
        for layer in draw(st.lists(st.sampled_from(FLAT), max_size=2)):
            layer(chain)
        draw(st.sampled_from(layers))(chain)
    lost = 512 - _side_of_answer(chain, 512)
    cut = max(-lost // 2, 0) + draw(st.sampled_from([0, 1, 2, 8, 24]))
    return chain.crop(cut + 1, cut + 1 + lost % 2)  # so that the halo is the same on all sides


@settings(max_examples=60, deadline=None)
@given(chain=chains())
def test_the_reach_is_what_a_cut_is_seen_to_spoil(chain: Chain) -> None:
    graph = chain.build()
    facts = analyse(graph)
    assert measure_reach(graph, facts) == facts.reach


# What the operators of other networks do.


def test_a_graph_of_its_own_pixels_has_neither_grid_nor_reach() -> None:
    facts = Chain().add("Sigmoid").facts()
    assert (facts.grid, facts.halo, facts.reach, facts.spreading) == (1, 0, 0, ())


def test_a_dilated_convolution_looks_as_far_as_its_kernel_is_spread() -> None:
    assert Chain().convolve(3, padding=4, dilation=4).facts().reach == 4


def test_features_that_are_cut_off_and_padded_again_are_no_longer_the_images() -> None:
    sound, spoilt = Chain().crop(2).crop(1), Chain().crop(2).convolve(3, padding=1)
    assert (sound.facts().halo, sound.facts().reach) == (3, 0)
    assert (spoilt.facts().halo, spoilt.facts().reach) == (2, 3)


def test_pictures_are_joined_only_where_they_are_equally_large() -> None:
    with pytest.raises(Unproven, match=r"Concat .*not equally long"):
        Chain().convolve(3).add("Concat", "image", axis=1).facts()
    chain = Chain().convolve(3)
    chain.nodes.append(helper.make_node("Slice", ["image", "one", "minus", "axes"], ["inner"]))
    chain.weights |= {"one": np.array([1, 1]), "minus": np.array([-1, -1]), "axes": np.array([2, 3])}
    facts = chain.add("Concat", "value0", axis=1).facts()
    assert (facts.halo, facts.reach) == (1, 1)


def test_the_longer_of_two_ways_counts() -> None:
    chain = Chain().convolve(3, padding=1).convolve(3, padding=1)
    assert chain.add("Add", "image").facts().reach == 2


ROW = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("chain", "spreading"),
    [
        (
            Chain().add("InstanceNormalization", ROW, ROW),
            "InstanceNormalization",
        ),
        (Chain().add("GlobalAveragePool").add("Sigmoid").add("Mul", "image"), "GlobalAveragePool"),
        (Chain().add("ReduceMax", np.array([2, 3])).add("Mul", "image"), "ReduceMax"),
        (Chain().add("Softmax", axis=3), "Softmax"),
        (Chain().add("LayerNormalization", ROW, axis=1), "LayerNormalization"),
        (Chain().pool().resize("linear", "align_corners"), "Resize"),
        (Chain().add("MatMul", "image").add("Add", "image"), "MatMul"),
        (
            Chain().add("Reshape", np.array([0, 1, -1])).add("InstanceNormalization", ROW, ROW).add("Mul", "image"),
            "InstanceNormalization",
        ),
    ],
)
def test_what_depends_on_the_tile_as_a_whole_is_named(chain: Chain, spreading: str) -> None:
    facts = chain.convolve(3, padding=1).crop(2).facts()
    assert facts.spreading == (spreading,)
    assert facts.reach is None
    assert facts.halo == 2


@pytest.mark.parametrize(
    "chain",
    [
        Chain().add("Softmax", axis=1),
        Chain().add("ReduceMean", np.array([1])),
        Chain().add("Unsqueeze", np.array([0])).add("ReduceMean", np.array([0]), keepdims=0),
        Chain()
        .add("Transpose", perm=[0, 2, 3, 1])
        .add("MatMul", np.ones((1, 3), np.float32))
        .add("LayerNormalization", np.ones(3, np.float32), axis=-1)
        .add("Transpose", perm=[0, 3, 1, 2]),
        Chain().add("Unsqueeze", np.array([1])).add("Squeeze", np.array([1])),
        Chain().add("SpaceToDepth", blocksize=2).add("DepthToSpace", blocksize=2),
        Chain().add("PRelu", np.ones((1, 1, 1), np.float32)),
    ],
)
def test_what_mixes_channels_alone_does_not_spread(chain: Chain) -> None:
    facts = chain.convolve(3, padding=1).facts()
    assert (facts.spreading, facts.reach) == ((), 1)


def test_normalisations_that_are_left_in_the_graph_are_named() -> None:
    facts = Chain().add("BatchNormalization", ROW, ROW, ROW, ROW).facts()
    assert (facts.normalisations, facts.spreading) == (("BatchNormalization",), ())


def test_what_the_answer_does_not_need_does_not_count() -> None:
    chain = Chain().add("Relu")
    chain.nodes.insert(0, helper.make_node("GlobalAveragePool", ["image"], ["unused"]))
    assert chain.facts().spreading == ()


def test_constants_that_are_computed_are_computed() -> None:
    chain = Chain()
    chain.weights = {"low": np.array([1, 1]), "far": np.array([2, 2]), "axes": np.array([2, 3])}
    chain.nodes.append(helper.make_node("Neg", ["far"], ["minus"]))
    chain.nodes.append(helper.make_node("Add", ["low", "low"], ["start"]))
    chain.nodes.append(helper.make_node("Slice", ["image", "start", "minus", "axes"], ["inner"]))
    assert chain.facts().halo == 2


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        (Chain().add("NonMaxSuppression"), "NonMaxSuppression .*does not know"),
        (Chain().add("Conv", np.ones((1, 1, 3, 3), np.float32), auto_pad="SAME_UPPER"), "Conv .*auto_pad"),
        (Chain().add("Slice", np.array([0]), np.array([64]), np.array([2])), "Slice .*fixed sides"),
        (Chain().add("Reshape", np.array([0, 1, -1])), "cannot be told"),
        (Chain().add("Concat", "image", axis=3), "Concat .*side by side"),
        (Chain().add("Add", np.ones((64, 64), np.float32)), "Add .*differs from pixel to pixel"),
        (Chain().resize(), "Resize .*finer than the image"),
        (Chain().pool().resize(factor=1.5), "Resize .*not whole"),
        (Chain().pool(), "a pixel for a pixel"),
        (Chain().crop(1, 2), "not the same on all four sides"),
    ],
)
def test_what_cannot_be_followed_is_named(chain: Chain, told: str) -> None:
    with pytest.raises(Unproven, match=told):
        chain.facts()


def test_what_is_no_graph_or_an_old_one_is_refused() -> None:
    with pytest.raises(Unproven, match="cannot be read"):
        analyse(b"version https://git-lfs")
    with pytest.raises(Unproven, match="older than 13"):
        analyse(Chain().add("Relu").build(opset=11))


def test_functions_of_a_model_are_followed() -> None:
    inner = helper.make_node("GlobalAveragePool", ["a"], ["b"])
    scaled = helper.make_node("Mul", ["a", "b"], ["c"])
    function = helper.make_function("ours", "Excite", ["a"], ["c"], [inner, scaled], [helper.make_opsetid("", OPSET)])
    nodes = [helper.make_node("Excite", ["image"], ["y"], domain="ours")]
    assert analyse(build(nodes, {}, functions=[function])).spreading == ("GlobalAveragePool",)


def test_memory_is_what_lives_at_the_same_time() -> None:
    assert Chain().add("Relu").add("Sigmoid").facts().bytes_per_pixel == 8  # the tile, and the picture made of it
    chain = Chain().convolve(3, padding=1).convolve(3, padding=1)
    assert chain.facts().bytes_per_pixel == 8
    assert chain.add("Add", "image").facts().bytes_per_pixel == 12  # the picture is needed once more
