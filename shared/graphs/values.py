"""What flows through a graph, as far as the analysis follows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.graphs.errors import Unproven
from shared.graphs.sight import Sight, Window

Constant = NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A tensor in which the image's rows and columns can still be told."""

    rank: int
    axes: tuple[int, int]  # which of its axes are rows and columns
    sights: tuple[Sight, Sight]  # what is seen along each

    def slide(self, axis: int, window: Window) -> "Picture":
        """After a window of positions is read along `axis`; as it is if that is neither rows nor columns."""
        return self._change(axis, lambda sight: sight.slide(window))

    def spread(self, axis: int, factor: int, taps: Sequence[Sequence[int]], *, longer: int = 0) -> "Picture":
        """After `factor` positions are made of each along `axis`; as it is if that is neither rows nor columns."""
        return self._change(axis, lambda sight: sight.spread(factor, taps, longer=longer))

    def rearrange(self, order: Sequence[int | None]) -> "Picture":
        """With its axes in another order: `order` names the old axis of each new one, None for a new axis of 1.

        Raises:
            Unproven: rows or columns would be lost.
        """
        if not set(self.axes) <= set(order):
            raise Unproven("an axis of the picture that vanishes")
        rows, columns = (order.index(axis) for axis in self.axes)
        return replace(self, rank=len(order), axes=(rows, columns))

    def unite(self, other: "Picture") -> "Picture":
        """What an operator sees that reads the same place of both. Raises Unproven if they do not lie alike."""
        ends = [[picture.rank - axis for axis in picture.axes] for picture in (self, other)]
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
        first = self.inputs[0]
        if not isinstance(first, Picture):
            raise Unproven("something that is no picture")
        return first

    def constant(self, index: int, default: Sequence[float] | None = None) -> Constant:
        """Input `index`, flat. Raises Unproven if it is computed, or left out without a default."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None and default is not None:
            return np.array(default)
        if not isinstance(value, np.ndarray):
            raise Unproven("an argument that is computed")
        return value.ravel()

    def integers(self, index: int, default: Sequence[int] | None = None) -> list[int]:
        """As `constant`, of whole numbers."""
        return [int(value) for value in self.constant(index, default)]
