"""Time and chance, in one place so that tests can replace them."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """What waiting needs to know of the world."""

    now: Callable[[], float] = time.monotonic  # seconds, of no particular origin
    sleep: Callable[[float], None] = time.sleep  # seconds
    chance: Callable[[], float] = random.random  # 0 … 1
