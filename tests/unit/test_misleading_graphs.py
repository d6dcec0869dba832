"""Graphs from strangers: what looks as if it could be proven, and what would take the analysis down."""

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shared.graphs import Unproven, analyse
from tests.graph_chains import OPSET, Chain, build

ROW = np.ones(1, np.float32)
CROP = (np.array([1, 1]), np.array([-1, -1]), np.array([2, 3]))


def lying() -> Chain:
    """A picture (N, H, W, 1)."""
    return Chain().add("Transpose", perm=[0, 2, 3, 1])


def upright(chain: Chain) -> Chain:
    """The picture of such a chain, as an answer."""
    return chain.add("Transpose", perm=[0, 3, 1, 2])


def with_second_output(chain: Chain, name: str) -> Chain:
    """The chain with its last node's second output as what the next one reads."""
    node = chain.nodes[-1]
    node.output.append(name)
    return chain


def refusal_of(chain: Chain) -> str:
    with pytest.raises(Unproven) as refused:
        chain.facts()
    return str(refused.value)


# What would be proven though it is not so.


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        (upright(lying().add("LRN", size=3)), r"LRN .*not \(N, channels, rows, columns\)"),
        (upright(lying().add("BatchNormalization", ROW, ROW, ROW, ROW)), "BatchNormalization .*rows for channels"),
        (
            upright(lying().add("DequantizeLinear", np.ones(64, np.float32), axis=1)),
            "DequantizeLinear .*each row or column",
        ),
        (
            Chain().add("Dropout", np.array(0.5, np.float32), np.array(True)),
            "Dropout .*left to chance",
        ),
        (upright(lying().add("MatMul", np.ones((64, 1, 1), np.float32))), "MatMul .*differs from pixel to pixel"),
        (lying().add("MatMul", np.ones(1, np.float32)), "MatMul .*takes an axis away"),
        (
            upright(lying().add("LayerNormalization", np.ones((64, 1), np.float32), axis=-1)),
            "LayerNormalization .*differs from pixel to pixel",
        ),
        (Chain().add("Mul", np.ones((1, 1, 1, 1, 1), np.float32)), "Mul .*more axes than the picture"),
        (Chain().add("Add", "nobody"), "Add .*nobody, which no node before it makes"),
    ],
)
def test_what_differs_from_place_to_place_is_not_taken_for_the_same_everywhere(chain: Chain, told: str) -> None:
    assert re.search(told, refusal_of(chain))


def test_where_a_pooling_found_its_largest_is_no_picture() -> None:
    chain = with_second_output(Chain().pool(stride=1, side=1), "places")
    chain.nodes.append(helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT))
    assert "cannot be told" in refusal_of(chain)


def test_all_parts_of_a_split_are_pictures() -> None:
    chain = with_second_output(Chain().add("Concat", "image", axis=1).add("Split", axis=1, num_outputs=2), "second")
    chain.nodes.append(helper.make_node("Relu", ["second"], ["third"]))
    assert chain.facts().reach == 0


def test_a_reduction_over_no_named_axes_is_over_all() -> None:
    chain = Chain().add("ReduceMean", np.array([], np.int64)).add("Mul", "image")
    assert "ReduceMean" in refusal_of(chain)


def test_the_sides_of_a_picture_are_not_its_pixels() -> None:
    chain = Chain()
    chain.nodes.append(helper.make_node("Shape", ["image"], ["sides"]))
    chain.nodes.append(helper.make_node("Relu", ["image"], ["again"]))
    assert "Mul" in refusal_of(chain.add("Mul", "sides"))


