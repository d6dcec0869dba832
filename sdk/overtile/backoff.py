"""When to try again, and how long to wait before."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from overtile.clock import Clock
from overtile.errors import OvertileError

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """Repeats a request that failed for a passing reason. Pauses double, with jitter, unless the server names one."""

    clock: Clock = field(default_factory=Clock)
    attempts: int = 5
    first: float = 0.25  # seconds
    longest: float = 8.0  # seconds, of our own choice
    patience: float = 120.0  # seconds; a server that asks for more gets no second request

    def run(self, request: Callable[[], T], *, repeatable: bool) -> T:
        """The request's result; its last error once it is pointless or unsafe to go on."""
        for attempt in range(1, self.attempts):
            try:
                return request()
            except OvertileError as error:
                pause = self._pause(error, attempt)
                if pause > self.patience or not error.transient or not (repeatable or error.untouched):
                    raise
            self.clock.sleep(pause)
        return request()

    def _pause(self, error: OvertileError, attempt: int) -> float:
        if error.retry_after is not None:
            return error.retry_after
        pause: float = min(self.longest, self.first * 2.0 ** (attempt - 1))
        return pause * (0.5 + 0.5 * self.clock.chance())  # jitter: clients that failed together do not return together


def parse_retry_after(header: str | None) -> float | None:
    """Seconds to wait, from either form of a `Retry-After` header; None if there is none that makes sense."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
