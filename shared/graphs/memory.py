"""How much working memory a graph needs: the activations that live at the same time."""

from collections.abc import Sequence

import numpy as np
import onnx
from google.protobuf.message import EncodeError

from shared.graphs.errors import Unproven
from shared.graphs.operators import POINTWISE

_SIDE = 2**20  # px of a tile on which crops do not count; only its shapes are found, nothing is computed
_FLOAT = 4  # bytes
_FAILURES = (onnx.shape_inference.InferenceError, EncodeError, RuntimeError, TypeError, ValueError)
_ARGUMENT = 1024  # bytes; constants beyond are weights, whose shapes are enough


def find_bytes_per_pixel(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], *, tile: str) -> int:
    """Bytes of activations at the peak, per pixel of the input `tile`, if each is kept from its making to its last use.

    Numbers count as 4-byte floats, bytes as bytes. A pointwise operator writes over an input that nobody else needs.
    For a UNet of 64 … 1024 features, 1024 bytes; OpenVINO 2026.4 was seen to need 1030 in f32 and 600 in bf16 for each
    pixel more (tiles of 704, 1216 and 1728 px), on top of 0.3 GB for itself and the weights.

    Raises:
        Unproven: the shapes of the graph's tensors cannot be told.
    """
    sizes = _sizes(model, tile)
    last_use = {name: index for index, node in enumerate(nodes) for name in node.input}
    live = {tile: sizes[tile]}
    peak = 0.0
    for index, node in enumerate(nodes):
        dying = {name for name in node.input if last_use[name] == index and name in live}
        in_place = node.op_type in POINTWISE and bool(dying)
        made = {name: sizes.get(name, 0.0) for name in node.output if name in last_use or index == len(nodes) - 1}
        peak = max(peak, sum(live.values()) + (0 if in_place else sum(made.values())))
        live = {name: size for name, size in {**live, **made}.items() if name not in dying}
    return round(peak)


def _sizes(model: onnx.ModelProto, tile: str) -> dict[str, float]:
    """Bytes per pixel of every tensor that grows with the tile, by name."""
    sized = _with_sides(model, tile)
    found = [*sized.graph.value_info, *sized.graph.input, *sized.graph.output]
    return {value.name: _bytes_of(value.type.tensor_type) / _SIDE**2 for value in found}


def _with_sides(model: onnx.ModelProto, tile: str) -> onnx.ModelProto:
    """The model with the shapes of all its tensors for one tile of `_SIDE` px."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    for weights in sized.graph.initializer:
        if len(weights.raw_data) > _ARGUMENT:
            weights.ClearField("raw_data")
    (given,) = (given for given in sized.graph.input if given.name == tile)
    batch, rows, columns, _ = given.type.tensor_type.shape.dim
    batch.dim_value, rows.dim_value, columns.dim_value = 1, _SIDE, _SIDE
    for answer in sized.graph.output:
        answer.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(sized, data_prop=True)
    except _FAILURES as error:
        raise Unproven(f"shapes that cannot be told: {error}") from error


def _bytes_of(tensor: onnx.TypeProto.Tensor) -> float:
    sides = [dimension.dim_value for dimension in tensor.shape.dim]
    width = 1 if tensor.elem_type in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.BOOL) else _FLOAT
    return float(np.prod(sides, dtype=np.float64)) * width
