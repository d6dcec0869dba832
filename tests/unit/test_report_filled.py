"""From the findings about images to the report about their version."""

import tracemalloc
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from services.worker.reports.contents import DatasetReport
from services.worker.reports.description import describe_report
from services.worker.reports.page import LISTED, draw_report
from services.worker.stages.findings import Finding
from services.worker.stages.gathering import Gathering, Rows
from services.worker.stages.report_contents import Arranged, Compared, Named, fill_report
from shared.examination.duplicates import Duplicates
from shared.examination.images import examine_image
from shared.examination.labels import examine_labels
from shared.schemas.manifests import Problem
from shared.tables.base import Json
from tests.array_slides import ArraySlide, drawn

BLANK = Problem(code="image_blank", severity="warning", text="blank")
DAMAGED = Problem(code="mask_size", severity="error", text="another size")
CLASSES = np.repeat(np.array([[0, 1, 2, 2]], np.uint8), 4, axis=0)


@cache
def examined() -> Json:
    return examine_image(ArraySlide(drawn(1)), check=lambda: None).model_dump(mode="json")


def finding(name: str, **fields: Any) -> Finding:
    return Finding(name=name, image=examined(), **{"source": {"masks": ["m"]}, "mask": "m", **fields})


def filled(
    findings: Sequence[Finding], *, parent: str | None = None, arranged: Arranged | None = None
) -> DatasetReport:
    found = Gathering.of(findings)
    compared = Compared([image for image in found.images if image.portrait], Duplicates([], []), [])
    named = Named("cells", 1 if parent is None else None, parent)
    return fill_report(named, found, compared, arranged or Arranged(layout="coco", why="told"), lambda key: b"")


def test_classes_have_the_names_that_images_have_from_the_background_on() -> None:
    labels = examine_labels(None, CLASSES).model_dump(mode="json")
    names = ["background", "tumour", "stroma"]
    report = filled([finding("a"), finding("b", classes=names, labels=labels)], parent="cells@1")
    page = draw_report(report).decode()
    assert list(report.class_names) == names
    assert ">tumour<" in page
    assert ">background<" not in page


def test_files_that_no_image_uses_are_told_with_their_reasons() -> None:
    ignored = [(f"masks/{number}.png", "a mask without an image") for number in range(LISTED + 50)]
    report = filled([finding("a")], arranged=Arranged(layout="coco", ignored=ignored, notes=["one more thing"]))
    page = draw_report(report).decode()
    assert f"{LISTED + 50} masks belong to no image" in page
    assert "nothing was found" not in page
    assert page.count("a mask without an image") == LISTED
    assert "and 50 more, in dataset_report.json" in page
    assert len(describe_report(report)["ignored"]) == LISTED + 50
    assert describe_report(report)["notes"] == ["one more thing"]


def test_what_was_resolved_in_a_mask_is_told_with_the_images_name() -> None:
    report = filled([finding("a.png", source={"masks": ["m"], "notes": ["crowds, left out: 2"]})])
    assert "a.png: crowds, left out: 2" in draw_report(report).decode()


def test_the_report_says_how_masks_were_read() -> None:
    report = filled([finding("a", mask_kind="binary"), finding("b", mask_kind="binary")])
    assert "foreground and background: 2 images" in draw_report(report).decode()
    assert describe_report(report)["masks"] == {"binary": 2}


def test_a_version_that_preprocess_made_was_not_read_by_a_layout() -> None:
    page = draw_report(filled([finding("a")], parent="cells@1", arranged=Arranged(layout="plain"))).decode()
    assert "Read as" not in page


def test_an_image_without_a_mask_is_warned_of_where_others_have_one() -> None:
    found = Gathering.of([finding("a"), finding("b", mask=None, source={})])
    found.warn_of_missing_masks()
    assert [problem.code for image in found.images for problem in image.problems] == ["mask_missing"]
    assert found.images[1].problems[0].text.startswith("b: the image has no mask, though 1 of")
    bare = Gathering.of([finding("a", mask=None, source={}), finding("b", mask=None, source={})])
    bare.warn_of_missing_masks()
    assert not any(image.problems for image in bare.images)


def test_images_that_are_rejected_are_compared_with_none() -> None:
    found = Gathering.of([finding("a", problems=[DAMAGED]), finding("b")])
    assert [image.name for image in found.images if image.portrait is not None] == ["b"]


def test_what_all_variants_of_a_tile_have_is_told_once() -> None:
    def variant(number: int, top: int) -> Finding:
        source = {"image": "a.png", "box": [top, 0, top + 64, 64], "variant": number}
        return finding(f"a_r{top}_v{number:02d}", source=source, problems=[BLANK])

    report = filled([variant(number, top) for top in (0, 64) for number in range(3)], parent="cells@1")
    assert [image.name for image in report.warned] == ["a_r0_v00", "a_r64_v00"]


def test_rows_are_those_of_the_findings_with_what_was_found_out_later() -> None:
    one = finding("a", split="train", classes=["background", "x"])
    found = Gathering.of([one])
    assert Rows(found.images)[0] == one.as_row()
    found.images[0].problems.append(DAMAGED)
    found.images[0].related = "b"
    row = Rows(found.images)[0:1][0]
    assert (row["state"], row["problems"][0]["code"], row["source"]["related"]) == ("rejected", "mask_size", ["b"])


def test_names_that_a_database_does_not_keep_are_handed_on_as_it_does() -> None:
    handed = Finding(name="a", classes=["a\x00b"], source={"done": ["\ud800"]}).as_json()
    assert (handed["classes"], handed["source"]) == (["a\ufffdb"], {"done": ["\ufffd"]})


def test_findings_are_kept_in_a_few_kilobytes_each() -> None:
    labels = examine_labels(drawn(1)[:, :, 0] // 255, None).model_dump(mode="json")

    def walk() -> Iterator[Finding]:
        for number in range(300):
            yield finding(f"{number}", labels=labels).model_copy(deep=True)

    tracemalloc.start()
    found = Gathering.of(walk())
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept / len(found.images) < 6000  # bytes
