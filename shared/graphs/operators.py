"""What each operator of ONNX does to what is seen: https://onnx.ai/onnx/operators."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from shared.graphs import arrangement, sampling, windows
from shared.graphs.errors import Unproven
from shared.graphs.values import Opaque, Picture, ShapeOf, Step, Value, place_of

POINTWISE = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "DequantizeLinear", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
    "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip
NORMALISING = frozenset({
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "LRN",
    "MeanVarianceNormalization", "RMSNormalization",
})  # fmt: skip
_REDUCTIONS = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
})  # fmt: skip
_OVER_SPACE = frozenset({
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization",
})  # fmt: skip
_OF_SEVERAL = POINTWISE | {"Concat", "MatMul", "Reshape"}  # all others take one tensor, and constants
_MIXING = NORMALISING - {"BatchNormalization"} | _REDUCTIONS | {"Gemm", "LogSoftmax", "MatMul", "Softmax"}


def follow(step: Step) -> Value:
    """What comes out of the node, from what goes in; `step.spreads` is set on the way.

    Raises:
        Unproven: the analysis does not know the operator, or not when it is used like this.
    """
    if any(isinstance(value, Opaque) for value in step.inputs):
        return _follow_opaque(step)
    rule = _RULES.get(step.operator)
    if rule is None:
        raise Unproven("an operator that the analysis does not know")
    if step.operator not in _OF_SEVERAL and any(isinstance(value, Picture | ShapeOf) for value in step.inputs[1:]):
        raise Unproven("an argument that is computed")
    return rule(step)


def _follow_opaque(step: Step) -> Value:
    """Rows and columns are folded together: whatever reads across what is left may read the whole tile.

    A picture comes of it again only once something has spread, as then nothing is promised but its sides.
    """
    step.spreads = step.operator in _MIXING
    if not step.everything_spreads:
        return Opaque()
    if step.operator == "Reshape" and isinstance(step.inputs[1], ShapeOf):
        return step.inputs[1].picture
    pictures = [value for value in step.inputs if isinstance(value, Picture)]
    return reduce(Picture.unite, pictures) if pictures and step.operator in POINTWISE else Opaque()


def _follow_pointwise(step: Step) -> Value:
    pictures = [value for value in step.inputs if isinstance(value, Picture)]
    if not pictures or any(isinstance(value, ShapeOf) for value in step.inputs):
        raise Unproven("something that is no picture")
    united = reduce(Picture.unite, pictures)
    for value in step.inputs:
        if isinstance(value, np.ndarray):
            united.check_constant(value)
    return united


def _follow_dropout(step: Step) -> Value:
    if step.constant(2, (0,)).any():
        raise Unproven("answers that are left to chance (training_mode)")
    return step.picture


def _follow_quantisation(step: Step) -> Value:
    """QuantizeLinear, DequantizeLinear: the same for all, or each channel has its own scale."""
    if any(isinstance(value, np.ndarray) and value.size > 1 for value in step.inputs[1:]):
        arrangement.refuse_all_but_channels(step.picture, step.axis(1), otherwise="a scale for each row or column")
    if step.attributes.get("block_size", 0):
        raise Unproven("scales for blocks")
    return step.picture


def _follow_over_space(step: Step) -> Value:
    step.picture.keep_tiles_apart(range(1, step.picture.rank))
    step.spreads = True
    return Opaque() if step.operator.startswith("Global") else step.picture


def _follow_batch_normalization(step: Step) -> Value:
    arrangement.refuse_all_but_channels(step.picture, place_of(1, step.picture.rank), otherwise="rows for channels")
    step.spreads = bool(step.attributes.get("training_mode", 0))
    if step.spreads:
        step.picture.keep_tiles_apart(range(step.picture.rank))
    return step.picture


def _follow_channels(step: Step) -> Value:
    """LRN: over neighbouring channels only."""
    return step.standing


def _follow_along(step: Step) -> Value:
    """Softmax and the like, along one axis."""
    axis = step.axis(-1)
    step.picture.keep_tiles_apart([axis])
    step.spreads = axis in step.picture.axes
    return step.picture


def _follow_from(step: Step) -> Value:
    """LayerNormalization and the like, over all axes from one on."""
    first = step.axis(-1)
    step.picture.keep_tiles_apart(range(first, step.picture.rank))
    step.spreads = max(step.picture.axes) >= first
    for value in step.inputs[1:]:
        if isinstance(value, np.ndarray) and not step.spreads:
            step.picture.check_constant(value)
    return step.picture


def _follow_mean_variance(step: Step) -> Value:
    axes = [place_of(axis, step.picture.rank) for axis in step.attributes.get("axes", (0, 2, 3))]
    step.picture.keep_tiles_apart(axes)
    step.spreads = bool(set(axes) & set(step.picture.axes))
    return step.picture


def _follow_reduction(step: Step) -> Value:
    picture = step.picture
    axes = arrangement.named_axes(step) or range(picture.rank)
    picture.keep_tiles_apart(axes)
    step.spreads = bool(set(axes) & set(picture.axes))
    if step.spreads:
        return Opaque()
    return picture if step.attributes.get("keepdims", 1) else arrangement.drop(picture, axes)


def _follow_choice(step: Step) -> Value:
    """ArgMax, ArgMin: reductions whose axis is an attribute."""
    step.attributes = {**step.attributes, "axes": [step.axis(0)]}
    return _follow_reduction(step)


def _follow_product(step: Step) -> Value:
    """MatMul, which sums over the last axis of the first and the last but one of the second."""
    if len(step.inputs) != 2 or not all(isinstance(value, Picture | np.ndarray) for value in step.inputs):
        raise Unproven("a product of something that is no picture")
    summed = [
        (value, value.rank - from_last)
        for value, from_last in zip(step.inputs, (1, 2), strict=True)
        if isinstance(value, Picture)
    ]
    for picture, axis in summed:
        picture.keep_tiles_apart([axis])
    step.spreads = any(axis in picture.axes for picture, axis in summed)
    if step.spreads:
        return Opaque()
    if len(summed) != 1:
        raise Unproven("a product of two pictures")
    (weights,) = (value for value in step.inputs if isinstance(value, np.ndarray))
    if weights.ndim < 2:
        raise Unproven("a product that takes an axis away")
    summed[0][0].check_constant(weights[..., :1, :1])  # a matrix for all, not one for each row
    return summed[0][0]


_RULES: dict[str, Callable[[Step], Value]] = {
    **dict.fromkeys(POINTWISE, _follow_pointwise),
    **dict.fromkeys(_REDUCTIONS, _follow_reduction),
    **dict.fromkeys(_OVER_SPACE, _follow_over_space),
    **dict.fromkeys(("ArgMax", "ArgMin"), _follow_choice),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), windows.follow_pool),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _follow_from),
    **dict.fromkeys(("LogSoftmax", "LpNormalization", "Softmax"), _follow_along),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _follow_quantisation),
    **dict.fromkeys(("Flatten", "Reshape"), arrangement.follow_reshape),
    "BatchNormalization": _follow_batch_normalization,
    "Concat": arrangement.follow_concat,
    "Conv": windows.follow_convolution,
    "ConvTranspose": windows.follow_transposed,
    "DepthToSpace": sampling.follow_depth_to_space,
    "Dropout": _follow_dropout,
    "Gather": arrangement.follow_gather,
    "LRN": _follow_channels,
    "MatMul": _follow_product,
    "MeanVarianceNormalization": _follow_mean_variance,
    "Pad": windows.follow_pad,
    "Resize": sampling.follow_resize,
    "Shape": arrangement.follow_shape,
    "Slice": windows.follow_slice,
    "SpaceToDepth": sampling.follow_space_to_depth,
    "Split": arrangement.follow_split,
    "Squeeze": arrangement.follow_squeeze,
    "Transpose": arrangement.follow_transpose,
    "Unsqueeze": arrangement.follow_unsqueeze,
}
