"""What the servers of one stack share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import port_for
from deploy.local.process import Process
from deploy.local.secrets import Secrets


@dataclass(frozen=True)
class Home:
    """A data directory and what goes with it.

    durable: whether data must survive a power cut (a killed process never costs any). lock: the open file that guards
    the directory; the servers inherit it, so that it is held until the last of them is gone.
    """

    data: Path
    secrets: Secrets
    durable: bool
    lock: int

    def folder(self, name: str) -> Path:
        """A folder inside the data directory, made if need be."""
        folder = self.data / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, name: str) -> Path:
        """Where the server of that name writes its log."""
        return self.folder("logs") / f"{name}.log"

    def port(self, name: str) -> int:
        """The port for `name`, the same as last time if it is free."""
        return port_for(name, data=self.data)


@dataclass(frozen=True)
class Server:
    """A process ready to start, and the variables by which our services find it."""

    process: Process
    environment: dict[str, str]
