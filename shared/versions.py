"""Which software made a result."""

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("numpy", "zarr", "tifffile", "pillow", "openslide-python", "tritonclient", "torch", "onnx")


def find_versions() -> dict[str, str]:
    """The platform, Python, and those of the libraries that touch pixels which are installed here."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("overtile-platform", *LIBRARIES):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a service carries only the libraries it needs
            continue
    return versions
