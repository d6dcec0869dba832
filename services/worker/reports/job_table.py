"""A segment job as a table: a row an image, written as the rows come."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from pyarrow import parquet

from shared.imaging.objects.summary import ObjectSummary
from shared.imaging.quality import FEATURES
from shared.imaging.spreadsheets import disarm_text

Row = dict[str, str | int | float | None]
AT_ONCE = 1000  # rows that are held

TEXTS = ("name", "state", "flags", "error")
COUNTS = ("width_px", "height_px", "tiles", "skipped_tiles", "objects", "seams_largest", "learnt_from")
AREAS = ("area_median_px2", "area_median_um2")
QUALITY = ("seams_mean", "doubt", *(f"image_{name}" for name in FEATURES))


def describe_image(
    name: str, state: str, facts: Mapping[str, Any], result: Mapping[str, Any], error: Mapping[str, Any] | None
) -> Row:
    """The row of an image, from what its own row in the database says. What is not known is None, or not there.

    `objects_<class>` counts a class; `object_<figure>` is the mean of a figure over the objects.
    """
    height, width = facts.get("own") or (facts.get("height"), facts.get("width"))
    seams, quality = result.get("seams") or {}, result.get("quality") or {}
    row: Row = {
        "name": name,
        "state": str(state),
        "width_px": width,
        "height_px": height,
        "um_per_px": facts.get("own_mpp") if facts.get("own") else facts.get("mpp"),
        "tiles": facts.get("tiles"),
        "skipped_tiles": result.get("skipped_tiles"),
        "foreground_fraction": result.get("foreground_fraction"),
        **_describe_objects(result.get("objects")),
        "seams_largest": seams.get("largest"),
        "seams_mean": seams.get("mean"),
        "flags": " ".join(flag["code"] for flag in quality.get("flags", ())),
        "doubt": quality.get("doubt"),
        "learnt_from": quality.get("learnt_from"),
        **{f"image_{name}": value for name, value in quality.get("features", {}).items()},
        "error": error["detail"] if error else None,
    }
    return row


def _describe_objects(described: Mapping[str, Any] | None) -> Row:
    if described is None:
        return {}
    found = ObjectSummary.read(described)
    return {
        "objects": found.count,
        **{f"objects_{name}": number for name, number in found.classes.items()},
        "per_mm2": described.get("per_mm2"),
        "per_mm2_predicted": described.get("per_mm2_predicted"),
        "area_median_px2": found.quantile(0.5),
        "area_median_um2": found.quantile(0.5, unit="um2"),
        **{f"object_{name}": found.mean(name) for name in found.sums},
    }


class JobTable:
    """`summary.csv` (RFC 4180, UTF-8) and `summary.parquet`, on disk, of the same columns.

    `classes`, `sums`: of the objects of all images, so that every row has a column for them. Text in the CSV is no
    formula: see `spreadsheets.disarm_text`.
    """

    def __init__(self, csv_path: Path, parquet_path: Path, *, classes: Sequence[str], sums: Sequence[str]) -> None:
        self._schema = pa.schema(_list_columns(classes, sums))
        self._paths = csv_path, parquet_path
        self._waiting: list[Row] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        csv_path, parquet_path = self._paths
        file = self._open.enter_context(csv_path.open("w", newline="", encoding="utf-8", errors="backslashreplace"))
        self._csv = csv.writer(file)
        self._csv.writerow(map(disarm_text, self._schema.names))
        self._parquet = self._open.enter_context(parquet.ParquetWriter(parquet_path, self._schema))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if kind is None:
                self._write()

    def add(self, row: Row) -> None:
        """Write the row of an image."""
        self._waiting.append(row)
        if len(self._waiting) == AT_ONCE:
            self._write()

    def _write(self) -> None:
        self._csv.writerows([_spell(row.get(name)) for name in self._schema.names] for row in self._waiting)
        columns = {name: [row.get(name) for row in self._waiting] for name in self._schema.names}
        self._parquet.write_table(pa.table(columns, self._schema))
        self._waiting.clear()


def _spell(cell: str | float | None) -> str | float | None:
    return disarm_text(cell) if isinstance(cell, str) else cell


def _list_columns(classes: Sequence[str], sums: Sequence[str]) -> list[tuple[str, pa.DataType]]:
    """Names and types, in the order of the table."""
    counted = [f"objects_{name}" for name in classes]
    averaged = [f"object_{name}" for name in sums]
    order = [
        *("name", "state", "width_px", "height_px", "um_per_px", "objects"),
        *counted,
        *("per_mm2", "per_mm2_predicted", *AREAS),
        *averaged,
        *("foreground_fraction", "flags", *QUALITY[1:], "learnt_from"),
        *("tiles", "skipped_tiles", "seams_largest", "seams_mean", "error"),
    ]
    types = {name: pa.string() for name in TEXTS} | {name: pa.int64() for name in (*COUNTS, *counted)}
    return [(name, types.get(name, pa.float64())) for name in order]
