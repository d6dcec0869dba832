"""Tables of objects: Parquet and CSV."""

import csv
import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.writers.columns import plan_columns
from services.worker.writers.number_text import spell_numbers
from services.worker.writers.tables import GROUP, CsvTable, ParquetTable
from shared.imaging.objects.measuring import Legend, finish
from shared.imaging.objects.pieces import measure_pieces
from shared.imaging.objects.table import ObjectTable
from shared.imaging.spreadsheets import disarm_text
from shared.imaging.tiling import Box
from tests.object_tables import HOLED, L_SHAPE, SQUARE, draw_labels, tabulate

COLUMNS = plan_columns(("red", "green", "blue"), scaled=True)
TABLE = tabulate(draw_labels([SQUARE, L_SHAPE, HOLED]), classes=("nucleus", "stroma"))
EMPTY = tabulate(draw_labels([]))
NAMES = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=True, allow_infinity=False, width=32)


def changed(**columns: Any) -> ObjectTable:
    return ObjectTable(
        dict(TABLE.columns) | {name: np.asarray(values) for name, values in columns.items()}, TABLE.outlines
    )


def write_parquet(target: io.BytesIO, *tables: ObjectTable) -> None:
    with ParquetTable(target, columns=COLUMNS, metadata={"image": "a/b.tif"}) as writer:
        for table in tables:
            writer.add(table)


def parquet(*tables: ObjectTable) -> pa.Table:
    target = io.BytesIO()
    write_parquet(target, *tables)
    return pq.read_table(target)


def rows_of_csv(*tables: ObjectTable) -> list[dict[str, str]]:
    target = io.BytesIO()
    with CsvTable(target, columns=COLUMNS) as writer:
        for table in tables:
            writer.add(table)
    return list(csv.DictReader(io.StringIO(target.getvalue().decode(), newline=""), strict=True))


class Full(io.BytesIO):
    """A disk that takes the first bytes and no more."""

    def write(self, content: Any, /) -> int:
        if self.tell() > 0:
            raise OSError("no space left")
        return super().write(content)


class TestColumns:
    def test_columns_in_micrometres_are_there_only_where_the_scale_is_known(self) -> None:
        assert not [column.name for column in plan_columns(("red",), scaled=False) if "_um" in column.name]

    def test_every_length_in_pixels_has_its_twin_in_micrometres(self) -> None:
        names = {column.name for column in COLUMNS}
        box = {"left_px", "top_px", "right_px", "bottom_px"}
        assert {name.replace("_px", "_um") for name in names - box if "_px" in name} <= names

    @pytest.mark.parametrize("mpp", [None, 0.5])
    def test_they_are_those_that_are_measured_and_in_their_order(self, mpp: float | None) -> None:
        labels, channels = draw_labels([SQUARE, HOLED]), ("red", "DAPI")
        planes, values = np.full((1, *labels.shape), 200, np.uint8), np.ones((*labels.shape, 2), np.uint16)
        height, width = labels.shape
        pieces = measure_pieces(labels, (labels > 0).astype(np.uint8), planes, values, Box(0, 0, height, width))
        legend = Legend(("background", "nucleus"), channels, mpp)
        measured = finish(pieces, legend, labels=np.arange(1, 3, dtype=np.uint32), nearest=np.ones(2))
        assert list(measured.columns) == [c.name for c in plan_columns(channels, scaled=mpp is not None)]

    def test_names_carry_the_unit_that_the_metadata_tell(self) -> None:
        suffixes = {"px": "_px", "px^2": "_px2", "µm": "_um", "µm^2": "_um2", "deg": "_deg"}
        for column in COLUMNS:
            assert column.name.endswith(suffixes.get(column.unit, ""))


