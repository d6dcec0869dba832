"""From the images of a segment job to its tables and its page."""

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from services.worker.reports.job_summary import LISTED, PICTURED, JobTally, Ordered, draw_summary
from services.worker.reports.job_table import JobTable, describe_image
from shared.imaging.objects.summary import OTHER, ObjectSummary, find_density
from shared.imaging.objects.table import ObjectTable, Outlines

PARAMETERS = {"threshold": 0.5, "objects": {"depth": 1.0}, "outputs": ["overlay", "table"]}
ORDERED = Ordered("a job", "nuclei@3", "c" * 64, "cohort@7", PARAMETERS, "2026-01-01T00:00:00+00:00")
FLAG = {"code": "out_of_focus", "severity": "warning", "text": "a.png: out of focus"}
AREAS = st.lists(st.integers(1, 100_000), max_size=40)


def table(areas: list[int], *, classes: list[str] | None = None, mpp: float | None = None) -> ObjectTable:
    outlines = Outlines(
        np.zeros((0, 2), np.int32), np.zeros(len(areas) + 1, np.int64), np.arange(len(areas) + 1, dtype=np.int64)
    )
    columns: dict[str, Any] = {
        "class": np.array(classes or ["nucleus"] * len(areas)),
        "area_px2": np.array(areas, dtype=np.float64),
        "mean_red": np.array(areas, dtype=np.float64) % 256,
    }
    if mpp is not None:
        columns["area_um2"] = columns["area_px2"] * mpp**2
    return ObjectTable(columns, outlines)


def summary(areas: list[int], **more: Any) -> ObjectSummary:
    found = ObjectSummary()
    found.add(table(areas, **more))
    return found


def result(areas: list[int], *, flags: tuple[Any, ...] = (), mpp: float | None = 0.5, known: int | None = 402) -> Any:
    objects = summary(areas, mpp=mpp).as_json()
    density = find_density(len(areas), 10_000, mpp)
    return {
        "foreground_fraction": 0.25,
        "seams": None,
        "skipped_tiles": 0,
        "objects": {**objects, "area_px2": 10_000, "predicted_px2": 10_000, "per_mm2": density}
        | {"per_mm2_predicted": density},
        "quality": {"features": {"focus": -3.0}, "doubt": 0.2, "learnt_from": known, "flags": list(flags)},
    }


FACTS = {"height": 100, "width": 100, "mpp": 0.5, "tiles": 1}
Images = list[tuple[str, str, dict[str, Any], Any, dict[str, Any] | None]]


def done(name: str, areas: list[int], **more: Any) -> Any:
    return name, "done", {**FACTS, "mpp": more.get("mpp", 0.5)}, result(areas, **more), None


def failed(name: str, detail: str) -> Any:
    return name, "failed", {}, {}, {"type": "input", "detail": detail}


def tally_of(images: Images) -> JobTally:
    tally = JobTally()
    for name, *rest in images:
        tally.add(name, describe_image(name, *rest), rest[2])
    return tally


def page_of(images: Images, pictures: dict[str, bytes] | None = None) -> str:
    return draw_summary(ORDERED, tally_of(images), pictures or {}).decode()


def written(folder: Path, images: Images) -> tuple[list[dict[str, str]], Any]:
    paths = folder / "summary.csv", folder / "summary.parquet"
    with JobTable(*paths, classes=["lymphocyte", "nucleus"], sums=["area_px2", "area_um2", "mean_red"]) as made:
        for name, *rest in images:
            made.add(describe_image(name, *rest))
    with paths[0].open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), parquet.read_table(paths[1])


def png(side: int = 600) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(target, "PNG")
    return target.getvalue()


@given(first=AREAS, second=AREAS)
def test_the_summary_of_two_tables_is_the_sum_of_their_summaries(first: list[int], second: list[int]) -> None:
    whole, joined = summary([*first, *second]), summary(first)
    joined.join(summary(second))
    assert joined == whole


@given(areas=AREAS)
def test_a_summary_comes_back_from_json_as_it_was(areas: list[int]) -> None:
    found = summary(areas, mpp=0.25)
    described = json.loads(json.dumps(found.as_json()))
    assert ObjectSummary.read(described).as_json() == found.as_json()


@given(areas=st.lists(st.integers(1, 100_000), min_size=1, max_size=60), share=st.floats(0.02, 0.98))
def test_a_quantile_is_as_exact_as_a_bin_is_wide(areas: list[int], share: float) -> None:
    found = summary(areas).quantile(share)
    wide = 2 ** (1 / 8) + 1e-9
    low = np.quantile(areas, share, method="inverted_cdf")
    assert found is not None
    assert low / wide <= found <= low * wide


def test_a_summary_of_many_classes_and_sizes_is_small() -> None:
    areas = [int(1.13**step) + 1 for step in range(150)] * 4
    found = summary(areas, classes=[f"class {place % 90}" for place in range(len(areas))], mpp=0.2637)
    assert len(json.dumps(found.as_json())) < 4000
    assert found.classes[OTHER] > 0


def test_density_needs_to_know_how_large_a_pixel_is() -> None:
    assert find_density(50, 1_000_000, 0.5) == pytest.approx(200)
    assert find_density(50, 1_000_000, None) is None


def test_every_image_is_a_row_with_a_column_for_each_class(tmp_path: Path) -> None:
    rows, _ = written(tmp_path, [done("a.png", [10, 20]), failed("b.png", "it is empty")])
    assert [row["name"] for row in rows] == ["a.png", "b.png"]
    assert (rows[0]["objects"], rows[0]["objects_nucleus"], rows[0]["objects_lymphocyte"]) == ("2", "2", "")
    assert (rows[1]["state"], rows[1]["error"], rows[1]["objects"]) == ("failed", "it is empty", "")


