"""Steps that change each pixel by itself: channels, grey, inversion, stains, new levels."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from shared.errors import Rejected
from shared.imaging.levels import Histogram, Levels, count_values
from shared.imaging.normalisation import to_channels
from shared.imaging.sampling import read_sample
from shared.imaging.stain import Density, Restaining, Stains, find_restaining
from shared.imaging.steps.views import GREY, RGB, Facts, Frame, ImageStep, Read, View
from shared.imaging.tiling import Pixels

WHITE = 255


@dataclass(frozen=True)
class Channels(ImageStep):
    """One channel of the file, or three."""

    choose: tuple[int | str, ...]

    def reframe(self, frame: Frame) -> Frame:
        self._places(frame)
        return replace(frame, channels=GREY if len(self.choose) == 1 else RGB)

    def reader(self, view: View, facts: Facts) -> Read:  # noqa: ARG002
        places = self._places(view.frame)
        return lambda box: np.ascontiguousarray(view.read(box)[:, :, places])

    def _places(self, frame: Frame) -> list[int]:
        return [_find_channel(frame, wanted) for wanted in self.choose]


def _find_channel(frame: Frame, wanted: int | str) -> int:
    """By its number, or by its name, whose letters may be large or small."""
    names = [name.casefold() for name in frame.channels]
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    if isinstance(wanted, str) and wanted.casefold() in names:
        return names.index(wanted.casefold())
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(frame.channels))
    raise Rejected(f"{frame.name}: it has no channel {wanted!r}, only {listed}; choose of these")


@dataclass(frozen=True)
class Greyscale(ImageStep):
    """The mean of red, green and blue, as networks of one channel get it."""

    def reframe(self, frame: Frame) -> Frame:
        return replace(frame, channels=GREY)

    def reader(self, view: View, facts: Facts) -> Read:  # noqa: ARG002
        if len(view.frame.channels) == 1:
            return view.read
        return lambda box: to_channels(view.read(box), 1)


@dataclass(frozen=True)
class Invert(ImageStep):
    """v becomes 255 − v."""

    def reader(self, view: View, facts: Facts) -> Read:  # noqa: ARG002
        return lambda box: WHITE - view.read(box)


@dataclass(frozen=True)
class Stain(ImageStep):
    """Macenko's stain normalisation, see `shared.imaging.stain`. One without two of them stays as it is."""

    reference: tuple[Density, Density]
    concentrations: tuple[float, float]
    method: Literal["macenko"] = "macenko"

    def plan(self, view: View) -> Facts:
        frame = view.frame
        if len(frame.channels) != len(RGB):
            return {"stains": None}
        sample = read_sample(view.read, frame.height, frame.width, file_tile=frame.tile)
        restaining = find_restaining(sample, self._reference())
        return {"stains": None if restaining is None else asdict(restaining.found)}

    def reader(self, view: View, facts: Facts) -> Read:
        if facts["stains"] is None:
            return view.read
        first, second = facts["stains"]["colours"]
        amounts = facts["stains"]["amounts"]
        found = Stains((tuple(first), tuple(second)), (amounts[0], amounts[1]))
        return _pointwise(view, Restaining(found, self._reference()).apply)

    def _reference(self) -> Stains:
        return Stains(self.reference, self.concentrations)


class _Levelling(ImageStep):
    """New values for old by a table that the whole image's histogram gives."""

    def plan(self, view: View) -> Facts:
        return {"table": self._levels(count_values(view.pieces())).table.tolist()}

    def reader(self, view: View, facts: Facts) -> Read:
        return _pointwise(view, Levels(np.array(facts["table"], dtype=np.uint8)).apply)

    @abstractmethod
    def _levels(self, histogram: Histogram) -> Levels:
        """The new values, from how often each old one occurs in each channel."""


@dataclass(frozen=True)
class Equalise(_Levelling):
    """See `Levels.equalising`."""

    def _levels(self, histogram: Histogram) -> Levels:
        return Levels.equalising(histogram)


@dataclass(frozen=True)
class Normalise(_Levelling):
    """See `Levels.stretching` and `Levels.standardising`."""

    method: Literal["min_max", "percentile", "z_score"]
    low: float = 1.0
    high: float = 99.0
    deviations: float = 3.0

    def _levels(self, histogram: Histogram) -> Levels:
        if self.method == "z_score":
            return Levels.standardising(histogram, self.deviations)
        low, high = (0.0, 100.0) if self.method == "min_max" else (self.low, self.high)
        return Levels.stretching(histogram, low, high)


def _pointwise(view: View, change: Callable[[Pixels], Pixels]) -> Read:
    return lambda box: change(view.read(box))
