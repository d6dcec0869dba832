"""Preprocess as a job: the versions it makes, and when it need not make one."""

import pytest
from sqlalchemy.orm import Session

from shared.domain import blocks, manifests
from shared.domain.blocks import ImageOutcome, Outcome
from shared.domain.datasets import VersionFile
from shared.domain.dispatch import Dispatcher
from shared.domain.manifests import NewImage, NewManifest
from shared.errors import Conflict
from shared.schemas.manifests import FILE_MISSING
from shared.tables import DatasetVersion, Job
from shared.tables.base import Json
from shared.tables.datasets import FileRole, VersionState
from shared.tables.jobs import JobState, Stage
from tests.dataset_jobs import ERROR, commit, order_preprocess, row, run_preprocess, state_of
from tests.rows import LARGE, must_claim


def test_only_a_ready_version_can_be_preprocessed(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion
) -> None:
    with pytest.raises(Conflict, match="ingest it"):
        order_preprocess(session, dispatcher, version, "greyscale")


def test_a_preprocess_makes_a_new_ready_version_that_knows_its_steps(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    job = order_preprocess(session, dispatcher, ready, "greyscale", "split")
    run_preprocess(session, dispatcher, job)
    made = manifests.find_result(session, job)
    assert made is not None
    assert (made.state, made.number, made.parent_id) == (VersionState.READY, ready.number + 1, ready.id)
    assert [step["step"] for step in made.steps] == ["greyscale"], "of those that a model carries"
    assert made.origin["preprocess"]["version"]["id"] == str(ready.id)


def test_the_same_steps_again_give_the_same_version_without_work(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    first = order_preprocess(session, dispatcher, ready, "greyscale")
    run_preprocess(session, dispatcher, first)
    again = order_preprocess(session, dispatcher, ready, "greyscale")
    claim = must_claim(session, again)
    assert claim.block.stage is Stage.CLOSE
    commit(session, dispatcher, claim, Outcome())
    results = [manifests.find_result(session, job) for job in (first, again)]
    assert results[0] is not None
    assert results[1] is not None
    assert results[0].id == results[1].id


def test_twins_that_preprocess_at_once_make_one_version(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    twins = [order_preprocess(session, dispatcher, ready, "greyscale") for _ in range(2)]
    for job in twins:
        run_preprocess(session, dispatcher, job)
    results = [manifests.find_result(session, job) for job in twins]
    assert len({result.id for result in results if result}) == 1
    assert all(state_of(session, job) is JobState.SUCCEEDED for job in twins)


@pytest.mark.parametrize(
    ("cause", "problems"),
    [
        ({"type": "lost", "detail": "the process or its machine died"}, []),
        ({"type": "input", "detail": "gone"}, [{"code": FILE_MISSING, "severity": "error", "text": "gone"}]),
    ],
)
def test_what_lacks_images_for_a_passing_reason_is_not_given_to_who_orders_the_same_again(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion, cause: Json, problems: list[Json]
) -> None:
    first, second = (run_lacking(session, dispatcher, ready, cause, problems) for _ in range(2))
    results = [manifests.find_result(session, job) for job in (first, second)]
    assert [result.number for result in results if result] == [ready.number + 1, ready.number + 2]


def test_an_image_that_can_never_be_preprocessed_is_no_reason_to_try_again(
    session: Session, dispatcher: Dispatcher, ready: DatasetVersion
) -> None:
    run_lacking(session, dispatcher, ready, ERROR, [])
    assert order_preprocess(session, dispatcher, ready, "greyscale").spec["known"]


def run_lacking(
    session: Session, dispatcher: Dispatcher, version: DatasetVersion, cause: Json, problems: list[Json]
) -> Job:
    """A preprocess of two images, one of which fails for that cause."""
    job = order_preprocess(session, dispatcher, version, "greyscale")
    found = [NewImage(name, LARGE, {}) for name in ("a.png", "b.png")]
    commit(session, dispatcher, must_claim(session, job), Outcome(found=found))
    claim = must_claim(session, job)
    assert claim.image is not None
    commit(session, dispatcher, claim, Outcome(images=[ImageOutcome(claim.image.id)]))
    assert blocks.fail(session, dispatcher, must_claim(session, job), cause, attempts=1)
    images = [row("images/a.png"), row("b.png", accepted=False) | {"problems": problems}]
    files = [VersionFile("images/a.png", "1" * 64, 5, FileRole.IMAGE)]
    manifest = NewManifest(layout="plain", summary={}, images=images, files=files)
    commit(session, dispatcher, must_claim(session, job), Outcome(manifest=manifest))
    commit(session, dispatcher, must_claim(session, job), Outcome())
    assert state_of(session, job) is JobState.PARTIAL
    return job
