"""Operators that only lay a tensor out anew: axes change places, come and go, are joined or picked from."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from shared.graphs.errors import Unproven
from shared.graphs.values import Opaque, Picture, ShapeOf, Step, Value, place_of


def named_axes(step: Step, *, default: Sequence[int] = (), rank: int | None = None) -> list[int]:
    """Axes as an attribute (older operator sets) or as the second input (newer ones), none of them negative."""
    named = step.attributes.get("axes")
    axes = step.integers(1, default) if named is None else named
    return [place_of(axis, rank or step.picture.rank) for axis in axes]


def follow_transpose(step: Step) -> Value:
    """Transpose."""
    order = step.attributes.get("perm", range(step.picture.rank)[::-1])
    if sorted(order) != list(range(step.picture.rank)):
        raise Unproven("an order that is not of all axes")
    return step.picture.rearrange(list(order))


def follow_unsqueeze(step: Step) -> Value:
    """Unsqueeze: further axes of length 1."""
    rank = step.picture.rank + len(named_axes(step))
    new, old = named_axes(step, rank=rank), iter(range(step.picture.rank))
    if len(set(new)) < len(new):
        raise Unproven("an axis that is named twice")
    return step.picture.rearrange([None if axis in new else next(old) for axis in range(rank)])


def follow_squeeze(step: Step) -> Value:
    """Squeeze: axes of length 1 go."""
    gone = named_axes(step)
    if not gone:
        raise Unproven("whatever axis happens to be of length 1")
    return drop(step.picture, gone)


def follow_concat(step: Step) -> Value:
    """Concat, of channels or stacked pictures."""
    pictures = [value for value in step.inputs if isinstance(value, Picture)]
    if len(pictures) < len(step.inputs):
        raise Unproven("something that is no picture")
    refuse_all_but_channels(pictures[0], step.axis(), otherwise="pictures side by side")
    return reduce(Picture.unite, pictures)


def follow_split(step: Step) -> Value:
    """Split, of channels."""
    refuse_all_but_channels(step.picture, step.axis(0), otherwise="rows or columns to be split")
    return step.picture


def follow_gather(step: Step) -> Value:
    """Gather: some of the channels, or a single one."""
    picture, axis, indices = step.picture, step.axis(0), step.inputs[1]
    refuse_all_but_channels(picture, axis, otherwise="rows or columns to be picked")
    if not isinstance(indices, np.ndarray) or indices.ndim > 1:
        raise Unproven("what is computed, to be picked")
    return picture if indices.ndim else drop(picture, [axis])


def follow_shape(step: Step) -> Value:
    """Shape."""
    part = step.attributes.get("start", 0) or "end" in step.attributes
    return Opaque() if part else ShapeOf(step.picture)


def follow_reshape(step: Step) -> Value:
    """Reshape, Flatten: what the axes mean after it, only the shape of another picture can tell."""
    target = step.inputs[1] if len(step.inputs) > 1 else None
    same = isinstance(target, ShapeOf) and target.picture is step.picture
    return step.picture if same else Opaque()


def drop(picture: Picture, axes: Sequence[int]) -> Picture:
    """The picture without these axes."""
    return picture.rearrange([axis for axis in range(picture.rank) if axis not in axes])


def refuse_all_but_channels(picture: Picture, axis: int, *, otherwise: str) -> None:
    """Raises Unproven if the axis is none of channels, but of rows or columns, or of the tiles of a request."""
    picture.keep_tiles_apart([axis])
    if axis in picture.axes:
        raise Unproven(otherwise)
