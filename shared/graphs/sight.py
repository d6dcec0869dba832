"""How far a pixel sees: which pixels of the image a position of a tensor depends on, along one axis.

A graph of convolutions does the same everywhere, up to whole cells of its pooling grid. So it is enough to know, for
each position of one cell, the first and the last pixel of the image that it sees; the cells to its left and right see
the same, a cell further. In thought the axis has no end. A tensor's real axis has, and a position that reads beyond it
meets padding, a mirror or a clamp instead: it is spoilt, and so is whatever reads a spoilt position.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.graphs.errors import Unproven

Positions = NDArray[np.int64]

LARGEST = 4096  # what a kernel, a stride, a factor, a crop or a cell may measure; beyond, memory would run out
_MOST_READS = 2**20  # positions of a cell times those that each reads
_NOTHING = 2**40  # a position that sees nothing has its first pixel here and its last at the negative of it


@dataclass(frozen=True)
class Window:
    """What an operator reads for position j of its answer: positions start + stride · j + dilation · (0 … kernel − 1).

    `end` is how many positions after the last are read, at most (padding), or left out if negative.
    """

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    start: int = 0  # −padding, or how many positions are cut off
    end: int = 0
    ceil: bool = False  # a last window that leaves the axis counts, too

    @property
    def span(self) -> int:
        """From the first position read to the one after the last."""
        return self.dilation * (self.kernel - 1) + 1


@dataclass(frozen=True)
class Sight:
    """One axis of a tensor. Position i + n of a cell of n sees what position i sees, moved by `step · n` px.

    The axis has (L − lost) / step positions where the image has L px, a multiple of the grid.
    """

    step: int  # px of the image from one position to the next
    lost: int  # px; negative: the axis is longer than the image
    first: Positions  # the first pixel that each position of a cell sees, (n)
    last: Positions  # the last one, (n)
    spoilt: tuple[int, int] = (0, 0)  # positions at the start and at the end of the axis

    @classmethod
    def of_image(cls) -> "Sight":
        """The image's own axis: each pixel sees itself."""
        return cls(step=1, lost=0, first=np.zeros(1, np.int64), last=np.zeros(1, np.int64))

    @property
    def period(self) -> int:
        """Side of a cell, px."""
        return self.step * len(self.first)

    def slide(self, window: Window) -> "Sight":
        """After an operator that reads a window of positions for each of its answer: convolution, pooling, crop.

        Raises:
            Unproven: the cells become too large, or the window is.
        """
        step = self.step * window.stride
        count = _period(self.period, step) // step
        if count * window.kernel > _MOST_READS:
            raise Unproven(f"a kernel of {window.kernel} px on a grid of {count * step} px")
        starts = window.start + window.stride * np.arange(count)
        first, last = self._look(starts[:, None] + window.dilation * np.arange(window.kernel))
        lost = self.lost + self.step * (window.start - window.end + window.span - window.stride)
        lost = lost // step * step if window.ceil else -(-lost // step) * step
        slid = Sight(step, lost, first.min(axis=1), last.max(axis=1))
        before = -(-(self.spoilt[0] - window.start) // window.stride)
        sound = (self._length - self.spoilt[1] - window.start - window.span) // window.stride + 1
        return replace(slid, spoilt=(max(before, 0), max(slid._length - sound, 0)))

    def spread(self, factor: int, taps: Sequence[Sequence[int]], *, longer: int = 0) -> "Sight":
        """After an operator that makes `factor` positions of each.

        Position factor · i + p of the answer reads the positions i + t for t in taps[p]; it may read none. The answer
        is `longer` positions longer than `factor` times the axis.

        Raises:
            Unproven: the answer is finer than the image.
        """
        if self.step % factor:
            raise Unproven("an answer finer than the image")
        count, step = len(self.first), self.step // factor
        first = np.full((count, factor), _NOTHING)
        last = -first
        before = after = 0
        for phase, reads in enumerate(taps):
            for tap in reads:
                near, far = self._look(np.arange(count) + tap)
                first[:, phase] = np.minimum(first[:, phase], near)
                last[:, phase] = np.maximum(last[:, phase], far)
                before = max(before, factor * (self.spoilt[0] - tap - 1) + phase + 1)
                after = max(after, factor * (self.spoilt[1] + tap) + longer - phase)
        return Sight(step, self.lost - step * longer, first.ravel(), last.ravel(), (before, after))

    def unite(self, other: "Sight") -> "Sight":
        """What an operator sees that reads the same position of both axes.

        Raises:
            Unproven: the axes are not equally long, or repeat themselves together too seldom.
        """
        if (self.step, self.lost) != (other.step, other.lost):
            raise Unproven("axes that are not equally long")
        count = _period(self.period, other.period) // self.step
        (first, last), (first_too, last_too) = self._look(np.arange(count)), other._look(np.arange(count))
        before, after = map(max, self.spoilt, other.spoilt)
        return Sight(self.step, self.lost, np.minimum(first, first_too), np.maximum(last, last_too), (before, after))

    def reach(self, *, origin: int, grid: int) -> int:
        """How deep a cut through the image spoils the axis, px, if position 0 stands for pixel `origin` (step 1 px).

        Cuts lie on the grid, where tiles begin and end. The reach is that of the deepest position that sees something
        beyond a cut, in whichever phase of the grid it lies; or, if more, of one that an inner border spoils, where
        features were cut off and padded again.
        """
        positions = np.arange(grid)
        first, last = self._look(positions)
        own, seen = origin + positions, first <= last
        before = own - (first // grid + 1) * grid + 1  # the nearest cut that hides the first pixel seen
        after = last // grid * grid - own  # the nearest that hides the last one
        inner = [origin + spoilt for spoilt in self.spoilt if spoilt]
        return max(int(before[seen].max(initial=0)), int(after[seen].max(initial=0)), *inner)

    @property
    def _length(self) -> int:
        """Positions, less those of the image, which are whole cells: both ends are the same without them."""
        return -self.lost // self.step

    def _look(self, positions: Positions) -> tuple[Positions, Positions]:
        """First and last pixel that these positions see, whichever cell they lie in."""
        cell, phase = np.divmod(positions, len(self.first))
        moved = cell * self.period
        return self.first[phase] + moved, self.last[phase] + moved


def _period(one: int, other: int) -> int:
    """Side of a cell that both fit into, px. Raises Unproven if it is too large."""
    common = math.lcm(one, other)
    if common > LARGEST:
        raise Unproven(f"a grid of {common} px, where {LARGEST} px is the largest that is followed")
    return common
