"""Equal bytes are one object, and versions are made of them."""

import hashlib
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import datasets, objects, sealing, versions
from shared.domain.datasets import VersionFile
from shared.domain.file_roles import folders_of
from shared.domain.objects import Content, Verified
from shared.errors import Invalid
from shared.schemas.datasets import FileIn
from shared.storage import Listed, Storage, Stored, object_key
from shared.tables import Dataset, DatasetVersion, StoredObject, Workspace
from shared.tables.datasets import FileRole, VersionState
from tests.rows import add_version

CELLS, BELLS = (Content(hashlib.sha256(body).hexdigest(), len(body)) for body in (b"cells", b"bells"))


@pytest.fixture
def dataset(session: Session, workspace: Workspace) -> Dataset:
    return datasets.create(session, workspace.id, "cohort")


def put(storage: Storage, dataset: Dataset, body: bytes) -> Stored:
    return storage.put(object_key(dataset.workspace_id, hashlib.sha256(body).hexdigest()), body)


def sealed(session: Session, storage: Storage, dataset: Dataset, **bodies: bytes) -> DatasetVersion:
    """A version of files `name.png`, whose bytes are put where uploads would put them."""
    stored = {name: put(storage, dataset, body) for name, body in bodies.items()}
    files = [FileIn(name=f"{name}.png", sha256=one.sha256, bytes=one.bytes) for name, one in stored.items()]
    return sealing.seal(session, storage, dataset, files)[0]


def test_the_same_bytes_announced_again_are_the_same_object(session: Session, workspace: Workspace) -> None:
    first = objects.announce(session, workspace.id, [CELLS, BELLS])
    again = objects.announce(session, workspace.id, [CELLS])
    assert again[CELLS.sha256].id == first[CELLS.sha256].id
    assert first[CELLS.sha256].key == object_key(workspace.id, CELLS.sha256)


def test_an_object_that_a_dataset_had_before_objects_were_shared_is_found(
    session: Session, workspace: Workspace
) -> None:
    with session.begin():
        old = StoredObject(workspace_id=workspace.id, key="datasets/x/objects/y", sha256=CELLS.sha256, bytes=5)
        session.add(old)
    assert objects.announce(session, workspace.id, [CELLS])[CELLS.sha256].id == old.id


def test_a_foreign_object_is_not_taken_for_an_own_one_of_the_same_hash(session: Session, workspace: Workspace) -> None:
    with session.begin():
        foreign = objects.register(session, workspace.id, "lab", [Listed("a.png", 5, "e")])["a.png"]
        objects.mark_verified(session, {foreign.id: Verified(CELLS.sha256, "e")})
        assert objects.find(session, workspace.id, [CELLS.sha256]) == {}


def test_a_foreign_object_that_was_replaced_is_another_one(session: Session, workspace: Workspace) -> None:
    with session.begin():
        first, again, replaced = (
            objects.register(session, workspace.id, "lab", [Listed("a.png", 5, etag)])["a.png"].id
            for etag in ("one", "one", "two")
        )
    assert first == again
    assert first != replaced


def test_a_version_that_a_job_makes_finds_or_makes_its_objects(session: Session, dataset: Dataset) -> None:
    file = VersionFile("a.png", CELLS.sha256, 5, FileRole.IMAGE)
    with session.begin():
        version = datasets.add_version(session, dataset, files=[file], state=VersionState.READY)
        again = datasets.add_version(session, dataset, files=[file], state=VersionState.READY)
    assert (version.number, version.state, version.images) == (1, VersionState.READY, 1)
    assert again.id == version.id
    with session.begin():
        found = datasets.files_by_name(session, dataset.workspace_id, version.id)
    assert found["a.png"].object.sha256 == CELLS.sha256


def test_derived_files_belong_to_the_version_and_replace_those_of_a_job_before(
    session: Session, storage: Storage, dataset: Dataset
) -> None:
    version = sealed(session, storage, dataset, a=b"cells")
    digest = version.digest
    for body in (b"first", b"second"):
        stored = put(storage, dataset, body)
        derived = VersionFile("labels/a.tif", stored.sha256, stored.bytes, FileRole.DERIVED)
        with session.begin():
            datasets.add_derived(session, version, [derived])
    with session.begin():
        files = datasets.files_by_name(session, dataset.workspace_id, version.id)
        session.refresh(version)
    roles = {name: file.role.value for name, file in files.items()}
    assert roles == {"a.png": "image", "labels/a.tif": "derived"}
    assert storage.get(files["labels/a.tif"].object.key) == b"second"
    assert version.digest == digest


def test_sealing_tells_from_names_what_files_are_for(session: Session, storage: Storage, dataset: Dataset) -> None:
    stored = put(storage, dataset, b"cells")
    names = ["images/a.png", "masks/a.png", "notes.txt", "slide.zarr/.zattrs", "slide.zarr/0/0"]
    files = [FileIn(name=name, sha256=stored.sha256, bytes=stored.bytes) for name in names]
    version, _ = sealing.seal(session, storage, dataset, files)
    with session.begin():
        rows = datasets.list_files(session, dataset.workspace_id, version.id)
    assert [row.role.value for row in rows] == ["image", "mask", "other", "part", "part"]
    assert (version.images, version.masks) == (2, 1)
    assert version.origin["detected"]["layout"] == "images_masks"


