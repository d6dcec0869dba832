"""Rows that belong together, reduced to one row each."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.integer[Any]]
Rows = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Grouping:
    """n groups of rows. Its methods take (rows, …) and return (n, …) of the same type."""

    order: NDArray[np.intp]  # (rows,) group after group; within a group as they came
    starts: NDArray[np.intp]  # (n,) where in `order` each group begins

    @classmethod
    def of(cls, groups: Indices, count: int) -> Self:
        """`groups` (rows,) says to which of 0 … count − 1 each row belongs; −1 leaves it out.

        Raises:
            ValueError: a group has no row.
        """
        order = np.argsort(groups, kind="stable")
        sizes = np.bincount(groups[groups >= 0], minlength=count)
        if sizes.min(initial=1) == 0:
            raise ValueError(f"object {int(sizes.argmin()) + 1} of {count} has no pixel")
        return cls(order[groups.size - sizes.sum() :], np.cumsum(sizes) - sizes)

    def add(self, rows: Rows) -> Rows:
        """The sums."""
        return self._reduce(np.add, rows)

    def least(self, rows: Rows) -> Rows:
        """The minima."""
        return self._reduce(np.minimum, rows)

    def greatest(self, rows: Rows) -> Rows:
        """The maxima."""
        return self._reduce(np.maximum, rows)

    def _reduce(self, operation: np.ufunc, rows: Rows) -> Rows:
        reduced: Rows = operation.reduceat(rows[self.order], self.starts, axis=0, dtype=rows.dtype)
        return reduced
