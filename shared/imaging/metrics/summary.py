"""Scores of many images: their means with intervals, and their tables as files' bytes."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.imaging.spreadsheets import disarm_text

Row = Mapping[str, str | float | None]  # one image: its name, its group, its scores
Values = NDArray[np.float64]

_AT_ONCE = 2_000_000  # values drawn at a time, 16 MB


@dataclass(frozen=True)
class Mean:
    """A mean over images with its interval. All NaN if no image has a value."""

    mean: float
    low: float
    high: float
    images: int  # that have a value


def summarise(
    rows: Sequence[Row], *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95
) -> dict[str, Mean]:
    """The mean of every column of numbers over images, with a percentile bootstrap interval (Efron 1979).

    Images are drawn with replacement, as many as there are, `resamples` times; the interval holds the middle
    `confidence` of the means. One seed gives one answer, and a column's does not depend on the other columns. A value
    that is missing, None or NaN leaves the image out of that column. Of one image the interval is the mean itself: it
    says nothing about other images.
    """
    return {
        name: _bootstrap(values, seed=seed, resamples=resamples, confidence=confidence)
        for name, values in _columns_of_numbers(rows)
    }


def as_csv(rows: Sequence[Row]) -> bytes:
    """The rows as UTF-8 CSV (RFC 4180), columns in the order in which they first appear.

    Numbers have all their digits; a missing value or None is an empty cell, NaN is written `nan`. Text is no formula:
    see `spreadsheets.disarm_text`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = _names(rows)
    writer.writerow(map(disarm_text, names))
    writer.writerows([_spell(row.get(name)) for name in names] for row in rows)
    return text.getvalue().encode()


def _spell(cell: str | float | None) -> str | float | None:
    return disarm_text(cell) if isinstance(cell, str) else cell


def as_parquet(rows: Sequence[Row]) -> bytes:
    """The rows as Parquet, columns in the order in which they first appear; a missing value is null, NaN stays NaN."""
    import pyarrow as pa  # 100 MB that only those who write such a table need
    from pyarrow import parquet

    table = pa.table({name: [row.get(name) for row in rows] for name in _names(rows)})
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _columns_of_numbers(rows: Sequence[Row]) -> Iterator[tuple[str, Values]]:
    """Columns without text, each with its values that are numbers, (images,)."""
    for name in _names(rows):
        cells = [row.get(name) for row in rows]
        numbers = [float(cell) for cell in cells if cell is not None and not isinstance(cell, str)]
        if not any(isinstance(cell, str) for cell in cells):
            values = np.array(numbers, dtype=np.float64)
            yield name, values[~np.isnan(values)]


def _bootstrap(values: Values, *, seed: int, resamples: int, confidence: float) -> Mean:
    if not values.size:
        return Mean(np.nan, np.nan, np.nan, 0)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(_AT_ONCE // values.size, 1)
    for start in range(0, resamples, step):
        part = means[start : start + step]
        part[:] = values[generator.integers(0, values.size, (part.size, values.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Mean(float(values.mean()), float(low), float(high), int(values.size))
