"""Objects as GeoJSON."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.writers.columns import plan_columns
from services.worker.writers.geojson import Colour, GeoJsonWriter
from services.worker.writers.outline_text import OBJECTS, split_table
from shared.imaging.objects.table import ObjectTable
from tests.object_tables import HOLED, L_SHAPE, PINCHED, SQUARE, draw_labels, scatter_labels, tabulate

COLUMNS = plan_columns(("red", "green", "blue"), scaled=True)
SHAPES = [SQUARE, L_SHAPE, HOLED, PINCHED]
TABLE = tabulate(draw_labels(SHAPES))
EMPTY = tabulate(draw_labels([]))


def write_geojson(target: io.BytesIO, *tables: ObjectTable, image: str, colours: Mapping[str, Colour]) -> None:
    with GeoJsonWriter(target, columns=COLUMNS, image=image, mpp=0.5, colours=colours) as writer:
        for table in tables:
            writer.add(table)


def geojson(*tables: ObjectTable, image: str = "slide.svs", colours: Mapping[str, Colour] | None = None) -> bytes:
    target = io.BytesIO()
    write_geojson(target, *tables, image=image, colours=colours or {})
    return target.getvalue()


def features(*tables: ObjectTable, **about: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(geojson(*tables, **about), parse_constant=pytest.fail)["features"]
    return found


def changed(name: str, values: object) -> ObjectTable:
    return ObjectTable(dict(TABLE.columns) | {name: np.asarray(values)}, TABLE.outlines)


class TestShapes:
    def test_polygons_are_valid(self) -> None:
        assert all(shapely.geometry.shape(feature["geometry"]).is_valid for feature in features(TABLE))

    def test_the_area_of_a_polygon_is_that_of_its_pixels(self) -> None:
        assert [shapely.geometry.shape(feature["geometry"]).area for feature in features(TABLE)] == [25, 5, 10, 7]

    @settings(deadline=None, max_examples=25)
    @given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.3, 0.8))
    def test_shapes_of_any_kind_are_valid_and_have_their_area(self, seed: int, density: float) -> None:
        table = tabulate(scatter_labels(seed, height=14, width=17, density=density))
        shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features(table)]
        assert all(shape.is_valid for shape in shapes)
        assert [shape.area for shape in shapes] == table.columns["area_px2"].tolist()

    def test_outer_rings_turn_left_and_holes_right(self) -> None:
        rings = [ring for feature in features(TABLE) for ring in feature["geometry"]["coordinates"]]
        turns = [shapely.is_ccw(shapely.linearrings(ring)) for ring in rings]
        assert turns == [True, True, True, False, True, False]

    def test_rings_end_where_they_begin(self) -> None:
        rings = [ring for feature in features(TABLE) for ring in feature["geometry"]["coordinates"]]
        assert all(ring[0] == ring[-1] for ring in rings)


class TestQuPath:
    """What its importer looks for (`QuPathTypeAdapters`, `PathObjectTypeAdapters` of 0.3)."""

    def test_objects_are_detections_by_the_names_of_all_versions(self) -> None:
        (properties,) = {(f["properties"]["objectType"], f["properties"]["object_type"]) for f in features(TABLE)}
        assert properties == ("detection", "detection")

    def test_a_class_has_its_colour_as_a_triple_and_as_javas_number(self) -> None:
        classification = features(TABLE, colours={"nucleus": (255, 0, 128)})[0]["properties"]["classification"]
        assert classification == {"name": "nucleus", "color": [255, 0, 128], "colorRGB": 0xFFFF0080 - 2**32}

    def test_a_class_without_a_colour_is_left_to_the_reader(self) -> None:
        assert features(TABLE)[0]["properties"]["classification"] == {"name": "nucleus"}

    def test_every_numeric_column_is_a_measurement(self) -> None:
        titles = [column.title for column in COLUMNS if column.name != "class"]
        assert list(features(TABLE)[0]["properties"]["measurements"]) == titles

    def test_measurements_are_the_values_of_the_table(self) -> None:
        written = features(TABLE)[2]["properties"]["measurements"]
        values = {column.title: TABLE.columns[column.name][2] for column in COLUMNS if column.name != "class"}
        assert written == pytest.approx(values, rel=5e-6)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_left_out(self, value: float) -> None:
        table = changed("nearest_um", [1.0, value, 2.0, 3.0])
        there = ["Nearest µm" in feature["properties"]["measurements"] for feature in features(table)]
        assert there == [True, False, True, True]


class TestFile:
    @pytest.mark.parametrize(
        ("tables", "count"), [((), 0), ((EMPTY,), 0), ((EMPTY, TABLE), 4), ((TABLE, EMPTY, TABLE), 8)]
    )
    def test_it_is_json_whatever_the_blocks_hold(self, tables: tuple[ObjectTable, ...], count: int) -> None:
        assert len(features(*tables)) == count

    def test_each_feature_has_a_line(self) -> None:
        lines = geojson(TABLE, TABLE).decode().splitlines()[1:-1]
        assert [json.loads(line.removesuffix(","))["id"] for line in lines] == [1, 2, 3, 4] * 2

    @given(image=st.text(max_size=20), name=st.text(max_size=20))
    def test_any_name_is_read_back(self, image: str, name: str) -> None:
        table = changed("class", np.array([name] * 4, dtype=object))
        written = json.loads(geojson(table, image=image, colours={name: (1, 2, 3)}))
        assert (written["name"], written["features"][3]["properties"]["classification"]["name"]) == (image, name)

    def test_a_file_that_was_broken_off_is_no_json(self) -> None:
        target = io.BytesIO()
        with pytest.raises(ValueError, match="surprise"):
            write_geojson(target, TABLE, changed("surprise", [1, 2, 3, 4]), image="", colours={})
        with pytest.raises(json.JSONDecodeError):
            json.loads(target.getvalue())

    def test_geopandas_reads_shapes(self, tmp_path: Path) -> None:
        path = tmp_path / "objects.geojson"
        path.write_bytes(geojson(TABLE))
        frame = geopandas.read_file(path).set_crs(None, allow_override=True)  # GeoJSON means degrees unless told
        assert frame.area.tolist() == [25, 5, 10, 7]

    def test_geopandas_reads_measurements(self, tmp_path: Path) -> None:
        path = tmp_path / "objects.geojson"
        path.write_bytes(geojson(TABLE))
        frame = geopandas.read_file(path)
        assert [measured["Area px^2"] for measured in frame["measurements"]] == [25, 5, 10, 7]


class TestPieces:
    def test_a_large_table_is_told_in_pieces_that_make_the_whole(self) -> None:
        rows = np.arange(OBJECTS + 1) % len(TABLE)
        large = ObjectTable({name: column[rows] for name, column in TABLE.columns.items()}, TABLE.outlines.take(rows))
        assert [len(piece) for piece in split_table(large)] == [OBJECTS, 1]

    def test_an_object_larger_than_a_piece_is_a_piece(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("services.worker.writers.outline_text.POINTS", 3)
        assert [piece.columns["label"].tolist() for piece in split_table(TABLE)] == [[1], [2], [3], [4]]
