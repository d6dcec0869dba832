"""What CLOSE writes follows from the rows alone: a try that comes late writes what its successor wrote."""

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from services.worker.stages.close import CRATE, NAME, close
from shared.database import Sessions
from shared.domain import blocks
from shared.domain.blocks import Claim
from shared.domain.dispatch import Dispatcher
from shared.errors import LeaseLost, NotFound
from shared.storage import Storage, job_key
from shared.tables import Workspace
from shared.tables.jobs import Stage
from tests.rows import must_claim, outcome_of, submit


@pytest.fixture
def context(sessions: Sessions, storage: Storage) -> Any:
    return SimpleNamespace(sessions=sessions, storage=storage)


@pytest.fixture
def claim(session: Session, dispatcher: Dispatcher, workspace: Workspace) -> Claim:
    """To close a job."""
    job = submit(session, dispatcher, workspace)
    while (claim := must_claim(session, job)).block.stage is not Stage.CLOSE:
        assert blocks.commit(session, dispatcher, claim, outcome_of(claim))
    return claim


def test_a_late_try_writes_what_its_successor_wrote(
    session: Session, dispatcher: Dispatcher, context: Any, claim: Claim
) -> None:
    work: Any = SimpleNamespace(claim=claim, check=lambda: None)
    first = close(context, work)
    assert blocks.commit(session, dispatcher, claim, first)
    assert close(context, work) == first


@pytest.mark.parametrize("name", [NAME, CRATE])
def test_who_lost_the_block_writes_nothing(context: Any, storage: Storage, claim: Claim, name: str) -> None:
    def check() -> None:
        raise LeaseLost

    work: Any = SimpleNamespace(claim=claim, check=check)
    with pytest.raises(LeaseLost):
        close(context, work)
    with pytest.raises(NotFound):
        storage.get(job_key(claim.job.id, name))