def test_both_tables_have_the_same_columns_and_values(tmp_path: Path) -> None:
    rows, made = written(tmp_path, [done("a.png", [10, 20]), done("b.png", [])])
    assert list(rows[0]) == made.column_names
    assert made["objects"].to_pylist() == [int(row["objects"]) for row in rows]
    assert made["object_area_px2"].to_pylist() == [15.0, None]


def test_an_image_that_the_model_resizes_is_told_in_its_own_size(tmp_path: Path) -> None:
    facts = {**FACTS, "own": [300, 400], "own_mpp": 0.25}
    rows, _ = written(tmp_path, [("a.png", "done", facts, result([10]), None)])
    assert (rows[0]["width_px"], rows[0]["height_px"], rows[0]["um_per_px"]) == ("400", "300", "0.25")


def test_flags_stand_in_the_table_by_their_codes(tmp_path: Path) -> None:
    rows, _ = written(tmp_path, [done("a.png", [10], flags=(FLAG, {**FLAG, "code": "unfamiliar"}))])
    assert rows[0]["flags"] == "out_of_focus unfamiliar"


def test_the_page_says_how_many_objects_are_in_how_many_images() -> None:
    page = page_of([done("a.png", [10, 20]), done("b.png", [30])])
    assert "<h1>3 objects in 2 images</h1>" in page
    assert "nothing unusual" in page


def test_flags_are_shown_with_their_text() -> None:
    page = page_of([done("a.png", [10], flags=(FLAG,))])
    assert "a.png: out of focus" in page
    assert "1 image has a warning" in page


def test_failed_images_are_shown_with_their_reasons() -> None:
    page = page_of([done("a.png", [10]), failed("b.png", "the file ends early")])
    assert "1 of 2 images failed" in page
    assert "b.png: the file ends early" in page


def test_a_job_all_of_whose_images_failed_says_so() -> None:
    assert "No image could be segmented" in page_of([failed("b.png", "b.png: it is empty")])


def test_what_could_not_be_told_is_said() -> None:
    assert "could not be told" in page_of([done("a.png", [10], known=None)])


def test_an_order_without_objects_has_no_figures_of_them() -> None:
    page = page_of([("a.png", "done", FACTS, {"foreground_fraction": 0.5, "seams": None}, None)])
    assert "<h1>1 image</h1>" in page
    assert "per mm²" not in page


def test_users_names_are_shown_and_never_obeyed() -> None:
    page = page_of([done("<script>alert(1)</script>.png", [10]), failed("<b>.png", "<i>no</i>")])
    assert "<script>" not in page
    assert "<b>.png" not in page
    assert "<i>no</i>" not in page


def test_the_page_needs_no_network() -> None:
    page = page_of([done("a.png", [10], flags=(FLAG,))], {"a.png": png()})
    assert "://" not in page
    assert "default-src 'none'" in page
    assert "data:image/jpeg;base64," in page


def test_a_picture_on_the_page_is_a_thumbnail_and_leads_to_the_overlay() -> None:
    page = page_of([done("a b.png", [10], flags=(FLAG,))], {"a b.png": png(3000)})
    assert 'href="a%20b.png.overlay.png"' in page
    assert len(page) < 40_000


def test_a_picture_leads_nowhere_if_overlays_were_not_ordered() -> None:
    ordered = replace(ORDERED, parameters={**PARAMETERS, "outputs": ["contact_sheet"]})
    tally = tally_of([done("a.png", [10], flags=(FLAG,))])
    page = draw_summary(ordered, tally, {"a.png": png()}).decode()
    assert "data:image/jpeg;base64," in page
    assert "href" not in page


def test_a_page_is_the_same_whenever_it_is_made() -> None:
    assert "2026-01-01T00:00:00+00:00" in page_of([done("a.png", [10])])


def test_a_name_of_an_image_is_no_formula(tmp_path: Path) -> None:
    rows, made = written(tmp_path, [done("=cmd.png", [10])])
    assert (rows[0]["name"], made["name"].to_pylist()) == ("'=cmd.png", ["=cmd.png"])


def test_no_more_pictures_are_asked_for_than_the_page_shows() -> None:
    tally = tally_of([done(f"{place}.png", [10], flags=(FLAG,)) for place in range(100)])
    assert tally.list_shown() == [f"{place}.png" for place in range(PICTURED)]


def test_thousands_of_images_are_counted_and_some_are_listed() -> None:
    page = page_of([done(f"{place}.png", [10], flags=(FLAG,)) for place in range(LISTED + 50)])
    assert f"<h1>{LISTED + 50} objects in {LISTED + 50} images</h1>" in page
    assert page.count("a.png: out of focus") == LISTED
    assert "and 50 more, in summary.csv" in page


@pytest.mark.long
def test_a_hundred_thousand_images_take_the_memory_of_a_few(tmp_path: Path) -> None:
    image = done("a.png", [10, 20, 30], flags=(FLAG,))

    def peak(count: int) -> int:
        tracemalloc.start()
        _summarise(tmp_path, (image for _ in range(count)))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few = peak(2_000)
    assert peak(20_000) < few * 1.2


def _summarise(folder: Path, images: Iterator[Any]) -> None:
    tally = JobTally()
    with JobTable(folder / "s.csv", folder / "s.parquet", classes=["nucleus"], sums=["area_px2"]) as made:
        for name, *rest in images:
            row = describe_image(name, *rest)
            made.add(row)
            tally.add(name, row, rest[2])
    draw_summary(ORDERED, tally, {})
