"""Places in a lab's own buckets whose files may be registered where they lie. Only an administrator allows one."""

import re
from collections.abc import Sequence
from itertools import islice
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.errors import Conflict, Invalid, NotFound
from shared.layouts.parts import gather
from shared.schemas.datasets import MAX_FILES, NAME, check_file_name
from shared.storage import Listed, Storage
from shared.tables import Source

PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")


def add(session: Session, workspace_id: UUID, name: str, place: str, *, own_bucket: str) -> Source:
    """Let the workspace register what lies below `place` (s3://bucket/prefix/) under that name.

    Raises Conflict if the name is taken, Invalid for what is no such place, or lies in the platform's own bucket: there
    it would open what belongs to other workspaces.
    """
    found = PLACE.fullmatch(place)
    if re.fullmatch(NAME, name) is None:
        raise Invalid(f"{name!r} is no name: letters, digits, dots, dashes and underscores, a letter or digit first")
    if found is None:
        raise Invalid(f"{place!r} is no place in a bucket, such as s3://bucket/prefix/")
    if found["bucket"] == own_bucket:
        raise Invalid(f"{own_bucket} is the platform's own bucket; files in it need no registering, and are not shared")
    source = Source(
        workspace_id=workspace_id, name=name, bucket=found["bucket"], prefix=_as_folder(found["prefix"] or "")
    )
    try:
        with session.begin():
            session.add(source)
    except IntegrityError as error:
        raise Conflict(f"a source named {name!r} exists already; remove it first, or choose another name") from error
    return source


def list_all(session: Session, workspace_id: UUID) -> Sequence[Source]:
    """The workspace's sources, by name."""
    with session.begin():
        return session.scalars(select(Source).where(Source.workspace_id == workspace_id).order_by(Source.name)).all()


def remove(session: Session, workspace_id: UUID, name: str) -> None:
    """Allow it no longer; what was registered stays registered. Raises NotFound."""
    with session.begin():
        named = delete(Source).where(Source.workspace_id == workspace_id, Source.name == name)
        removed = session.scalars(named.returning(Source.id)).all()
    if not removed:
        raise _unknown(name)


def find(session: Session, workspace_id: UUID, name: str) -> Source:
    """The source of that name. Raises NotFound."""
    with session.begin():
        source = session.scalar(select(Source).where(Source.workspace_id == workspace_id, Source.name == name))
    if source is None:
        raise _unknown(name)
    return source


def list_below(storage: Storage, source: Source, path: str) -> dict[str, Listed]:
    """The files of the folder `path` of the source, by their names relative to it.

    Hidden files and what systems write for themselves stay out. Raises Invalid where there is nothing, or too much, or
    a name that no file of a dataset may have.
    """
    folder = source.prefix + _as_folder(path)
    place = f"s3://{source.bucket}/{folder}"
    try:
        listed = list(islice(storage.list_objects(folder, bucket=source.bucket), 2 * MAX_FILES))
    except NotFound as error:
        raise Invalid(f"the object store has no bucket {source.bucket}") from error
    files = {one.key[len(folder) :]: one for one in listed if not one.key.endswith("/")}
    for name in gather(files).litter:
        del files[name]
    if not files:
        raise Invalid(f"there are no files below {place}")
    if len(files) > MAX_FILES or len(listed) == 2 * MAX_FILES:
        raise Invalid(
            f"more than {MAX_FILES:,} files lie below {place}: register folders of it, each as a dataset of its own"
        )
    for name in files:
        try:
            check_file_name(name)
        except ValueError as error:
            raise Invalid(f"{place} holds a file that cannot be registered: {error}") from error
    return files


def _as_folder(path: str) -> str:
    """With a slash at its end, so that `cohort-7` is never the beginning of `cohort-70`; the empty path stays empty."""
    return f"{path.strip('/')}/" if path.strip("/") else ""


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"there is no source {name!r} in your workspace; an administrator allows one with `overtile-admin source add`"
    )