def test_a_version_goes_on_from_the_newest_or_the_one_that_is_named(
    session: Session, storage: Storage, dataset: Dataset
) -> None:
    first, second = (sealed(session, storage, dataset, a=body) for body in (b"1", b"2"))
    stored = put(storage, dataset, b"3")
    file = FileIn(name="a.png", sha256=stored.sha256, bytes=1)
    third, _ = sealing.seal(session, storage, dataset, [file], parent=1)
    assert [found.parent for found in versions.describe(session, [first, second, third])] == [None, 1, 1]


def test_a_parent_that_is_not_there_is_refused(session: Session, storage: Storage, dataset: Dataset) -> None:
    stored = put(storage, dataset, b"3")
    with pytest.raises(Invalid, match="no version 9"):
        sealing.seal(session, storage, dataset, [FileIn(name="a", sha256=stored.sha256, bytes=1)], parent=9)


def test_a_version_differs_from_another_by_its_files(session: Session, storage: Storage, dataset: Dataset) -> None:
    old = sealed(session, storage, dataset, same=b"1", changed=b"2", removed=b"3")
    new = sealed(session, storage, dataset, same=b"1", changed=b"other", added=b"4")
    found = versions.compare(session, old, new)
    assert found.counts == {"added": 1, "removed": 1, "changed": 1, "same": 1}
    assert (found.added, found.removed, found.changed) == (["added.png"], ["removed.png"], ["changed.png"])


def test_files_come_in_pages_without_gap_or_double(session: Session, workspace: Workspace) -> None:
    version = add_version(session, workspace, names := [f"{number}.png" for number in range(7)])
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = versions.list_files(session, version, role=None, cursor=cursor, limit=3)
        seen += [file.name for file in page]
        if cursor is None:
            break
    assert seen == names


@pytest.mark.parametrize("cursor", ["x", "1", "1.x", f"-1.{uuid4()}", f"99999999999.{uuid4()}", f"².{uuid4()}"])
def test_a_cursor_that_is_not_ours_is_refused(session: Session, workspace: Workspace, cursor: str) -> None:
    version = add_version(session, workspace, ["a"])
    with pytest.raises(Invalid, match="cursor"):
        versions.list_files(session, version, role=None, cursor=cursor, limit=3)


def test_a_foreign_object_that_was_read_gives_its_files_their_hash(session: Session, dataset: Dataset) -> None:
    with session.begin():
        foreign = objects.register(session, dataset.workspace_id, "lab", [Listed("a.png", 5, "e")])["a.png"]
        file = VersionFile("a.png", None, 5, FileRole.IMAGE, foreign.id)
        version = datasets.add_version(session, dataset, files=[file], digest="d")
        objects.mark_verified(session, {foreign.id: Verified(CELLS.sha256, "e")})
    with session.begin():
        (row,) = datasets.list_files(session, dataset.workspace_id, version.id)
    assert (row.sha256, row.object.verified_at is not None) == (CELLS.sha256, True)


def test_what_was_known_of_an_object_is_forgotten_with_its_row_alone(session: Session, workspace: Workspace) -> None:
    row = objects.announce(session, workspace.id, [CELLS])[CELLS.sha256]
    with session.begin():
        objects.mark_verified(session, {row.id: Verified(row.sha256 or "", "e")})
        session.refresh(row)
        assert (row.etag, row.verified_at is None) == ("e", False)
        objects.doubt(session, [row.id])
    with session.begin():
        found = session.scalars(select(StoredObject)).one()
        session.refresh(found)
    assert (found.etag, found.verified_at) == (None, None)


def test_a_tag_that_is_known_outlasts_a_reading_that_asked_for_none(session: Session, workspace: Workspace) -> None:
    row = objects.announce(session, workspace.id, [CELLS])[CELLS.sha256]
    with session.begin():
        for etag in ("e", None):
            objects.mark_verified(session, {row.id: Verified(CELLS.sha256, etag)})
        session.refresh(row)
    assert row.etag == "e"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.png", "a.png"], "a name of its own"),
        (["derived/masks/a.png.tif"], "is kept for what jobs make"),
        (["x.zarr/a", "x.zarr/a/b"], "a file and of a folder at once, which no disk can hold: x.zarr/a$"),
    ],
)
def test_names_that_cannot_stand_beside_each_other_are_refused(
    session: Session, storage: Storage, dataset: Dataset, names: list[str], reason: str
) -> None:
    stored = put(storage, dataset, b"cells")
    files = [FileIn(name=name, sha256=stored.sha256, bytes=5) for name in names]
    with pytest.raises(Invalid, match=reason):
        sealing.seal(session, storage, dataset, files)


@pytest.mark.parametrize("name", ["é" * 128 + ".png", "d/" * 32 + "a.png"])
def test_names_that_no_disk_can_hold_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="are the most that disks hold"):
        FileIn(name=name, sha256="0" * 64, bytes=5)


@given(st.lists(st.text("ab/", min_size=1, max_size=6), max_size=6))
def test_a_folder_is_what_a_name_goes_on_from_with_a_slash(names: list[str]) -> None:
    folders = folders_of(names)
    assert all(any(name.startswith(f"{folder}/") for name in names) for folder in folders)
    assert all(name.rpartition("/")[0] in folders for name in names if "/" in name)


def test_what_a_job_made_has_its_own_size_whatever_was_announced_before(session: Session, dataset: Dataset) -> None:
    objects.announce(session, dataset.workspace_id, [Content(CELLS.sha256, 4)])
    file = VersionFile("a.png", CELLS.sha256, 5, FileRole.IMAGE)
    with session.begin():
        version = datasets.add_version(session, dataset, files=[file])
    with session.begin():
        (row,) = datasets.list_files(session, dataset.workspace_id, version.id)
    assert row.object.bytes == 5, "no more are fetched"
