"""Programs that come inside Python packages."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

from deploy.local.errors import ServerNotInstalled


def folder_of(package: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerNotInstalled(f"the Python package {package!r} is not installed; mend: make setup")
    return Path(next(iter(spec.submodule_search_locations)))


def script_of(distribution: str, name: str) -> Path:
    """A program that a distribution installed beside the interpreter."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise ServerNotInstalled(f"the distribution {distribution!r} is not installed; mend: make setup") from None
    for file in files:
        if file.name == name:
            return Path(str(file.locate())).resolve()
    raise ServerNotInstalled(f"the distribution {distribution!r} has no program {name!r}")
