"""Small ONNX graphs, written layer by layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.graphs import GraphFacts, analyse

Nodes = list[onnx.NodeProto]
Weights = dict[str, NDArray[Any]]

OPSET = 20


def build(nodes: Nodes, weights: Weights, *, opset: int = OPSET, functions: Sequence[onnx.FunctionProto] = ()) -> bytes:
    """A model from `x` (N, H, W, 1) to `y`, with the nodes between `image` (N, 1, H, W) and `y`."""
    first = helper.make_node("Transpose", ["x"], ["image"], perm=[0, 3, 1, 2])
    graph = helper.make_graph(
        [first, *nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "h", "w", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ours", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)
    body: bytes = model.SerializeToString()
    return body


class Chain:
    """Nodes one after the other, each reading the one before."""

    def __init__(self) -> None:
        self.nodes: Nodes = []
        self.weights: Weights = {}

    @property
    def last(self) -> str:
        return self.nodes[-1].output[0] if self.nodes else "image"

    def add(self, operator: str, *arguments: NDArray[Any] | str, **attributes: Any) -> "Chain":
        """A further node; an argument that is an array becomes a constant, a text names what it reads besides."""
        inputs = [self.last]
        for argument in arguments:
            name = argument if isinstance(argument, str) else f"constant{len(self.weights)}"
            if not isinstance(argument, str):
                self.weights[name] = argument
            inputs.append(name)
        self.nodes.append(helper.make_node(operator, inputs, [f"value{len(self.nodes)}"], **attributes))
        return self

    def convolve(self, side: int, *, padding: int = 0, stride: int = 1, dilation: int = 1) -> "Chain":
        weights = np.zeros((1, 1, side, side), np.float32)
        weights[..., side // 2] = 1  # shares fade with the number of rows alone
        both = {"strides": [stride] * 2, "dilations": [dilation] * 2}
        return self.add("Conv", weights, pads=[padding] * 4, **both)

    def transposed(self, side: int, *, stride: int, padding: int = 0, extra: int = 0) -> "Chain":
        weights = np.ones((1, 1, side, side), np.float32)
        return self.add("ConvTranspose", weights, pads=[padding] * 4, strides=[stride] * 2, output_padding=[extra] * 2)

    def pool(self, operator: str = "MaxPool", side: int = 2, *, padding: int = 0, stride: int = 2) -> "Chain":
        return self.add(operator, kernel_shape=[side] * 2, strides=[stride] * 2, pads=[padding] * 4)

    def resize(self, mode: str = "nearest", place: str = "asymmetric", factor: float = 2) -> "Chain":
        factors = np.array([1, 1, factor, factor], np.float32)
        return self.add("Resize", "", factors, mode=mode, coordinate_transformation_mode=place, nearest_mode="floor")

    def crop(self, before: int, after: int | None = None) -> "Chain":
        end = -(before if after is None else after) or 2**31 - 1
        return self.add("Slice", np.array([before] * 2), np.array([end] * 2), np.array([2, 3]))

    def pad(self, px: int) -> "Chain":
        return self.add("Pad", np.array([0, 0, px, px, 0, 0, px, px]), mode="constant")

    def build(self, **options: Any) -> bytes:
        nodes = [*self.nodes, helper.make_node("Identity", [self.last], ["y"])]
        return build(nodes, self.weights, **options)

    def facts(self) -> GraphFacts:
        return analyse(self.build())
