"""Constants that a graph computes of constants: small ones are computed here, of large ones only the shape is kept.

A graph comes from strangers. So nothing is computed whose size it could choose: a short list of operators, on arrays so
small that whatever comes of two of them is small, too.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from shared.graphs.errors import Unproven
from shared.graphs.values import MOST_VALUES, Constant

_SMALL = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Concat", "DequantizeLinear", "Div", "Equal", "Floor", "Gather", "Identity", "Max",
    "Min", "Mod", "Mul", "Neg", "QuantizeLinear", "Reciprocal", "ReduceProd", "Reshape", "Round", "Shape", "Slice",
    "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
_ALIKE = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"})  # as many values as the first input has
_MOST_INPUTS = 64
_PLAIN = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # of the evaluator


def read_constant(tensor: onnx.TensorProto) -> Constant:
    """The array of weights or arguments. Raises Unproven if it lies in another file, or is none."""
    if tensor.data_location == TensorProto.EXTERNAL:
        raise Unproven(f"{tensor.name}: weights in another file")
    try:
        return numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise Unproven(f"{tensor.name}: weights that cannot be read: {error}") from error


def fold(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> list[Constant]:
    """What the node makes of constants.

    Raises:
        Unproven: it is none of those that are computed, or what it reads is too large, or makes no sense.
    """
    sizes = [value.size for value in inputs if value is not None]
    if node.op_type == "Constant":
        return [_constant_of(node)]
    if node.op_type == "Range":
        return [_range_of(inputs)]
    if node.op_type in _ALIKE and inputs and inputs[0] is not None and inputs[0].size > MOST_VALUES:
        return [np.broadcast_to(np.zeros((), np.float32), inputs[0].shape)]
    if node.op_type not in _SMALL:
        raise Unproven("constants computed by an operator that is not followed")
    if len(inputs) > _MOST_INPUTS or max(sizes, default=0) > MOST_VALUES:
        raise Unproven(f"constants of more than {MOST_VALUES} values, computed")
    return _evaluate(node, inputs)


def _evaluate(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> list[Constant]:
    try:
        found = ReferenceEvaluator(node).run(None, dict(zip(node.input, inputs, strict=True)))
        made = [np.asarray(value) for value in found]
    except _FAILURES as error:
        raise Unproven(f"constants that cannot be computed: {error}") from error
    if max(value.size for value in made) > MOST_VALUES:
        raise Unproven(f"a constant of more than {MOST_VALUES} values, computed")
    return made


def _constant_of(node: onnx.NodeProto) -> Constant:
    if len(node.attribute) == 1 and node.attribute[0].name == "value":
        return read_constant(node.attribute[0].t)
    if len(node.attribute) == 1 and node.attribute[0].name in _PLAIN:
        return np.array(helper.get_attribute_value(node.attribute[0]), _PLAIN[node.attribute[0].name])
    raise Unproven("a constant that is no plain array")


def _range_of(inputs: Sequence[Constant | None]) -> Constant:
    ends = [value.item() for value in inputs if value is not None and value.size == 1]
    if len(ends) != 3 or not np.isfinite(ends).all() or not ends[2]:
        raise Unproven("a range that is not from one number to another")
    if abs(ends[1] - ends[0]) > MOST_VALUES * abs(ends[2]):
        raise Unproven(f"a constant of more than {MOST_VALUES} values, computed")
    return np.arange(ends[0], ends[1], ends[2])
