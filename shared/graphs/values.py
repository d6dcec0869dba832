"""What flows through a graph, as far as the analysis follows it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.graphs.errors import Unproven
from shared.graphs.sight import LARGEST, Sight, Window

Constant = NDArray[Any]
MOST_VALUES = 1024  # of an argument; a larger constant is weights, of which only the shape counts


@dataclass(frozen=True)
class Picture:
    """A tensor in which the image's rows and columns can still be told."""

    rank: int
    axes: tuple[int, int]  # which of its axes are rows and columns
    sights: tuple[Sight, Sight]  # what is seen along each
    batch: int | None = 0  # which axis counts the tiles of a request; none if it is always one

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes along which nothing may change places: rows, columns, and the tiles of a request."""
        return self.axes if self.batch is None else (*self.axes, self.batch)

    def keep_tiles_apart(self, axes: Collection[int]) -> None:
        """Raises Unproven if one of the axes that an operator reads across is that of the tiles of a request."""
        if self.batch in axes:
            raise Unproven("tiles of one request that depend on each other")

    def check_constant(self, constant: Constant) -> None:
        """Raises Unproven if the constant, laid over the picture, is not the same everywhere."""
        if constant.ndim > self.rank:
            raise Unproven("a constant with more axes than the picture")
        if any(_extent(constant.shape, self.rank - axis) > 1 for axis in self.kept):
            raise Unproven("a constant that differs from pixel to pixel, or from tile to tile")

    def slide(self, axis: int, window: Window) -> "Picture":
        """After a window of positions is read along `axis`; as it is if that is neither rows nor columns."""
        return self._change(axis, lambda sight: sight.slide(window))

    def spread(self, axis: int, factor: int, taps: Sequence[Sequence[int]], *, longer: int = 0) -> "Picture":
        """After `factor` positions are made of each along `axis`; as it is if that is neither rows nor columns."""
        return self._change(axis, lambda sight: sight.spread(factor, taps, longer=longer))

    def rearrange(self, order: Sequence[int | None]) -> "Picture":
        """With its axes in another order: `order` names the old axis of each new one, None for a new axis of 1.

        Raises:
            Unproven: rows, columns or tiles would be lost.
        """
        if not set(self.kept) <= set(order):
            raise Unproven("an axis of the picture that vanishes")
        rows, columns, *batch = (order.index(axis) for axis in self.kept)
        return replace(self, rank=len(order), axes=(rows, columns), batch=batch[0] if batch else None)

    def unite(self, other: "Picture") -> "Picture":
        """What an operator sees that reads the same place of both. Raises Unproven if they do not lie alike."""
        ends = [[picture.rank - axis for axis in picture.kept] for picture in (self, other)]
        if ends[0] != ends[1]:
            raise Unproven("pictures whose rows and columns are not the same axes")
        larger = self if self.rank >= other.rank else other
        rows, columns = (own.unite(theirs) for own, theirs in zip(self.sights, other.sights, strict=True))
        return replace(larger, sights=(rows, columns))

    def _change(self, axis: int, change: Callable[[Sight], Sight]) -> "Picture":
        rows, columns = (
            change(sight) if own == axis else sight for own, sight in zip(self.axes, self.sights, strict=True)
        )
        return replace(self, sights=(rows, columns))


@dataclass(frozen=True)
class Opaque:
    """A tensor in which rows and columns cannot be told any more: folded together, or summed up."""


@dataclass(frozen=True)
class ShapeOf:
    """The sides of a picture, as a tensor."""

    picture: Picture


Value = Picture | Opaque | ShapeOf | Constant


@dataclass
class Step:
    """A node of the graph with what goes into it. Whoever follows it notes whether it spreads."""

    operator: str
    attributes: Mapping[str, Any]
    inputs: Sequence[Value | None]  # None where an optional one is left out
    everything_spreads: bool = False  # an earlier node did: what is left to find are the sides
    spreads: bool = field(default=False, init=False)  # its answer anywhere depends on the tile as a whole

    @property
    def picture(self) -> Picture:
        """The first input. Raises Unproven if it is no picture."""
        first = self.inputs[0] if self.inputs else None
        if not isinstance(first, Picture):
            raise Unproven("something that is no picture")
        return first

    @property
    def standing(self) -> Picture:
        """The first input, laid out as most operators want it. Raises Unproven if it is not."""
        picture = self.picture
        if picture.rank != 4 or picture.axes != (2, 3) or picture.batch not in (0, None):
            raise Unproven("a picture that is not (N, channels, rows, columns)")
        return picture

    def axis(self, default: int | None = None) -> int:
        """Attribute `axis`, not negative. Raises Unproven if the picture has no such axis."""
        return place_of(self.attributes.get("axis", default), self.picture.rank)

    def measures(self, name: str, default: Sequence[int] | None = None, *, count: int, least: int = 1) -> list[int]:
        """Attribute `name`: so many numbers of px. Raises Unproven unless they are all `least` … 4096."""
        found = self.attributes.get(name, default)
        found = [found] if isinstance(found, int) else found
        if found is None or len(found) != count or not all(least <= measure <= LARGEST for measure in found):
            raise Unproven(f"{name} that are not {count} numbers of {least} … {LARGEST}")
        return [int(measure) for measure in found]

    def constant(self, index: int, default: Sequence[float] | None = None) -> Constant:
        """Input `index`, flat. Raises Unproven if it is computed, no argument, or left out without a default."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None and default is not None:
            return np.array(default)
        if not isinstance(value, np.ndarray) or value.size > MOST_VALUES:
            raise Unproven("an argument that is computed")
        return value.ravel()

    def integers(self, index: int, default: Sequence[int] | None = None) -> list[int]:
        """As `constant`, of whole numbers."""
        return [int(value) for value in self.constant(index, default)]


def place_of(axis: object, rank: int) -> int:
    """The axis, counted from the first. Raises Unproven if a tensor of that rank has none such."""
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise Unproven(f"axis {axis!r} of {rank}")
    return axis % rank


def _extent(shape: Sequence[int], from_last: int) -> int:
    """Length of the axis that is the `from_last`-th from the end; 1 if there is none."""
    return shape[-from_last] if from_last <= len(shape) else 1
