"""Operators that read a window of pixels for each of their answer: convolutions, poolings, crops, paddings."""

from collections.abc import Sequence
from operator import mul

import numpy as np

from shared.graphs.errors import Unproven
from shared.graphs.sight import LARGEST, Window
from shared.graphs.values import Picture, Step, Value, place_of

TO_THE_END = 2**31 - 1  # an end of a slice from here on means: as far as there is
_MOST_TAPS = 2**16  # of a transposed convolution, along an axis


def follow_convolution(step: Step) -> Value:
    """Conv."""
    return _follow_windows(step, _kernel_of_weights(step))


def follow_pool(step: Step) -> Value:
    """AveragePool, LpPool, MaxPool."""
    return _follow_windows(step, step.measures("kernel_shape", count=2))


def follow_transposed(step: Step) -> Value:
    """ConvTranspose: position stride · i + m · dilation − padding of the answer reads position i of the input."""
    if "output_shape" in step.attributes:
        raise Unproven("an answer of fixed sides")
    kernel, strides, dilations, before, after = _windows_of(step, _kernel_of_weights(step))
    extra = step.measures("output_padding", (0, 0), count=2, least=0)
    picture = step.picture
    if max(map(mul, kernel, strides)) > _MOST_TAPS:
        raise Unproven("too large a kernel with too large a stride")
    for index, axis in enumerate(picture.axes):
        stride, dilation, padding = strides[index], dilations[index], before[index]
        taps = [_taps(p + padding, kernel[index], stride, dilation) for p in range(stride)]
        longer = dilation * (kernel[index] - 1) + 1 - stride - padding - after[index] + extra[index]
        picture = picture.spread(axis, stride, taps, longer=longer)
    return picture


def follow_slice(step: Step) -> Value:
    """Slice: a crop, or every so many rows and columns."""
    picture, starts, ends = step.picture, step.integers(1), step.integers(2)
    axes = step.integers(3, range(len(starts)))
    strides = step.integers(4, [1] * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(strides):
        raise Unproven("starts, ends, axes and steps that are not equally many")
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        place = place_of(axis, picture.rank)
        if place in picture.kept:
            picture = _cut(picture, place, _crop(start, end, stride))
    return picture


def follow_pad(step: Step) -> Value:
    """Pad, whatever it pads with: a position beyond the border is spoilt in any case."""
    picture, pads = step.picture, step.integers(1)
    axes = [place_of(axis, picture.rank) for axis in step.integers(3, range(picture.rank))]
    if len(pads) != 2 * len(axes) or max(map(abs, pads), default=0) > LARGEST:
        raise Unproven(f"a padding that is not two numbers of at most {LARGEST} px for each axis")
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        if axis in picture.kept:
            picture = _cut(picture, axis, Window(start=-before, end=after))
    return picture


def _crop(start: int, end: int, stride: int) -> Window:
    if start < 0 or stride < 1 or 0 <= end < TO_THE_END:
        raise Unproven("a crop of fixed sides")
    left_out = 0 if end >= TO_THE_END else end
    if max(start, stride, -left_out) > LARGEST:
        raise Unproven(f"a crop of more than {LARGEST} px")
    return Window(stride=stride, start=start, end=left_out)


def _cut(picture: Picture, axis: int, window: Window) -> Picture:
    """Of rows or columns. No tile of a request may go, or come."""
    if window != Window():
        picture.keep_tiles_apart([axis])
    return picture.slide(axis, window)


def _taps(place: int, kernel: int, stride: int, dilation: int) -> list[int]:
    """The positions that a transposed convolution reads for position `place` of its answer, padding included."""
    behind = [place - dilation * m for m in range(kernel)]
    return [at // stride for at in behind if at % stride == 0]


def _kernel_of_weights(step: Step) -> Sequence[int]:
    """Sides of the kernel: the last axes of the weights (channels, channels, rows, columns)."""
    weights = step.inputs[1] if len(step.inputs) > 1 else None
    if not isinstance(weights, np.ndarray):
        raise Unproven("weights that are computed")
    if weights.ndim != 4 or not all(1 <= side <= LARGEST for side in weights.shape[2:]):
        raise Unproven(f"a kernel that has not two sides of 1 … {LARGEST} px")
    return weights.shape[2:]


def _follow_windows(step: Step, kernel: Sequence[int]) -> Picture:
    picture = step.picture
    kernel, strides, dilations, before, after = _windows_of(step, kernel)
    ceil = bool(step.attributes.get("ceil_mode", 0))
    for index, axis in enumerate(picture.axes):
        window = Window(kernel[index], strides[index], dilations[index], -before[index], after[index], ceil)
        picture = picture.slide(axis, window)
    return picture


def _windows_of(step: Step, kernel: Sequence[int]) -> list[Sequence[int]]:
    """Kernel, strides, dilations, padding before and after, each for rows and columns."""
    step.standing  # noqa: B018  # raises
    if step.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unproven("a padding that follows from the sides (auto_pad)")
    pads = step.measures("pads", (0, 0, 0, 0), count=4, least=0)
    strides, dilations = (step.measures(name, (1, 1), count=2) for name in ("strides", "dilations"))
    return [kernel, strides, dilations, pads[:2], pads[2:]]
