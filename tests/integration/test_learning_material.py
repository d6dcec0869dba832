"""What a training fetches: bytes that are gone or wrong are named as the user knows them, and can be sent again."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy.orm import Session

from services.trainer.fetching import fetch_material
from services.trainer.job import read_order
from shared.database import Sessions
from shared.domain import datasets, jobs, objects, sealing, uploads
from shared.domain.objects import Content
from shared.errors import Missing
from shared.execution import Work
from shared.schemas.datasets import FileIn
from shared.schemas.training import TrainIn
from shared.storage import Storage, object_key
from shared.tables import Job, Workspace
from tests.rows import make_dispatcher

NAMES = ["images/a.png", "images/b.png", "masks/a.png", "masks/b.png"]
FILES = [FileIn(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), bytes=len(name)) for name in NAMES]


@pytest.fixture
def job(session: Session, storage: Storage, workspace: Workspace) -> Job:
    """To train on files that each hold their name."""
    dataset = datasets.create(session, workspace.id, "cohort")
    rows = objects.announce(session, workspace.id, [Content(file.sha256, file.bytes) for file in FILES])
    for file in FILES:
        storage.put(rows[file.sha256].key, file.name.encode())
    version, _ = sealing.seal(session, storage, dataset, FILES)
    order = TrainIn(kind="train", dataset_version=version.id, model="learnt")
    return jobs.submit(session, make_dispatcher(), workspace.id, order, key="train")


@pytest.mark.parametrize("number", [1, 3], ids=["image", "mask"])
def test_a_file_of_other_bytes_is_named_and_asked_for_again(
    session: Session, sessions: Sessions, storage: Storage, job: Job, tmp_path: Path, number: int
) -> None:
    storage.put(object_key(job.workspace_id, FILES[number].sha256), FILES[number].name.upper().encode())
    called = {1: "images/b.png", 3: "the mask of images/b.png"}[number]
    with pytest.raises(Missing, match=f"^{called}: the stored bytes .* upload the file again"):
        fetch(sessions, storage, job, tmp_path)
    targets = uploads.request(session, storage, job.workspace_id, FILES)
    assert [file.name for file, target in zip(FILES, targets, strict=True) if target.url] == [NAMES[number]]


def test_a_file_that_is_gone_fails_the_training_for_good(
    sessions: Sessions, storage: Storage, job: Job, tmp_path: Path
) -> None:
    storage.delete(object_key(job.workspace_id, FILES[0].sha256))
    with pytest.raises(Missing, match=r"^images/a\.png: its bytes are not in the object store any more"):
        fetch(sessions, storage, job, tmp_path)


def fetch(sessions: Sessions, storage: Storage, job: Job, cache: Path) -> None:
    work = cast("Work", SimpleNamespace(claim=SimpleNamespace(job=job), check=lambda: None))
    fetch_material(sessions, storage, work, read_order(job.spec), cache=cache)
