"""Rounds of tidying up: what cannot be removed holds up nothing else, unless the store is away."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from shared.errors import Unavailable

log = logging.getLogger(__name__)

MOST_FAILURES = 10  # of a round; after that it is the store

T = TypeVar("T")


def remove_each(things: Iterable[T], remove: Callable[[T], bool]) -> int:
    """How many were removed. One that the store does not remove stays for another round.

    Raises Unavailable where that happens to many.
    """
    removed = failures = 0
    for thing in things:
        try:
            removed += remove(thing)
        except Unavailable as error:
            failures += 1
            if failures == MOST_FAILURES:
                raise
            log.warning("it stays for now: %s", error)
    return removed