@pytest.mark.parametrize(
    "chain",
    [
        Chain().add("ReduceMean", np.array([0])),
        Chain().add("Softmax", axis=0),
        Chain().add("LayerNormalization", ROW, axis=0),
        Chain().add("MeanVarianceNormalization"),
        Chain().add("BatchNormalization", ROW, ROW, ROW, ROW, training_mode=1),
        Chain().add("Concat", "image", axis=0),
        Chain().add("Slice", np.array([1]), np.array([2**31 - 1]), np.array([0])),
        Chain().add("Pad", np.array([1, 0]), "", np.array([0]), mode="constant"),
        Chain().add("Transpose", perm=[1, 2, 3, 0]).add("MatMul", np.ones((1, 1), np.float32)),
    ],
)
def test_tiles_of_one_request_may_not_depend_on_each_other(chain: Chain) -> None:
    assert "tiles of one request" in refusal_of(chain)


@pytest.mark.parametrize(
    "chain", [Chain().add("Transpose", perm=[1, 0, 2, 3]), Chain().add("Gather", np.array(0), axis=0)]
)
def test_tiles_of_one_request_keep_their_axis(chain: Chain) -> None:
    refusal_of(chain)


def test_of_a_single_tile_there_is_no_other_to_depend_on() -> None:
    model = onnx.load_from_string(Chain().add("ReduceMean", np.array([0])).build())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert analyse(model.SerializeToString()).reach == 0


# What would end in another error than Unproven.


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        (
            Chain().pool().add("Resize", "", np.array([], np.float32), np.array([1, 1, 64, 64])),
            r"Resize \(.*argument that is computed|Resize .*given sides",
        ),
        (Chain().pool().add("Resize", "", np.array([], np.float32)), "Resize .*given sides"),
        (Chain().convolve(3, stride=0), "Conv .*strides that are not 2 numbers"),
        (Chain().add("Conv", np.ones((1, 1, 3), np.float32)), "Conv .*not two sides"),
        (Chain().add("MaxPool"), "MaxPool .*kernel_shape that are not 2 numbers"),
        (Chain().add("SpaceToDepth", blocksize=0), "SpaceToDepth .*blocksize"),
        (Chain().add("Slice", *CROP[:1], np.array([-1]), CROP[2]), "Slice .*not equally many"),
        (Chain().add("Softmax", axis=9), "Softmax .*axis 9 of 4"),
        (Chain().add("Transpose", perm=[0, 1]), "Transpose .*all axes"),
        (Chain().add("Unsqueeze", np.array([1, 1])), "Unsqueeze .*named twice"),
        (Chain().pool().add("Resize", "", np.array([1, 1, 2, 2], np.float32), nearest_mode="odd"), "Resize .*mode"),
        (Chain().add("Concat", "image"), "Concat .*axis None"),
        (Chain().add("Softmax", axis=[1, 2]), "Softmax .*axis"),
    ],
)
def test_what_makes_no_sense_is_named(chain: Chain, told: str) -> None:
    assert re.search(told, refusal_of(chain))


def made_of_constants(operator: str, *inputs: np.ndarray[Any, Any], domain: str = "", **attributes: Any) -> Chain:
    """A picture to which a constant is added that is computed."""
    chain = Chain()
    chain.weights = {f"given{index}": array for index, array in enumerate(inputs)}
    chain.nodes.append(helper.make_node(operator, list(chain.weights), ["made"], domain=domain, **attributes))
    chain.nodes.append(helper.make_node("Add", ["image", "made"], ["sum"]))
    return chain


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        (made_of_constants("Secret", ROW, domain="ours"), "Secret .*does not know"),
        (made_of_constants("Add", np.ones(2), np.ones(3)), "Add .*cannot be computed"),
        (made_of_constants("Gather", ROW, np.array(7)), "Gather .*cannot be computed"),
        (made_of_constants("Constant", sparse_value=None), "Constant .*no plain array"),
    ],
)
def test_constants_that_cannot_be_computed_are_named(chain: Chain, told: str) -> None:
    assert re.search(told, refusal_of(chain))


def test_a_tile_of_other_axes_is_no_tile() -> None:
    model = onnx.load_from_string(Chain().add("Relu").build())
    del model.graph.input[0].type.tensor_type.shape.dim[3]
    with pytest.raises(Unproven, match=r"one input \(N, H, W, channels\)"):
        analyse(model.SerializeToString())


