"""The report about a dataset version, as page and as JSON."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.worker.reports.contents import (
    DatasetReport,
    ReportImage,
    ReportPair,
    choose_contacts,
    choose_examples,
)
from services.worker.reports.description import describe_report
from services.worker.reports.page import draw_report
from services.worker.reports.pictures import draw_labelled_thumbnail, fit_labels
from shared.examination.images import examine_image
from shared.examination.labels import examine_labels
from shared.examination.summary import ImageRecord, summarise
from shared.examination.thumbnails import decode_thumbnail, encode_thumbnail
from shared.imaging.drawing import draw_nuclei
from shared.schemas.manifests import Problem
from tests.array_slides import ArraySlide, flat

HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>{{ 7*7 }}\u202e.png'
VOID = {"meta", "img", "link", "br", "rect", "line", "polyline"}
IMAGE, LABELS = draw_nuclei(128, 128, seed=1, stain="histology")
THUMBNAIL = encode_thumbnail(IMAGE)
RECORD = ImageRecord(
    "a.png",
    accepted=True,
    split="train",
    examination=examine_image(ArraySlide(IMAGE), check=lambda: None),
    labels=examine_labels(LABELS, (LABELS > 0).astype(np.uint8)),
)


def problem(code: str, text: str, *, error: bool) -> Problem:
    return Problem(code=code, severity="error" if error else "warning", text=text)


def full_report(*, count: int = 3, name: str = "images/a.png") -> DatasetReport:
    """One with something of everything, `count` of each."""
    rejected = [picture(name, problem("mask_missing", f"{name}: no mask", error=True)) for _ in range(count)]
    warned = [picture(name, problem("image_blank", f"{name}: blank", error=False)) for _ in range(count)]
    pairs = [ReportPair("abutting", f"{name}: goes on", warned[0], rejected[0], 0.93)] * count
    return DatasetReport(
        dataset=name,
        version=2,
        created="2026-01-01T00:00:00Z",
        layout="images_masks",
        detected="told from folders",
        summary=summarise([RECORD, replace(RECORD, split=name, problems=warned[0].problems)]),
        parent=name,
        steps=[name, "tile 256"],
        class_names=["background", name],
        rejected=rejected,
        warned=warned,
        leaks=pairs,
        duplicates=pairs,
        contacts=[picture(name)] * count,
    )


def picture(name: str, *problems: Problem) -> ReportImage:
    return ReportImage(name, "train", 128, 128, problems, THUMBNAIL)


class Page(HTMLParser):
    """Tags must nest; everything a tag refers to is kept."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data

    def sources(self) -> Iterator[str]:
        return (value for name, value in self.attributes if name in {"src", "href", "action", "data", "srcset"})


def test_every_tag_is_closed_where_it_belongs() -> None:
    page = Page(draw_report(full_report()))
    assert page.open == []
    assert {"svg", "section", "img", "h1"} <= set(page.tags)


def test_a_hostile_name_is_shown_and_does_nothing() -> None:
    page = Page(draw_report(full_report(name=HOSTILE)))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.words
    assert "{{ 7*7 }}" in page.words


@given(name=st.text(max_size=60))
def test_no_name_breaks_the_page(name: str) -> None:
    known, page = Page(draw_report(full_report(count=1))), Page(draw_report(full_report(count=1, name=name)))
    assert set(page.tags) == set(known.tags)
    assert page.open == []


def test_the_page_refers_to_nothing_outside_itself() -> None:
    page = draw_report(full_report())
    assert all(source.startswith("data:image/jpeg;base64,") for source in Page(page).sources())
    assert b"http://" not in page
    assert b"https://" not in page
    assert not re.search(rb"url\(|@import", page)


def test_the_headline_counts_what_became_of_the_images() -> None:
    records = [RECORD, RECORD, replace(RECORD, accepted=False)]
    report = replace(full_report(), summary=summarise(records))
    assert report.headline == "2 images accepted, 1 rejected, 0 with warnings"
    assert report.headline in Page(draw_report(report)).words


def test_rejected_images_come_first_each_with_reason() -> None:
    words = Page(draw_report(full_report(count=2))).words
    places = [words.index(title) for title in ("Rejected images", "Leaks between splits", "Warnings", "Duplicates")]
    assert places == sorted(places)
    assert words.count("images/a.png: no mask") == 2


