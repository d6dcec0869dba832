"""TRANSFORM by itself: what is refused before the work, what is told of what was made."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest

from services.worker.context import Context
from services.worker.stages.arrange import split_images
from services.worker.stages.findings import Finding
from services.worker.stages.keeping import Keeper
from services.worker.stages.transform import drop_usual, keep_made, refuse_large
from shared.annotations import suffix_of, write_image
from shared.errors import Rejected
from shared.examination.images import examine_image
from shared.imaging.drawing import draw_nuclei
from shared.imaging.steps.meaning import Meaning, follow
from shared.imaging.steps.transform import Source, transform
from shared.imaging.steps.truth import Truth
from shared.imaging.steps.views import Frame, View
from shared.schemas.manifests import Problem
from shared.schemas.steps import as_json, read_steps
from shared.slides import HeldSlide, open_slide
from shared.storage import Stored
from shared.tables import DatasetImage, JobImage

SIDE = 100_000
IMAGE = JobImage(
    id=uuid4(), job_id=uuid4(), workspace_id=uuid4(), name="a.png", entry={"stem": "a", "digest": "d", "related": ["b"]}
)


class Shelf:
    """A store that holds what is put into it."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def put(self, key: str, body: bytes) -> Stored:
        self.content[key] = body
        return Stored(key, "0" * 64, len(body))


def make(*steps: dict[str, Any], classes: tuple[str, ...] = ()) -> list[Finding]:
    """What is found out about the outputs of steps on an image of specks of 3 px."""
    labels = np.zeros((64, 64), np.int32)
    labels[10:13, 10:13], labels[30:33, 40:43] = 1, 2
    ordered = as_json(read_steps(steps))
    context = SimpleNamespace(storage=Shelf(), settings=SimpleNamespace(cache_dir=Path("/nowhere")))
    keeper = Keeper(cast("Context", context), IMAGE, derived=False)
    meaning = follow(Meaning("instances", classes), ordered)
    view = View.of(draw_nuclei(64, 64, seed=0, stain="histology")[0])
    findings = [
        keep_made(made, meaning, IMAGE, keeper, check=lambda: None)
        for made in transform(view, Truth(labels), ordered, Source("d"))
    ]
    drop_usual(findings)
    return findings


class TestTooLarge:
    @pytest.mark.parametrize(
        ("steps", "reason"),
        [
            ([{"step": "augment"}], "add the step `tile`"),
            ([{"step": "median"}, {"step": "split"}, {"step": "augment", "variants": 2}], "add the step `tile`"),
            ([{"step": "resize", "scale": 2.5}, {"step": "tile"}], "250000 × 250000 px, and 40,000,000,000 px are"),
            ([{"step": "resize", "scale": 2.5}, {"step": "tile", "only_tissue": True}], "choose a smaller scale"),
        ],
    )
    def test_a_slide_is_refused_before_any_of_it_is_read(self, steps: list[dict[str, Any]], reason: str) -> None:
        with pytest.raises(Rejected, match=f"^a.svs: .*{reason}"):
            refuse_large(Frame("a.svs", SIDE, SIDE), as_json(read_steps(steps)))


class TestMasks:
    def test_a_mask_that_opening_emptied_is_told_and_the_image_kept(self) -> None:
        [finding] = make({"step": "opening", "radius": 4})
        assert [problem.code for problem in finding.problems] == ["mask_empty"]
        assert finding.errors == []

    def test_tiles_that_hold_nothing_are_not_told_where_others_hold_something(self) -> None:
        findings = make({"step": "tile", "size": 16})
        assert any(finding.labels["foreground"] == 0 for finding in findings)
        assert [finding.problems for finding in findings] == [[]] * 16

    def test_that_no_tile_holds_anything_is_told_once(self) -> None:
        findings = make({"step": "opening", "radius": 4}, {"step": "tile", "size": 16})
        assert [problem.code for finding in findings for problem in finding.problems] == ["mask_empty"]

    def test_a_class_that_has_no_name_after_the_steps_is_a_warning(self) -> None:
        [finding] = make({"step": "merge"}, classes=("background",))
        assert finding.errors == []

    def test_what_an_image_must_not_be_parted_from_goes_with_what_is_made_of_it(self) -> None:
        assert {tuple(finding.source["related"]) for finding in make({"step": "tile", "size": 32})} == {("b",)}


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_in_memory_is_examined_as_its_file_would_be(channels: int, tmp_path: Path) -> None:
    pixels = np.ascontiguousarray(draw_nuclei(90, 70, seed=1, stain="histology")[0][:, :, :channels])
    body = write_image(pixels[:, :, 0] if channels == 1 else pixels)
    path = tmp_path / f"a{suffix_of(body)}"
    path.write_bytes(body)
    with open_slide(path, name="a") as slide:
        read = examine_image(slide, check=lambda: None)
    held = examine_image(HeldSlide(pixels, format="png"), check=lambda: None)
    assert held.model_dump() == read.model_dump()
    assert held.thumbnail == read.thumbnail


def image(name: str, *related: str, group: str | None = None) -> DatasetImage:
    return DatasetImage(name=name, group=group, source={"related": list(related)})


class TestSplits:
    @pytest.mark.parametrize("seed", range(8))
    def test_two_copies_of_an_image_always_land_in_one_split(self, seed: int) -> None:
        images = [image(f"{number}.png") for number in range(6)] + [image("copy.png", "x"), image("x.png", "x")]
        sides = split_images(images, [{"step": "split", "validation": 0.4, "seed": seed}])
        assert sides["copy.png"] == sides["x.png"]

    @pytest.mark.parametrize("seed", range(8))
    def test_groups_that_hold_copies_of_each_other_are_not_parted(self, seed: int) -> None:
        images = [image("a1", "a2", group="a"), image("a2", group="a"), image("b1", "a2", group="b")]
        images += [image("b2", group="b"), image("c"), image("d")]
        sides = split_images(images, [{"step": "split", "validation": 0.5, "seed": seed}])
        assert len({sides[name] for name in ("a1", "a2", "b1", "b2")}) == 1

    @pytest.mark.parametrize("by", ["list", "group"])
    def test_a_list_that_parts_copies_is_refused(self, by: str) -> None:
        images = [image("a", "a"), image("b", "a"), image("c")]
        with pytest.raises(Rejected, match="ingest found to be alike, or cut from one: a, b … belong together"):
            split_images(images, [{"step": "split", "by": by, "validation_names": ["b"]}])


def test_a_warning_about_a_whole_image_stays() -> None:
    problem = Problem(code="mask_empty", severity="warning", text="a: nothing is marked")
    findings = [Finding(name="a", source={"box": None}, problems=[problem])]
    drop_usual(findings)
    assert findings[0].problems == [problem]
