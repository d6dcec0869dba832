"""The columns of a table of objects: what each is called, what it holds, in which unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa

from shared.imaging.objects.table import ObjectTable

Kind = Literal["string", "uint32", "int32", "int64", "float32", "float64"]


@dataclass(frozen=True)
class Column:
    """Of every row one value."""

    name: str
    kind: Kind
    unit: str  # "" where it has none
    title: str  # as programs for people show it, in the manner of QuPath's own measurements
    meaning: str


_IDENTITY = (
    Column("label", "uint32", "", "Label", "number of the object in its image, 1 … N; the value of its pixels"),
    Column("class", "string", "", "Class", "name of the class of most of its pixels"),
    Column(
        "class_probability", "float32", "", "Class probability", "its pixels' mean probability of that class, 0 … 1"
    ),
    Column("probability", "float32", "", "Probability", "mean probability of its pixels to be foreground, 0 … 1"),
    Column("centroid_x_px", "float64", "px", "Centroid X px", "mean x of its pixels; a pixel's middle is at + 0.5"),
    Column("centroid_y_px", "float64", "px", "Centroid Y px", "mean y of its pixels, downwards"),
    Column("left_px", "int32", "px", "Left px", "first column of its bounding box"),
    Column("top_px", "int32", "px", "Top px", "first row of its bounding box"),
    Column("right_px", "int32", "px", "Right px", "column after the last of its bounding box"),
    Column("bottom_px", "int32", "px", "Bottom px", "row after the last of its bounding box"),
)
_SHAPE = (
    Column("area_px2", "int64", "px^2", "Area px^2", "number of its pixels, holes excluded"),
    Column("perimeter_px", "float32", "px", "Perimeter px", "of outer outline and holes, by Crofton's formula"),
    Column("equivalent_diameter_px", "float32", "px", "Equivalent diameter px", "diameter of the disc of its area"),
    Column("eccentricity", "float32", "", "Eccentricity", "of the ellipse of its second moments: 0 a disc, 1 a line"),
    Column("solidity", "float32", "", "Solidity", "its area as a share of that of its outline's convex hull"),
    Column(
        "orientation_deg", "float32", "deg", "Orientation deg", "of its longer axis, anticlockwise from x, −90 < … ≤ 90"
    ),
)
_NEAREST = Column("nearest_px", "float32", "px", "Nearest px", "distance to the next centroid; empty of a lone object")
_SCALED = (
    Column("centroid_x_um", "float64", "µm", "Centroid X µm", "centroid_x_px × µm per pixel"),
    Column("centroid_y_um", "float64", "µm", "Centroid Y µm", "centroid_y_px × µm per pixel"),
    Column("area_um2", "float32", "µm^2", "Area µm^2", "area_px2 × (µm per pixel)²"),
    Column("perimeter_um", "float32", "µm", "Perimeter µm", "perimeter_px × µm per pixel"),
    Column("equivalent_diameter_um", "float32", "µm", "Equivalent diameter µm", "the same × µm per pixel"),
    Column("nearest_um", "float32", "µm", "Nearest µm", "nearest_px × µm per pixel"),
)
_INTENSITY = {
    "mean": ("Mean", "mean of the channel over its pixels"),
    "std": ("Std.Dev.", "standard deviation of the channel over its pixels"),
    "min": ("Min", "smallest value of the channel in it"),
    "max": ("Max", "largest value of the channel in it"),
}


def plan_columns(channels: Sequence[str], *, scaled: bool) -> tuple[Column, ...]:
    """The columns of an image's table, in the order of `ObjectTable`.

    `channels`: names of those that were measured. `scaled`: µm per pixel are known.
    """
    intensities = (
        Column(f"{statistic}_{channel}", "float64", "image's own", f"{channel}: {title}", meaning)
        for channel in channels
        for statistic, (title, meaning) in _INTENSITY.items()
    )
    return (*_IDENTITY, *_SHAPE, *intensities, _NEAREST, *(_SCALED if scaled else ()))


def columns_schema(columns: Sequence[Column]) -> pa.Schema:
    """Arrow's schema of the columns; unit and meaning are the fields' metadata."""
    return _schema(tuple(columns))


@lru_cache(maxsize=64)
def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Of thousands of crops most have the columns of one before."""
    return pa.schema(
        [pa.field(c.name, _ARROW[c.kind], metadata={"unit": c.unit, "description": c.meaning}) for c in columns]
    )


def columns_batch(table: ObjectTable, schema: pa.Schema) -> pa.RecordBatch:
    """The table's rows as the schema wants them; what is not a finite number is null.

    Raises:
        ValueError: the table's columns are others than the schema's.
    """
    if sorted(table.columns) != sorted(schema.names):  # of a name that is there twice as well
        raise ValueError(f"columns {sorted(table.columns)} are not those declared: {sorted(schema.names)}")
    return pa.record_batch([_array(table, field) for field in schema], schema=schema)


def _array(table: ObjectTable, field: pa.Field) -> pa.Array:
    values = table.columns[field.name]
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is beyond a narrower type is not finite in it
            values = values.astype(np.dtype(field.type.to_pandas_dtype()))
        return pa.array(values, mask=~np.isfinite(values))
    return pa.array(values, type=field.type) if values.dtype.kind in "OU" else pa.array(values).cast(field.type)


_ARROW: dict[Kind, pa.DataType] = {
    "string": pa.string(),
    "uint32": pa.uint32(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}
