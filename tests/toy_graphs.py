"""Models without a network in them, for tests of what serves models."""

import numpy as np
import onnx
from onnx import TensorProto, helper

OVERVIEW = 32  # px

# The protocol of before batches: a tile, its answer, whatever else is asked. The answer is the tile's first channel.
BACKEND_BEFORE_BATCHES = b"""
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(each, "IMAGE").as_numpy()) for each in requests]

    def answer(self, image):
        first = np.ascontiguousarray(image[..., 0])[:, None]
        return pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITY", first)])
"""


def write_graph(nodes: list[onnx.NodeProto], given: onnx.ValueInfoProto, made: onnx.ValueInfoProto) -> bytes:
    constants = {"starts": [0], "ends": [1], "channel": [3], "all": [0, 1, 2, 3], "square": [1, 1, 1]}
    initial = [helper.make_tensor(name, TensorProto.INT64, [len(v)], v) for name, v in constants.items()]
    initial.append(helper.make_tensor("identity", TensorProto.FLOAT, [1, 3, 3], np.eye(3).ravel()))
    initial.append(helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0]))
    initial.append(helper.make_tensor("one", TensorProto.FLOAT, [1], [1]))
    graph = helper.make_graph(nodes, "toy", [given], [made], initial)
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return model


def write_segmenter() -> bytes:
    """Its answer is the first channel of a tile of two."""
    nodes = [
        helper.make_node("Slice", ["IMAGE", "starts", "ends", "channel"], ["first"]),
        helper.make_node("Transpose", ["first"], ["PROBABILITY"], perm=[0, 3, 1, 2]),
    ]
    given = helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, [1, "height", "width", 2])
    return write_graph(
        nodes, given, helper.make_tensor_value_info("PROBABILITY", TensorProto.UINT8, [1, 1, "height", "width"])
    )


def write_localiser(*, broken: bool = False) -> bytes:
    """It enlarges by the overview's mean; a broken one divides by zero."""
    nodes = [
        helper.make_node("Cast", ["OVERVIEW"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "all"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "square"], ["scale"]),
        helper.make_node("Mul", ["scale", "identity"], ["enlarged"]),
        helper.make_node("Div", ["enlarged", "nothing" if broken else "one"], ["THETA"]),
    ]
    given = helper.make_tensor_value_info("OVERVIEW", TensorProto.UINT8, [1, OVERVIEW, OVERVIEW, 1])
    return write_graph(nodes, given, helper.make_tensor_value_info("THETA", TensorProto.FLOAT, [1, 3, 3]))
