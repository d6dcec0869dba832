"""What can go wrong here.

LocalStackError
├── ServerNotInstalled   a program is missing; the text says how to install it
├── ServerDidNotStart    a server ended, or did not answer in time; the text shows its log
└── StackInUse           another process runs its servers in this data directory
"""

from __future__ import annotations

from pathlib import Path


class LocalStackError(Exception):
    """Base of all errors of this package."""


class ServerNotInstalled(LocalStackError):
    """A program that is needed is not there."""


class StackInUse(LocalStackError):
    """The data directory belongs to the servers of another process."""


class ServerDidNotStart(LocalStackError):
    """A server ended, or stayed silent, before its health check passed."""

    def __init__(self, name: str, why: str, *, log: Path, tail: str) -> None:
        self.name, self.why, self.log = name, why, log
        shown = tail or "(it wrote nothing)"
        super().__init__(f"{name} did not start: {why}\nThe last lines of {log}:\n{shown}")
