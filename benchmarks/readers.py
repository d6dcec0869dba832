"""What a job made of a slide, opened by the readers that others use, and what they read held against each other."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import shapely
import tifffile
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v05 import ImageLabel
from ome_zarr_models.v05.image import ImageAttrs

from shared.imaging.tiling import Box, plan_blocks

SIDE = 2048  # px; what is read of an image at once
FEATURES = 50_000  # of a GeoJSON parsed at once
SEEN = 700  # px of a picture of labels
SAMPLE = 5_000  # rows that geopandas is given

Areas = NDArray[np.int64]
Pixels = Any  # an array of a Zarr, read as it is indexed: its stubs allow for all that an array might give


class Wrong(Exception):
    """Two files of a job say different things."""


def read_exports(folder: Path, *, height: int, width: int) -> dict[str, Any]:
    """What the readers found; files that were not made are left out. The folder holds the results of one image.

    Raises:
        Wrong: a file cannot be what it should be, or contradicts the table.
    """
    table = _read_table(folder)
    areas = table["area_px2"].to_numpy()
    found: dict[str, Any] = {"objects": len(table), "columns": table.num_columns, "px_labelled": int(areas.sum())}
    found["zarr"], array = _read_zarr(next(folder.rglob("zarr.json")).parent, (height, width), areas)
    found["csv_rows"] = _count_csv(next(folder.rglob("*.objects.csv")), len(table))
    found["mask_foreground"] = _read_mask(next(folder.rglob("*.mask.tif")), array)
    for geojson in folder.rglob("*.geojson"):
        found["geojson"] = _read_geojson(geojson, table)
    for pyramid in folder.rglob("*.ome.tif"):
        found["ome_tiff_levels"] = _read_pyramid(pyramid, array)
    return found


def draw_labels(folder: Path, picture: Path) -> None:
    """What the label image shows around the corner of four blocks, every label in a grey of its own, as a PNG."""
    group: Any = zarr.open_group(next(folder.rglob("zarr.json")).parent, mode="r")
    around = slice(SIDE - SEEN // 2, SIDE + SEEN // 2)
    labels = group["labels/objects/0"][around, around]
    shades = np.random.default_rng(0).integers(60, 256, int(labels.max()) + 1).astype(np.uint8)
    shades[0] = 0
    PIL.Image.fromarray(shades[labels]).save(picture)


def _read_table(folder: Path) -> pa.Table:
    table = pq.read_table(next(folder.rglob("*.objects.parquet")))
    _insist(np.array_equal(table["label"].to_numpy(), np.arange(1, len(table) + 1)), "labels are not 1 … N")
    return table


def _count_csv(path: Path, rows: int) -> int:
    with pyarrow.csv.open_csv(path) as reader:
        counted = sum(int(batch.num_rows) for batch in reader)
    _insist(counted == rows, f"{counted} rows of CSV for {rows} of Parquet")
    return counted


def _read_zarr(root: Path, size: tuple[int, int], areas: Areas) -> tuple[dict[str, Any], Pixels]:
    """What is in the OME-Zarr, and its labels at full resolution: as many pixels of each object as the table says."""
    group: Any = zarr.open_group(root, mode="r")
    # Image.from_zarr of ome-zarr-models 1.6 fails on its own dump of a label image without colours, so: part by part.
    ImageAttrs.model_validate(group.attrs["ome"])
    scales = ImageLabel.from_zarr(group["labels/objects"]).ome_attributes.multiscales[0]
    levels = [group[f"labels/objects/{each.path}"] for each in scales.datasets]
    _insist(levels[0].shape == size, f"labels of {levels[0].shape} px for an image of {size} px")
    counted = np.zeros(areas.size + 1, dtype=np.int64)
    for box in plan_blocks(*size, side=SIDE):
        found = np.bincount(levels[0][box.slices()].ravel())
        counted[: found.size] += found
    _insist(np.array_equal(counted[1:], areas), "the pixels of the label image are not the areas of the table")
    last = np.unique(levels[-1][:])
    return {
        "levels": len(levels),
        "labels": int((counted[1:] > 0).sum()),
        "in_the_last": int((last > 0).sum()),
    }, levels[0]


def _read_mask(path: Path, labels: Pixels) -> float:
    """The share of foreground; but for holes that were filled, what is labelled is foreground."""
    with tifffile.TiffFile(path) as file:
        mask: Pixels = zarr.open(file.series[0].aszarr(level=0), mode="r")
        foreground = labelled = both = 0
        for box in _walk(mask.shape):
            held, objects = mask[box.slices()] > 0, labels[box.slices()] > 0
            foreground += int(held.sum())
            labelled += int(objects.sum())
            both += int((held & objects).sum())
    _insist(both > 0.95 * labelled, f"only {both} of {labelled} labelled pixels are foreground of the mask")
    return round(foreground / int(mask.size), 4)


def _read_pyramid(path: Path, labels: Pixels) -> int:
    """How many levels; the first is the label image of the Zarr."""
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        pixels: Pixels = zarr.open(file.series[0].aszarr(level=0), mode="r")
        for box in _walk(labels.shape):
            _insist(np.array_equal(pixels[box.slices()], labels[box.slices()]), f"OME-TIFF and OME-Zarr at {box}")
    return len(levels)


def _read_geojson(path: Path, table: pa.Table) -> dict[str, Any]:
    """All features by shapely: valid, with the areas and labels of the table. The first ones by geopandas as well."""
    labels, areas = table["label"].to_numpy(), table["area_px2"].to_numpy()
    done = invalid = holes = 0
    for lines in _read_features(path):
        shapes = shapely.from_geojson([line for line, _ in lines])
        rows = slice(done, done + len(lines))
        _insist([label for _, label in lines] == labels[rows].tolist(), "features are not in the order of the table")
        _insist(np.array_equal(shapely.area(shapes), areas[rows]), "areas of the outlines are not those of the table")
        invalid += int((~shapely.is_valid(shapes)).sum())
        holes += int(shapely.get_num_interior_rings(shapes).sum())
        done += len(lines)
    _insist(done == len(table), f"{done} features for {len(table)} rows")
    sample = geopandas.read_file(path, rows=SAMPLE)
    _insist(np.array_equal(shapely.area(sample.geometry.values), areas[: len(sample)]), "geopandas reads other areas")
    return {"features": done, "invalid": invalid, "holes": holes, "read_by_geopandas": len(sample)}


def _read_features(path: Path) -> Iterator[list[tuple[str, int]]]:
    """The features, which stand on a line each, and their ids, some at a time."""
    with path.open(encoding="utf-8") as file:
        next(file)  # what is said about all
        while some := [line.rstrip(",\n") for line in islice(file, FEATURES) if line.startswith('{"type":"Feature"')]:
            yield [(line, int(line[line.index('"id":') + 5 : line.index(",", 18)])) for line in some]


def _walk(shape: tuple[int, ...]) -> Iterator[Box]:
    return plan_blocks(shape[0], shape[1], side=SIDE)


def _insist(fits: bool, otherwise: str) -> None:  # noqa: FBT001
    if not fits:
        raise Wrong(otherwise)
