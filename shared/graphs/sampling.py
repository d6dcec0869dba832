"""Operators that make a picture finer or coarser: Resize, DepthToSpace, SpaceToDepth."""

import math
from collections.abc import Callable, Mapping

from shared.graphs.errors import Unproven
from shared.graphs.sight import LARGEST, Window
from shared.graphs.values import Step, Value

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
    for axis, factor in enumerate(_factors(step)):
        if factor > 1 and axis not in picture.axes:
            raise Unproven("a resize of something else than rows and columns")
        taps = [_read(step, p, factor) for p in range(factor)]
        picture = picture.spread(axis, factor, taps)
    return picture


def follow_depth_to_space(step: Step) -> Value:
    """Every `blocksize²` channels become a square of pixels."""
    (factor,) = step.measures("blocksize", count=1)
    picture = step.standing
    for axis in picture.axes:
        picture = picture.spread(axis, factor, [[0]] * factor)
    return picture


def follow_space_to_depth(step: Step) -> Value:
    """Every square of pixels becomes as many channels."""
    (factor,) = step.measures("blocksize", count=1)
    picture = step.standing
    for axis in picture.axes:
        picture = picture.slide(axis, Window(kernel=factor, stride=factor))
    return picture


def _factors(step: Step) -> list[int]:
    """By which each axis grows."""
    factors = step.constant(2, ())
    if len(factors) != step.picture.rank:
        raise Unproven("a resize to given sides")
    if not all(1 <= factor <= LARGEST and factor == int(factor) for factor in factors):  # not so with NaN, either
        raise Unproven(f"a resize by a factor that is not whole, or more than {LARGEST}")
    return [int(factor) for factor in factors]


def _read(step: Step, position: int, factor: int) -> list[int]:
    """The positions that are read for position `position` of the answer, 0 … factor − 1."""
    mode = step.attributes.get("coordinate_transformation_mode", b"half_pixel")
    if step.spreads:
        return [0]  # nothing is promised but the sides
    if mode not in _PLACES:
        raise Unproven(f"a resize in the mode {mode.decode()}")
    place = _PLACES[mode](position, factor)
    around = step.attributes.get("mode", b"nearest")
    if around in _AROUND:
        return [math.floor(place) + offset for offset in _AROUND[around]]
    rounding = _ROUNDINGS.get(step.attributes.get("nearest_mode", b"round_prefer_floor"))
    if around != b"nearest" or rounding is None:
        raise Unproven("a resize in a mode that the analysis does not know")
    return [rounding(place)]