def test_a_graph_whose_shapes_cannot_be_told_is_named() -> None:
    model = onnx.load_from_string(Chain().add("Relu").build())
    model.ClearField("opset_import")
    with pytest.raises(Unproven, match="cannot be told"):
        analyse(model.SerializeToString())


def test_weights_that_are_not_in_the_file_are_named() -> None:
    model = onnx.load_from_string(Chain().add("Add", ROW).build())
    (weights,) = model.graph.initializer
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="elsewhere")
    with pytest.raises(Unproven, match="in another file"):
        analyse(model.SerializeToString())


# What would take more memory or time than there is.


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        (made_of_constants("ConstantOfShape", np.array([2**40])), "ConstantOfShape .*not followed"),
        (made_of_constants("Range", np.array(0), np.array(2**40), np.array(1)), "Range .*more than 1024"),
        (made_of_constants("Range", np.array(0), np.array(1), np.array(0)), "Range .*from one number"),
        (made_of_constants("Add", np.ones((1, 1000)), np.ones((1000, 1))), "Add .*more than 1024"),
        (made_of_constants("Add", np.ones((1, 2000)), np.ones((2000, 1))), "Add .*more than 1024"),
        (Chain().add("MaxPool", kernel_shape=[2**40, 1]), "MaxPool .*1 … 4096"),
        (Chain().pool(stride=2**40), "MaxPool .*1 … 4096"),
        (Chain().convolve(3, dilation=2**40), "Conv .*1 … 4096"),
        (Chain().add("SpaceToDepth", blocksize=2**40), "SpaceToDepth .*1 … 4096"),
        (Chain().pool().resize(factor=2.0**40), "Resize .*more than 4096"),
        (Chain().crop(2**20), "Slice .*more than 4096"),
        (Chain().pad(2**20), "Pad .*at most 4096"),
        (Chain().pool(stride=64).pool(stride=65), "MaxPool .*a grid of 4160 px"),
        (
            Chain().pool(stride=4096).resize(factor=4096).add("MaxPool", kernel_shape=[4096, 4096]),
            "MaxPool .*a kernel of 4096 px on a grid of 4096 px",
        ),
    ],
)
def test_what_is_too_large_to_be_followed_is_named(chain: Chain, told: str) -> None:
    assert re.search(told, refusal_of(chain))


def test_large_weights_that_are_computed_are_not_computed() -> None:
    chain = Chain()
    chain.weights = {"small": np.ones((600, 1, 3, 3), np.int8), "scale": np.array(1, np.float32)}
    chain.nodes.append(helper.make_node("DequantizeLinear", ["small", "scale"], ["weights"]))
    chain.nodes.append(helper.make_node("Conv", ["image", "weights"], ["many"], pads=[1] * 4))
    assert chain.facts().reach == 1


def test_functions_that_double_at_every_call_are_not_written_out() -> None:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ours", 1)]
    names = [f"f{index}" for index in range(30)]
    functions = []
    for name, inner in zip(names, [*names[1:], ""], strict=True):
        calls = [("a", "b"), ("b", "c")]
        nodes = [helper.make_node(inner or "Relu", [x], [y], domain="ours" if inner else "") for x, y in calls]
        functions.append(helper.make_function("ours", name, ["a"], ["c"], nodes, opsets))
    graph = build([helper.make_node("f0", ["image"], ["y"], domain="ours")], {}, functions=functions)
    with pytest.raises(Unproven, match="more than 200000 nodes"):
        analyse(graph)


def test_functions_that_call_themselves_are_not_written_out() -> None:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ours", 1)]
    nodes = [helper.make_node("f", ["a"], ["b"], domain="ours"), helper.make_node("Relu", ["b"], ["c"])]
    function = helper.make_function("ours", "f", ["a"], ["c"], nodes, opsets)
    with pytest.raises(Unproven, match="more than 32 deep"):
        analyse(build([helper.make_node("f", ["image"], ["y"], domain="ours")], {}, functions=[function]))
