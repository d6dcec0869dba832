"""How far something is: a bar on a terminal or in a notebook, plain lines anywhere else. Written to stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Literal

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

Unit = Literal["bytes", "blocks", "epochs"]

LINE_EVERY = 10.0  # seconds between plain lines …
LINE_AT_MOST_EVERY = 1.0  # … or this, when the label changes


class Meter:
    """Counts what is done, from any thread. This one shows nothing; its subclasses do."""

    def __init__(self, title: str, unit: Unit) -> None:
        self.label = title
        self.unit: Unit = unit
        self.done = 0.0
        self.total = 0.0
        self._lock = Lock()

    def expect(self, amount: float) -> None:
        """More to do."""
        with self._lock:
            self.total += amount
            self._draw()

    def advance(self, amount: float) -> None:
        """More of it done; less, if the amount is negative."""
        with self._lock:
            self.done += amount
            self._draw()

    def show(self, done: float, total: float, *, label: str, unit: Unit) -> None:
        """Everything at once, from someone who counts for himself."""
        with self._lock:
            self.done, self.total, self.label, self.unit = done, total, label, unit
            self._draw()

    def part(self) -> "Part":
        """The share of one file, which may have to start again."""
        return Part(self)

    def __str__(self) -> str:
        if self.unit == "bytes":
            return f"{decimal(int(self.done))} of {decimal(int(self.total))}"
        return f"{self.done:g}/{self.total:g} {self.unit}"

    def _draw(self) -> None:
        """Called after each change, with the lock held."""


class Part:
    """What one file adds to a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._done = 0

    def advance(self, amount: int) -> None:
        """More bytes of this file are through."""
        self._done += amount
        self._meter.advance(amount)

    def restart(self) -> None:
        """The transfer begins again: what it had added so far does not count."""
        self._meter.advance(-self._done)
        self._done = 0


class _Bar(Meter):
    """A bar that moves."""

    def __init__(self, title: str, unit: Unit, bars: Progress) -> None:
        super().__init__(title, unit)
        self._bars = bars
        self._task = bars.add_task(title, total=None, amount="")

    def _draw(self) -> None:
        total = self.total or None  # None: nothing is known yet, so the bar only pulses
        self._bars.update(
            self._task, completed=self.done, total=total, description=self.label, amount=str(self) if total else ""
        )


class _Lines(Meter):
    """A line now and then, for logs."""

    def __init__(self, title: str, unit: Unit) -> None:
        super().__init__(title, unit)
        self._printed_at = time.monotonic()
        self._printed = ""

    def _draw(self) -> None:
        wait = LINE_EVERY if self._printed.startswith(self.label) else LINE_AT_MOST_EVERY
        if time.monotonic() - self._printed_at >= wait:
            self.print()

    def print(self) -> None:
        """Prints how it stands, unless that is what the last line says."""
        line = f"{self.label}: {self}"
        if line != self._printed and self.total:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        self._printed, self._printed_at = line, time.monotonic()


def say(text: str) -> None:
    """A line beside the bars."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def meter(title: str, *, shown: bool, unit: Unit) -> Iterator[Meter]:
    """A meter to count on, shown as fits the place stderr leads to."""
    console = Console(stderr=True)
    if not shown:
        yield Meter(title, unit)
    elif console.is_terminal or console.is_jupyter:
        with _bars(console) as bars:
            yield _Bar(title, unit, bars)
    else:
        lines = _Lines(title, unit)
        yield lines
        lines.print()


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),  # labels hold names and notes from elsewhere
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        console=console,
    )
