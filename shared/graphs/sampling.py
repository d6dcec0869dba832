"""Operators that make a picture finer or coarser: Resize, DepthToSpace, SpaceToDepth."""

import math
from collections.abc import Callable, Mapping

from shared.graphs.errors import Unproven
from shared.graphs.sight import Window
from shared.graphs.values import Picture, Step, Value

_PLACES: Mapping[bytes, Callable[[int, int], float]] = {  # where position p of the answer lies in the input
    b"asymmetric": lambda p, factor: p / factor,
    b"half_pixel": lambda p, factor: (p + 0.5) / factor - 0.5,
    b"pytorch_half_pixel": lambda p, factor: (p + 0.5) / factor - 0.5,  # differs for an answer of one position only
}
_ROUNDINGS: Mapping[bytes, Callable[[float], int]] = {
    b"floor": math.floor,
    b"ceil": math.ceil,
    b"round_prefer_floor": lambda place: math.ceil(place - 0.5),
    b"round_prefer_ceil": lambda place: math.floor(place + 0.5),
}
_AROUND = {b"linear": (0, 1), b"cubic": (-1, 0, 1, 2)}  # what is read besides the position before the place


def follow_resize(step: Step) -> Value:
    """Resize by whole factors. With aligned corners the places depend on the sides, and so on the tile as a whole."""
    attributes, picture = step.attributes, step.picture
    if attributes.get("coordinate_transformation_mode", b"half_pixel") == b"align_corners":
        step.spreads = True
    if attributes.get("antialias", 0) or "axes" in attributes:
        raise Unproven("a resize with antialiasing, or of named axes")
    factors = step.constant(2)
    for axis in range(picture.rank):
        factor = int(factors[axis])
        if factor < 1 or factor != factors[axis] or (factor > 1 and axis not in picture.axes):
            raise Unproven("a resize by a factor that is not whole")
        taps = [_read(step, p, factor) for p in range(factor)]
        picture = picture.spread(axis, factor, taps)
    return picture


def follow_depth_to_space(step: Step) -> Value:
    """Every `blocksize²` channels become a square of pixels."""
    factor = step.attributes["blocksize"]
    picture = _standing(step)
    for axis in picture.axes:
        picture = picture.spread(axis, factor, [[0]] * factor)
    return picture


def follow_space_to_depth(step: Step) -> Value:
    """Every square of pixels becomes as many channels."""
    factor = step.attributes["blocksize"]
    picture = _standing(step)
    for axis in picture.axes:
        picture = picture.slide(axis, Window(kernel=factor, stride=factor))
    return picture


def _read(step: Step, position: int, factor: int) -> list[int]:
    """The positions that are read for position `position` of the answer, 0 … factor − 1."""
    mode = step.attributes.get("coordinate_transformation_mode", b"half_pixel")
    if step.spreads:
        return [0]  # nothing is promised but the sides
    if mode not in _PLACES:
        raise Unproven(f"a resize in the mode {mode.decode()}")
    place = _PLACES[mode](position, factor)
    around = _AROUND.get(step.attributes.get("mode", b"nearest"))
    if around is None:
        return [_ROUNDINGS[step.attributes.get("nearest_mode", b"round_prefer_floor")](place)]
    return [math.floor(place) + offset for offset in around]


def _standing(step: Step) -> Picture:
    if step.picture.rank != 4 or step.picture.axes != (2, 3):
        raise Unproven("a picture that is not (N, channels, rows, columns)")
    return step.picture
