"""What jobs wrote for themselves alone, removed once they are over: all that no artifact is.

Probabilities that nobody ordered, objects of regions, parts of masks; of jobs that failed or were cancelled whatever
they had got to; and what workers wrote after they had lost their block.
"""

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from shared.domain import rounds
from shared.storage import Storage, job_key
from shared.tables import Artifact, Job
from shared.tables.jobs import JobKind

ROUND = 100  # jobs of one round
PAGE = 1000  # objects looked at together
SEGMENTING = (JobKind.SEGMENT, JobKind.EVALUATE)  # all that others write into the store is wanted


def remove(session: Session, storage: Storage, *, seconds: float) -> int:
    """Remove the leftovers of jobs that ended more than `seconds` ago; returns of how many jobs.

    Any number may do so at once, and be killed at any time: a job is marked when nothing is left to remove.
    """
    # In no fixed order: those whose objects the store does not remove must not be the first of every round.
    over = select(Job.id).where(*_untidied(seconds)).order_by(func.random()).limit(ROUND)
    with session.begin():
        found = session.scalars(over).all()
    return rounds.remove_each(found, lambda job_id: _tidy(session, storage, job_id))


def _tidy(session: Session, storage: Storage, job_id: UUID) -> bool:
    for keys in _list_pages(storage, job_id):
        storage.delete_many(_find_unknown(session, job_id, keys))
    mark = update(Job).where(Job.id == job_id, Job.tidied_at.is_(None)).values(tidied_at=func.now())
    with session.begin():
        return session.scalar(mark.returning(Job.id)) is not None


def _list_pages(storage: Storage, job_id: UUID) -> Iterator[list[str]]:
    listed = storage.list_objects(job_key(job_id, ""))
    while page := [found.key for found in islice(listed, PAGE)]:
        yield page


def _find_unknown(session: Session, job_id: UUID, keys: list[str]) -> list[str]:
    """Those of the keys that no artifact of the job has."""
    with session.begin():
        known = set(session.scalars(select(Artifact.key).where(Artifact.job_id == job_id, Artifact.key.in_(keys))))
    return [key for key in keys if key not in known]


def _untidied(seconds: float) -> tuple[ColumnElement[bool], ...]:
    lately = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    return Job.kind.in_(SEGMENTING), Job.tidied_at.is_(None), Job.finished_at < lately