class TestParquet:
    def test_rows_come_as_they_were_added(self) -> None:
        later = changed(label=np.array([7, 8, 9], dtype=np.uint32))
        assert parquet(TABLE, later)["label"].to_pylist() == [1, 2, 3, 7, 8, 9]

    @pytest.mark.parametrize("name", ["class", "area_px2", "right_px"])
    def test_values_are_those_of_the_table(self, name: str) -> None:
        assert parquet(TABLE)[name].to_pylist() == TABLE.columns[name].tolist()

    def test_an_image_without_objects_has_all_columns(self) -> None:
        assert parquet(EMPTY).schema.equals(parquet(TABLE).schema, check_metadata=True)

    def test_a_file_to_which_nothing_was_added_is_read(self) -> None:
        assert parquet().num_rows == 0

    def test_fields_tell_their_unit(self) -> None:
        assert parquet(TABLE).schema.field("area_um2").metadata[b"unit"].decode() == "µm^2"

    def test_the_file_tells_what_its_writer_was_told(self) -> None:
        assert parquet(TABLE).schema.metadata[b"image"] == b"a/b.tif"

    def test_small_blocks_share_a_row_group(self) -> None:
        target = io.BytesIO()
        write_parquet(target, *[TABLE] * 20)
        assert pq.read_metadata(target).num_row_groups == 1

    def test_many_rows_make_several_row_groups(self) -> None:
        rows = np.zeros(GROUP // 2 + 1, dtype=np.intp)
        large = ObjectTable({name: column[rows] for name, column in TABLE.columns.items()}, TABLE.outlines.take(rows))
        target = io.BytesIO()
        write_parquet(target, *[large] * 4)
        assert pq.read_metadata(target).num_row_groups == 2

    def test_a_figure_that_is_not_finite_is_null(self) -> None:
        assert parquet(changed(nearest_px=[1.5, np.nan, np.inf]))["nearest_px"].to_pylist() == [1.5, None, None]

    def test_a_figure_too_large_for_its_column_is_null(self) -> None:
        large = np.array([1.5, 1e300, -1e300])
        assert parquet(changed(nearest_px=large))["nearest_px"].to_pylist() == [1.5, None, None]

    def test_a_file_that_was_broken_off_is_no_parquet(self) -> None:
        target = io.BytesIO()
        with pytest.raises(ValueError, match="surprise"):
            write_parquet(target, *[TABLE] * 3, changed(surprise=[1, 2, 3]))
        with pytest.raises(pa.ArrowInvalid):
            pq.read_table(io.BytesIO(target.getvalue()))

    def test_a_target_that_refuses_to_take_more_is_told_of(self) -> None:
        with pytest.raises(OSError, match="no space"):
            write_parquet(Full(), TABLE)

    def test_the_target_stays_open(self) -> None:
        target = io.BytesIO()
        write_parquet(target, TABLE)
        assert not target.closed

    def test_a_table_with_other_columns_is_refused(self) -> None:
        with pytest.raises(ValueError, match="surprise"):
            parquet(changed(surprise=[1, 2, 3]))


class TestCsv:
    def test_the_header_is_there_without_objects(self) -> None:
        target = io.BytesIO()
        with CsvTable(target, columns=COLUMNS):
            pass
        assert target.getvalue().decode() == ",".join(column.name for column in COLUMNS) + "\r\n"

    def test_it_has_the_rows_of_the_parquet(self) -> None:
        for written, read in zip(parquet(TABLE).to_pylist(), rows_of_csv(TABLE), strict=True):
            figures = {name: float(text) for name, text in read.items() if name != "class"}
            assert figures == pytest.approx({n: v for n, v in written.items() if n != "class"}, rel=5e-6, abs=1e-12)

    def test_a_figure_that_is_not_finite_is_an_empty_cell(self) -> None:
        rows = rows_of_csv(changed(nearest_px=[1.5, np.nan, -np.inf]))
        assert [row["nearest_px"] for row in rows] == ["1.5", "", ""]

    @given(classes=st.lists(NAMES, min_size=3, max_size=3))
    def test_any_name_of_a_class_is_read_back(self, classes: list[str]) -> None:
        table = changed(**{"class": np.array(classes, dtype=object)})
        assert [row["class"] for row in rows_of_csv(table)] == [disarm_text(name) for name in classes]

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
    def test_no_name_is_a_formula(self, name: str) -> None:
        table = changed(**{"class": np.array([name] * 3, dtype=object)})
        assert {row["class"] for row in rows_of_csv(table)} == {f"'{name}"}

    def test_numbers_keep_their_sign(self) -> None:
        assert rows_of_csv(changed(nearest_px=[-1.5, 2, 3]))[0]["nearest_px"] == "-1.5"

    def test_any_name_of_a_channel_is_read_back(self) -> None:
        columns = plan_columns(('CD3, "helper"',), scaled=False)
        target = io.BytesIO()
        with CsvTable(target, columns=columns):
            pass
        header = next(csv.reader(io.StringIO(target.getvalue().decode()), strict=True))
        assert header == [column.name for column in columns]


class TestNumbers:
    @settings(deadline=None)
    @given(values=st.lists(NUMBERS, min_size=1, max_size=8))
    def test_six_digits_are_kept(self, values: list[float]) -> None:
        finite = [value for value in values if not math.isnan(value) and (value == 0 or abs(value) > 1e-16)]
        texts = spell_numbers(pa.array(finite, pa.float64())).to_pylist()
        assert [float(text) for text in texts] == pytest.approx(finite, rel=5e-6, abs=0)

    def test_the_largest_numbers_stay_what_they_are(self) -> None:
        assert [float(text) for text in spell_numbers(pa.array([1e306, -1.7e308])).to_pylist()] == [1e306, -1.7e308]

    def test_a_place_far_off_keeps_its_thousandths(self) -> None:
        assert spell_numbers(pa.array([198_765.43219])).to_pylist() == ["198765.432"]

    def test_nothing_is_told_that_was_not_measured(self) -> None:
        assert spell_numbers(pa.array(np.array([0.1, 2, 1 / 3], dtype=np.float32))).to_pylist() == [
            "0.1",
            "2",
            "0.333333",
        ]

    def test_whole_numbers_are_told_as_they_are(self) -> None:
        assert spell_numbers(pa.array([4_294_967_295], pa.uint32())).to_pylist() == ["4294967295"]
