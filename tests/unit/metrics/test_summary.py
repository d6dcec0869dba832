"""Means over images with their intervals, and tables of scores as bytes."""

import csv
import io
import math

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared.imaging.metrics.summary import Mean, Row, as_csv, as_parquet, summarise

NUMBERS = st.lists(st.floats(0, 1), min_size=1, max_size=12)
ROWS: list[Row] = [
    {"image": "a, b.png", "f1": 0.1 + 0.2, "pq": None},
    {"image": 'Zellkern "ä".png', "f1": math.nan, "pq": 1.0, "aji": 1 / 3},
]


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).beta(5, 2, size=40)
    mean = summarise([{"f1": value} for value in values], seed=3)["f1"]
    peer = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(5)).confidence_interval
    assert mean.mean == pytest.approx(values.mean())
    assert (mean.low, mean.high) == pytest.approx((peer.low, peer.high), abs=0.003)
    assert mean.images == 40


@settings(deadline=None, max_examples=30)
@given(values=NUMBERS, seed=st.integers(0, 9))
def test_the_interval_lies_among_the_values_and_a_seed_gives_one_answer(values: list[float], seed: int) -> None:
    rows: list[Row] = [{"image": "x", "f1": value} for value in values]
    mean = summarise(rows, seed=seed, resamples=200)["f1"]
    assert min(values) - 1e-12 <= mean.low <= mean.high <= max(values) + 1e-12
    assert summarise(rows, seed=seed, resamples=200)["f1"] == mean
    others = [{**row, "jaccard": 0.5} for row in rows]
    assert summarise(others, seed=seed, resamples=200)["f1"] == mean


def test_more_confidence_is_a_wider_interval() -> None:
    rows = [{"f1": value} for value in np.linspace(0, 1, 30)]
    wide, narrow = (summarise(rows, confidence=confidence)["f1"] for confidence in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_images_without_a_value_are_left_out_of_its_column() -> None:
    rows: list[Row] = [
        {"image": "a", "f1": 0.25, "pq": math.nan},
        {"image": "b", "f1": None},
        {"image": "c", "f1": 0.75},
    ]
    means = summarise(rows)
    assert list(means) == ["f1", "pq"]
    assert (means["f1"].mean, means["f1"].images) == (0.5, 2)
    assert means["pq"].images == 0
    assert all(math.isnan(value) for value in (means["pq"].mean, means["pq"].low, means["pq"].high))


def test_of_one_image_the_interval_is_the_value_and_of_none_there_is_no_column() -> None:
    assert summarise([{"f1": 0.5}]) == {"f1": Mean(0.5, 0.5, 0.5, 1)}
    assert summarise([]) == {}


def test_more_draws_than_fit_at_once_are_still_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"f1": value} for value in np.linspace(0, 1, 50)]
    at_once = summarise(rows, resamples=500)
    monkeypatch.setattr("shared.imaging.metrics.summary._AT_ONCE", 350)  # 7 at a time
    assert summarise(rows, resamples=500) == at_once


def test_csv_keeps_every_digit_and_tells_missing_from_not_a_number() -> None:
    read = list(csv.DictReader(io.StringIO(as_csv(ROWS).decode(), newline="")))
    assert [row["image"] for row in read] == ["a, b.png", 'Zellkern "ä".png']
    assert float(read[0]["f1"]) == 0.1 + 0.2
    assert float(read[1]["aji"]) == 1 / 3
    assert (read[0]["pq"], read[0]["aji"], read[1]["f1"]) == ("", "", "nan")
    assert as_csv(ROWS) == as_csv(ROWS)


def test_parquet_keeps_every_digit_and_tells_missing_from_not_a_number() -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(as_parquet(ROWS)))
    assert table.column_names == ["image", "f1", "pq", "aji"]
    columns = table.to_pydict()
    assert columns["image"] == [row["image"] for row in ROWS]
    assert columns["f1"][0] == 0.1 + 0.2
    assert math.isnan(columns["f1"][1])
    assert (columns["pq"], columns["aji"]) == ([None, 1.0], [None, 1 / 3])


def test_tables_without_rows_are_tables() -> None:
    assert as_csv([]).strip() == b""
    assert pyarrow.parquet.read_table(io.BytesIO(as_parquet([]))).num_rows == 0


def test_text_is_no_formula_and_numbers_keep_their_sign() -> None:
    rows = list(csv.reader(io.StringIO(as_csv([{"image": "=1+1", "=f1": -0.5}]).decode())))
    assert rows == [["image", "'=f1"], ["'=1+1", "-0.5"]]
