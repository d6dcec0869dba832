"""An image of an evaluate job against its mask, which lies in the store."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest

from services.worker.context import Context
from services.worker.stages import score
from services.worker.stages.score import Scored, Scoring, check_truth, read_truth, score_small
from shared.annotations import write_labels
from shared.errors import Missing, Rejected
from shared.imaging.drawing import draw_nuclei
from shared.imaging.metrics.accumulating import AnswerBlock, Evidence
from shared.imaging.tiling import plan_blocks
from shared.storage import Storage
from shared.tables import JobImage

IMAGE, LABELS = draw_nuclei(96, 130, seed=3, stain="fluorescence")
ANSWER = AnswerBlock(
    (LABELS > 0).astype(np.uint8), LABELS.astype(np.uint32), np.where(LABELS > 0, 250, 3).astype(np.uint8)[None]
)


@pytest.fixture
def context(storage: Storage, tmp_path: Path) -> Context:
    return cast("Context", SimpleNamespace(storage=storage, settings=SimpleNamespace(cache_dir=tmp_path)))


def keep(storage: Storage, mask: np.ndarray, *, kind: str = "instances", **entry: Any) -> JobImage:
    """An image with that mask in the store."""
    body, key = write_labels(mask.astype(np.int32)), f"tests/{uuid4()}"
    storage.put(key, body)
    stored = {"bucket": None, "key": key, "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "etag": None}
    known = {"name": "a.png", "model": 0, "split": "test", "group": None, "mask_kind": kind, "types": None, **entry}
    known["mask"] = {"name": "masks/a.tif", "verified": True, **stored}
    return JobImage(id=uuid4(), job_id=uuid4(), workspace_id=uuid4(), name="a.png", entry=known)


def read(context: Context, image: JobImage) -> score.Truth:
    return read_truth(context, image, height=96, width=130)


def test_numbers_of_instances_are_objects(context: Context, storage: Storage) -> None:
    truth = read(context, keep(storage, LABELS))
    assert truth.labels is not None
    assert np.array_equal(truth.labels > 0, LABELS > 0)
    assert truth.classes is None


def test_numbers_of_a_binary_mask_are_foreground(context: Context, storage: Storage) -> None:
    truth = read(context, keep(storage, (LABELS > 0) * 255, kind="binary"))
    assert truth.classes is not None
    assert set(np.unique(truth.classes)) == {0, 1}


def test_numbers_of_classes_are_classes(context: Context, storage: Storage) -> None:
    truth = read(context, keep(storage, LABELS % 4, kind="classes"))
    assert truth.classes is not None
    assert (int(truth.classes.max()), truth.tells_classes) == (3, True)


def test_objects_may_have_classes_beside_them(context: Context, storage: Storage) -> None:
    types = keep(storage, LABELS % 3).entry["mask"]
    truth = read(context, keep(storage, LABELS, types=types))
    assert truth.classes is not None
    assert (truth.labels is not None, int(truth.classes.max())) == (True, 2)


def test_a_mask_of_another_size_is_refused(context: Context, storage: Storage) -> None:
    with pytest.raises(Rejected, match="make them the same size"):
        read(context, keep(storage, LABELS[:50]))


def test_a_mask_that_is_gone_is_missed(context: Context, storage: Storage) -> None:
    image = keep(storage, LABELS)
    storage.delete(image.entry["mask"]["key"])
    with pytest.raises(Missing, match="masks/a"):
        read(context, image)


def test_an_image_too_large_for_a_mask_is_refused(context: Context, storage: Storage) -> None:
    with pytest.raises(Rejected, match="with the step `tile`"):
        read_truth(context, keep(storage, LABELS), height=100_000, width=100_000)


def test_a_perfect_answer_is_scored_so_and_pictured(context: Context, storage: Storage) -> None:
    image = keep(storage, LABELS)
    findings, artifacts = score_small(context, image, read(context, image), pixels=IMAGE, answer=ANSWER, classes=2)
    found = Scored.model_validate(findings[0])
    row = Evidence.from_json(found.evidence).row
    assert (row["aji"], row["jaccard"], row["count_error"]) == (1, 1, 0)
    assert (found.name, found.model, found.split) == ("a.png", 0, "test")
    assert storage.get(found.panel).startswith(b"\x89PNG")
    assert [artifact.name for artifact in artifacts] == ["panels/a.png.png"]


def test_the_baseline_is_scored_once_and_not_for_each_model(context: Context, storage: Storage) -> None:
    scored = []
    for model in (0, 1):
        image = keep(storage, LABELS, model=model)
        findings, _ = score_small(context, image, read(context, image), pixels=IMAGE, answer=ANSWER, classes=2)
        scored.append(Scored.model_validate(findings[0]))
    assert scored[0].baseline is not None
    assert (scored[0].baseline["f1"] or 0) > 0.5
    assert scored[1].baseline is None


def test_blocks_score_as_the_image_does(context: Context, storage: Storage) -> None:
    image = keep(storage, LABELS)
    truth = read(context, image)
    whole, _ = score_small(context, image, truth, pixels=IMAGE, answer=ANSWER, classes=2)
    scoring = Scoring(image, truth, height=96, width=130, classes=2)
    for box in plan_blocks(96, 130, side=37):
        scoring.add(box, score.cut_answer(ANSWER, box))
    parts, _ = scoring.end(context, lambda box: IMAGE[box.slices()], lambda box: score.cut_answer(ANSWER, box))
    assert parts == whole


def test_of_a_large_image_the_baseline_tells_pixels_alone(
    context: Context, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = read(context, keep(storage, LABELS))
    _, small = score.score_baseline(lambda box: IMAGE[box.slices()], truth, 96, 130)
    monkeypatch.setattr(score, "WHOLE", 1)
    _, large = score.score_baseline(lambda box: IMAGE[box.slices()], truth, 96, 130)
    assert "aji" in small.row
    assert "aji" not in large.row


def test_a_model_of_two_classes_is_scored_on_the_foreground_of_several(context: Context, storage: Storage) -> None:
    image = keep(storage, LABELS % 4, kind="classes")
    findings, _ = score_small(context, image, read(context, image), pixels=IMAGE, answer=ANSWER, classes=2)
    evidence = Evidence.from_json(Scored.model_validate(findings[0]).evidence)
    assert evidence.matrix is None
    assert evidence.row["recall"] == 1


def test_a_binary_mask_says_nothing_about_the_classes_of_a_model(context: Context, storage: Storage) -> None:
    image = keep(storage, (LABELS > 0) * 255, kind="binary")
    findings, _ = score_small(context, image, read(context, image), pixels=IMAGE, answer=ANSWER, classes=4)
    evidence = Evidence.from_json(Scored.model_validate(findings[0]).evidence)
    assert evidence.matrix is None
    assert not [name for name in evidence.row if name.startswith("jaccard_class")]


def test_a_void_label_is_one_class_more_and_not_a_hundred(context: Context, storage: Storage) -> None:
    image = keep(storage, np.where(LABELS % 4 == 3, 255, LABELS % 4), kind="classes")
    findings, _ = score_small(context, image, read(context, image), pixels=IMAGE, answer=ANSWER, classes=3)
    evidence = Evidence.from_json(Scored.model_validate(findings[0]).evidence)
    assert evidence.matrix is not None
    assert evidence.matrix.shape == (4, 4)
    assert "jaccard_class_3" not in evidence.row


def test_a_mask_that_does_not_fit_is_found_before_anything_is_predicted(context: Context, storage: Storage) -> None:
    with pytest.raises(Rejected, match="make them the same size"):
        check_truth(context, keep(storage, LABELS[:50]), height=96, width=130)


def test_an_image_too_large_to_be_scored_is_found_before_its_mask_is_fetched(
    context: Context, storage: Storage
) -> None:
    image = keep(storage, LABELS)
    storage.delete(image.entry["mask"]["key"])
    with pytest.raises(Rejected, match="with the step `tile`"):
        check_truth(context, image, height=100_000, width=100_000)
