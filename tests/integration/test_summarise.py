"""The tables and the page of a segment job, from its rows."""

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.worker.context import Context
from services.worker.stages import summarise
from services.worker.stages.summarise import CSV, PAGE, PARQUET, summarise_job
from shared.database import Sessions
from shared.domain.blocks import Outcome
from shared.execution import Work
from shared.imaging.objects.summary import ObjectSummary
from shared.storage import Storage, image_key, job_key
from shared.tables import Job, JobImage, Workspace
from shared.tables.jobs import ImageState
from tests.rows import make_dispatcher, submit
from tests.unit.test_job_summary import FLAG, png, summary

FACTS = {"height": 100, "width": 200, "mpp": 0.5, "tiles": 1}


def end_image(image: JobImage, objects: ObjectSummary, *, flags: list[Any]) -> None:
    quality = {"features": {"focus": -3.0}, "doubt": 0.1, "learnt_from": None, "flags": flags}
    described = {**objects.as_json(), "area_px2": 20_000, "per_mm2": 1.0, "per_mm2_predicted": 1.0}
    image.state, image.facts = ImageState.DONE, FACTS
    image.result = {"foreground_fraction": 0.1, "seams": None, "objects": described, "quality": quality}


@pytest.fixture
def job(session: Session, workspace: Workspace, storage: Storage) -> Job:
    """Three images: of one class, of another class and flagged, and failed."""
    job = submit(session, make_dispatcher(), workspace, images=3)
    with session.begin():
        images = session.scalars(select(JobImage).where(JobImage.job_id == job.id).order_by(JobImage.ordinal)).all()
        end_image(images[0], summary([10, 20]), flags=[])
        end_image(images[1], summary([30], classes=["lymphocyte"]), flags=[FLAG])
        images[2].state, images[2].error = ImageState.FAILED, {"type": "input", "detail": "the file ends early"}
        storage.put(image_key(job.id, images[1].id, "overlay.png"), png())
    return job


@pytest.fixture
def outcome(job: Job, sessions: Sessions, storage: Storage, tmp_path: Path) -> Outcome:
    made = SimpleNamespace(sessions=sessions, storage=storage, settings=SimpleNamespace(cache_dir=tmp_path))
    work = SimpleNamespace(claim=SimpleNamespace(job=job), check=lambda: None)
    return summarise_job(cast("Context", made), cast("Work", work))


def test_the_tables_have_a_row_for_each_image_and_a_column_for_each_class(
    job: Job, outcome: Outcome, storage: Storage
) -> None:
    rows = list(csv.DictReader(io.StringIO(storage.get(job_key(job.id, CSV)).decode())))
    assert [(row["name"], row["state"]) for row in rows] == [
        ("image-0.png", "done"),
        ("image-1.png", "done"),
        ("image-2.png", "failed"),
    ]
    assert [(row["objects_nucleus"], row["objects_lymphocyte"]) for row in rows] == [("2", ""), ("", "1"), ("", "")]


def test_the_parquet_file_has_what_the_csv_has(job: Job, outcome: Outcome, storage: Storage) -> None:
    table = parquet.read_table(pa.BufferReader(storage.get(job_key(job.id, PARQUET))))
    assert table["objects"].to_pylist() == [2, 1, None]
    assert table["flags"].to_pylist() == ["", "out_of_focus", ""]


def test_the_page_shows_flags_with_their_picture_and_failures_with_their_reason(
    job: Job, outcome: Outcome, storage: Storage
) -> None:
    page = storage.get(job_key(job.id, PAGE)).decode()
    assert "3 objects in 2 images" in page
    assert "image-2.png: the file ends early" in page
    assert 'href="image-1.png.overlay.png"' in page


def test_what_was_made_are_artifacts_of_the_job(outcome: Outcome) -> None:
    made = [(artifact.kind, artifact.name) for artifact in outcome.artifacts]
    assert made == [("summary", CSV), ("summary", PARQUET), ("report", PAGE)]
    assert outcome.result == {"images": {"done": 2, "failed": 1}, "objects": 3, "flags": {"out_of_focus": 1}}


def test_of_very_many_channels_the_commonest_have_columns(
    job: Job, session: Session, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summarise, "COLUMNS", 2)
    with session.begin():
        for place, image in enumerate(session.scalars(select(JobImage).where(JobImage.job_id == job.id))):
            image.result = {"objects": {"sums": dict.fromkeys(["mean_b", "mean_a", f"mean_of_{place}"], 1)}}
    found = summarise._find_keys(cast("Context", SimpleNamespace(sessions=sessions)), job, "sums")
    assert found == ["mean_a", "mean_b"]


def test_a_dataset_of_another_workspace_is_not_named(job: Job, sessions: Sessions) -> None:
    context = cast("Context", SimpleNamespace(sessions=sessions))
    stranger = Job(id=job.id, workspace_id=uuid4(), spec=job.spec, created_at=job.created_at)
    assert "@1" in summarise._describe_order(context, job).dataset
    assert summarise._describe_order(context, stranger).dataset == "a dataset that was deleted"
