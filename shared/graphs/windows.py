"""Operators that read a window of pixels for each of their answer: convolutions, poolings, crops, paddings."""

from collections.abc import Sequence

from shared.graphs.errors import Unproven
from shared.graphs.sight import Window
from shared.graphs.values import Picture, Step, Value

TO_THE_END = 2**31 - 1  # an end of a slice from here on means: as far as there is


def follow_convolution(step: Step) -> Value:
    """Conv."""
    return _follow_windows(step, _kernel_of_weights(step))


def follow_pool(step: Step) -> Value:
    """AveragePool, LpPool, MaxPool."""
    return _follow_windows(step, step.attributes["kernel_shape"])


def follow_transposed(step: Step) -> Value:
    """ConvTranspose: position stride · i + m · dilation − padding of the answer reads position i of the input."""
    if "output_shape" in step.attributes:
        raise Unproven("an answer of fixed sides")
    kernel, strides, dilations, before, after = _windows_of(step, _kernel_of_weights(step))
    extra = step.attributes.get("output_padding", (0, 0))
    picture = step.picture
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
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        if axis % picture.rank not in picture.axes:
            continue
        if start < 0 or stride < 1 or 0 <= end < TO_THE_END:
            raise Unproven("a crop of fixed sides")
        window = Window(stride=stride, start=start, end=0 if end >= TO_THE_END else end)
        picture = picture.slide(axis % picture.rank, window)
    return picture


def follow_pad(step: Step) -> Value:
    """Pad, whatever it pads with: a position beyond the border is spoilt in any case."""
    picture, pads = step.picture, step.integers(1)
    axes = [axis % picture.rank for axis in step.integers(3, range(picture.rank))]
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        window = Window(start=-before, end=after)
        picture = picture.slide(axis, window)
    return picture


def _taps(place: int, kernel: int, stride: int, dilation: int) -> list[int]:
    """The positions that a transposed convolution reads for position `place` of its answer, padding included."""
    behind = [place - dilation * m for m in range(kernel)]
    return [at // stride for at in behind if at % stride == 0]


def _kernel_of_weights(step: Step) -> Sequence[int]:
    """Sides of the kernel: the last axes of the weights (channels, channels, rows, columns)."""
    step.constant(1)
    shape: Sequence[int] = step.inputs[1].shape[2:]  # type: ignore[union-attr]
    return shape


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
    if step.picture.rank != 4 or step.picture.axes != (2, 3):
        raise Unproven("a picture that is not (N, channels, rows, columns)")
    if step.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unproven("a padding that follows from the sides (auto_pad)")
    pads = step.attributes.get("pads", (0, 0, 0, 0))
    strides, dilations = (step.attributes.get(name, (1, 1)) for name in ("strides", "dilations"))
    return [kernel, strides, dilations, pads[:2], pads[2:]]