def test_thousands_of_findings_make_no_endless_page() -> None:
    page = draw_report(full_report(count=3000))
    assert Page(page).tags.count("img") == 60 + 48
    assert len(page) < 3_000_000
    assert "and 2,800 more" in Page(page).words


def test_a_picture_that_is_no_thumbnail_is_left_out() -> None:
    huge = replace(picture("a.png"), thumbnail=b"\xff" * 1_000_000)
    assert len(draw_report(replace(full_report(), contacts=[huge] * 10))) < 1_000_000


def test_a_version_without_a_usable_image_says_what_to_do() -> None:
    report = replace(full_report(), summary=summarise([replace(RECORD, accepted=False)]))
    assert "No image can be used" in Page(draw_report(report)).words


def test_an_empty_report_is_a_page() -> None:
    report = DatasetReport("a", 1, "2026-01-01", "plain", "no masks", summarise([]))
    assert Page(draw_report(report)).open == []


def test_what_preprocess_made_is_told_by_its_parent_and_steps() -> None:
    report = replace(full_report(), version=None, layout="", parent="cohort@3", steps=["greyscale", "tile"])
    words = Page(draw_report(report)).words
    assert "Made from cohort@3 by greyscale, tile" in words
    assert "Read as" not in words


def test_every_chart_is_described_to_those_who_do_not_see_it() -> None:
    page = Page(draw_report(full_report()))
    assert page.tags.count("svg") >= 3
    assert page.tags.count("desc") == page.tags.count("svg") == page.attributes.count(("role", "img"))


def test_the_description_has_every_finding_and_is_json() -> None:
    described = json.loads(json.dumps(describe_report(full_report(count=700, name=HOSTILE))))
    assert len(described["rejected"]) == len(described["warned"]) == len(described["leaks"]) == 700
    assert described["rejected"][0]["problems"][0]["code"] == "mask_missing"
    assert described["summary"]["accepted"] == 2


@given(codes=st.lists(st.sampled_from("abcd"), max_size=40), limit=st.integers(4, 20))
def test_examples_show_every_kind_before_a_kind_twice_more(codes: list[str], limit: int) -> None:
    chosen = [codes[place] for place in choose_examples(codes, limit)]
    assert len(chosen) == min(len(codes), limit)
    assert set(chosen) == set(codes)


@given(count=st.integers(0, 1000), limit=st.integers(1, 60))
def test_the_contact_sheet_shows_different_images(count: int, limit: int) -> None:
    chosen = choose_contacts(count, limit)
    assert len(set(chosen)) == min(count, limit)
    assert all(0 <= place < count for place in chosen)


def test_two_touching_objects_are_outlined_in_two_colours() -> None:
    labels = np.zeros((256, 256), np.uint16)
    labels[60:200, 40:128], labels[60:200, 128:220] = 1, 2
    drawn = decode_thumbnail(draw_labelled_thumbnail(flat(128, height=256, width=256), labels)).astype(int)
    one, other = drawn[100, 127], drawn[100, 128]
    assert np.abs(one - other).max() > 60
    assert np.abs(drawn[100, 80] - 128).max() < 20


@given(number=st.integers(1, 70_000))
def test_no_label_is_too_large_to_be_outlined(number: int) -> None:
    labels = np.zeros((64, 64), np.uint32)
    labels[16:48, 16:48] = number
    drawn = decode_thumbnail(draw_labelled_thumbnail(flat(128), labels)).astype(int)
    assert np.ptp(drawn, axis=2).max() > 60


def test_a_dim_image_is_brightened() -> None:
    dim = np.zeros((256, 256, 3), np.uint8)
    dim[64:128] = 12
    assert decode_thumbnail(draw_labelled_thumbnail(dim, None)).max() > 200


@pytest.mark.parametrize(("height", "width"), [(256, 100), (1, 1), (100, 256), (30, 30)])
def test_a_labelled_thumbnail_is_a_small_jpeg(height: int, width: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    with Image.open(BytesIO(draw_labelled_thumbnail(pixels, np.ones((height, width), np.uint8)))) as drawn:
        assert drawn.format == "JPEG"
        assert max(drawn.size) <= 256


@given(rows=st.integers(1, 50), columns=st.integers(1, 50), factor=st.integers(1, 4))
def test_fitted_labels_are_those_at_the_middle_of_each_pixel(rows: int, columns: int, factor: int) -> None:
    small = np.arange(rows * columns, dtype=np.uint32).reshape(rows, columns)
    large = small.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(fit_labels(large, rows, columns), small)
