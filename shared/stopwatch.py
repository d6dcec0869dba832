"""Seconds per step of some work."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the time spent in named steps. Used by one thread."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time inside the `with` towards `name`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - begun

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per step so far, to the millisecond."""
        return {name: round(spent, 3) for name, spent in self._seconds.items()}
