"""Which model versions this process has the model server hold: so many and no more, or its memory would only grow.

Each process counts the versions that it used itself. Of several workers at one server, one may so have a version
unloaded that another one works with; that one finds it not loaded, and loads it again. What a process leaves loaded
when it ends stays until the server does, too.
"""

import threading
from collections import Counter, OrderedDict


class HeldModels:
    """The names of models in the order of their last use. Safe to share between threads."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._users: Counter[str] = Counter()
        self._order: OrderedDict[str, None] = OrderedDict()  # the least recently used first
        self._lock = threading.Lock()

    def begin(self, name: str) -> None:
        """Somebody uses the model from now on: it stays."""
        with self._lock:
            self._users[name] += 1
            self._order[name] = None
            self._order.move_to_end(name)

    def end(self, name: str) -> None:
        """They do not need it any more."""
        with self._lock:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]

    def take_surplus(self) -> list[str]:
        """Models beyond the limit that nobody uses, the least recently used first. They do not count from now on."""
        with self._lock:
            idle = [name for name in self._order if name not in self._users]
            surplus = idle[: max(len(self._order) - self._limit, 0)]
            for name in surplus:
                del self._order[name]
            return surplus
