"""Rounds of tidying up remove what nobody wants, as far as the store lets them."""

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from services.worker.settings import SweeperSettings
from services.worker.tidying import tidy
from shared.domain import collection, objects
from shared.domain.objects import Content
from shared.domain.rounds import MOST_FAILURES
from shared.errors import Unavailable
from shared.settings import Settings
from shared.storage import Storage
from shared.tables import StoredObject, Upload, Workspace
from tests.integration.test_deletion import HOUR, age, store


class Stubborn(Storage):
    """A store that does not remove the objects of some keys."""

    def __init__(self, settings: Settings, kept: set[str]) -> None:
        super().__init__(settings)
        self._kept = kept

    def delete(self, key: str) -> None:
        if key in self._kept:
            raise Unavailable(f"the object store refused {key}")
        super().delete(key)


def test_a_round_of_tidying_removes_objects_and_uploads_that_nobody_wants(
    session: Session, settings: Settings, storage: Storage, workspace: Workspace
) -> None:
    key = store(session, storage, workspace.id)
    row = {"workspace_id": workspace.id, "sha256": "0" * 64, "bytes": 20 * 2**20, "part_bytes": 16 * 2**20}
    with session.begin():
        session.add(Upload(**row, key=f"{key}-large", store_upload=storage.begin_parts(f"{key}-large")))
        session.flush()
        session.execute(update(Upload).values(created_at=func.now() - func.make_interval(0, 0, 0, 3)))
    removed = tidy(session, storage, SweeperSettings.model_validate(settings.model_dump()))
    assert (removed.objects, removed.uploads) == (1, 1)
    assert list(storage.list_begun(key)) == []


def test_an_object_that_cannot_be_removed_holds_up_no_other(
    session: Session, settings: Settings, workspace: Workspace
) -> None:
    contents = [Content(f"{number:064x}", 5) for number in range(5)]
    keys = [row.key for row in objects.announce(session, workspace.id, contents).values()]
    age(session)
    assert collection.collect(session, Stubborn(settings, {keys[2]}), seconds=HOUR) == 4
    with session.begin():
        assert session.scalars(select(StoredObject.key)).all() == [keys[2]]


def test_a_store_that_is_away_is_not_asked_for_every_object(
    session: Session, settings: Settings, workspace: Workspace
) -> None:
    contents = [Content(f"{number:064x}", 5) for number in range(2 * MOST_FAILURES)]
    keys = {row.key for row in objects.announce(session, workspace.id, contents).values()}
    age(session)
    with pytest.raises(Unavailable):
        collection.collect(session, Stubborn(settings, keys), seconds=HOUR)
