"""The passwords of one data directory: made once, at random, and readable by their owner alone."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Secrets:
    """Letters and digits only, so that each can stand in a URL and in a file of settings as it is."""

    instance: str  # not secret: tells this data directory from a later one at the same path
    postgres: str
    valkey: str
    s3_key: str
    s3_secret: str


def load_or_create(data: Path) -> Secrets:
    """The secrets of this data directory, from `secrets.json` in it."""
    store = data / "secrets.json"
    if store.exists():
        return Secrets(**json.loads(store.read_text()))
    created = Secrets(
        instance=secrets.token_hex(6),
        postgres=secrets.token_hex(16),
        valkey=secrets.token_hex(16),
        s3_key=secrets.token_hex(10),
        s3_secret=secrets.token_hex(20),
    )
    write_private(store, json.dumps(asdict(created), indent=2))
    return created


def write_private(path: Path, text: str) -> None:
    """Write a file that was never readable by anyone else, and that is never half written."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
