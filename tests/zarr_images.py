"""OME-Zarrs as zarr itself writes them, and as somebody hostile might."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from PIL import Image

from tests.slide_files import NOISE

PLANES = NOISE.transpose(2, 0, 1).copy()  # (3, 200, 150)
NUMBERS = np.random.default_rng(1).integers(0, 60_000, (3, 50, 70)).astype(np.uint16)


def write_ome_zarr(
    folder: Path,
    samples: np.ndarray,
    *,
    version: str = "0.4",
    axes: str = "tczyx",
    factors: tuple[int, ...] = (1,),
    omero: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """`samples`: (channels, height, width). `options`: of zarr's arrays, such as chunks (height and width)."""
    height, width = options.pop("chunks", (64, 80))
    chunks = tuple({"y": height, "x": width}.get(axis, 1) for axis in axes)
    for level, factor in enumerate(factors):
        shape = tuple(
            {"c": samples.shape[0], "y": -(-samples.shape[1] // factor), "x": -(-samples.shape[2] // factor)}.get(
                axis, 1
            )
            for axis in axes
        )
        array = zarr.create_array(
            store=str(folder / str(level)),
            shape=shape,
            chunks=chunks,
            dtype=samples.dtype,
            zarr_format=2 if version < "0.5" else 3,
            **options,
        )
        array[:] = _reduce(samples, factor).reshape(shape)
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [_scale(axis, factor) for axis in axes]}],
        }
        for level, factor in enumerate(factors)
    ]
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    named = [{"name": axis} | kinds.get(axis, {"type": "space", "unit": "nanometer"}) for axis in axes]
    about: dict[str, Any] = {"multiscales": [{"axes": named, "datasets": datasets, "version": version}]}
    write_metadata(folder, about | ({"omero": omero} if omero else {}), version)
    return folder


def write_metadata(folder: Path, about: dict[str, Any], version: str) -> None:
    if version < "0.5":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(about))
        return
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": version, **about}}}
    (folder / "zarr.json").write_text(json.dumps(document))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a metadata file in place."""
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def zipped(folder: Path, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, top + str(file.relative_to(folder)))
    return path


def _scale(axis: str, factor: int) -> float:
    return 500.0 * factor if axis in "yx" else 1.0  # nm


def _reduce(samples: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return samples
    planes = [np.asarray(Image.fromarray(plane).reduce(factor)) for plane in samples]
    return np.stack(planes).astype(samples.dtype)
