"""Files on their way into the store: each is sent once, and large ones in parts, so that a broken line costs a part.

The bytes never pass the API. What has arrived is asked of the store whenever it matters; the rows say only which upload
of the store is meant, so that whoever goes on with a file goes on with the same one.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.domain import objects, rounds
from shared.domain.objects import Content
from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.schemas.datasets import FileIn
from shared.storage import OBJECTS, Begun, Listed, Part, Storage
from shared.tables import StoredObject, Upload

UPLOAD_SECONDS = 3600  # how long an upload URL works
LOOKUPS = 16  # questions to the store at once
LEAF_BYTES = 16 * 2**20  # files above it go in parts of it, or of a multiple
MOST_PARTS = 10_000  # of one object (the S3 limit)
URLS_PER_FILE = 200  # in one answer, so that it stays small; the client asks again for more
URLS_AT_ONCE = 1000  # the same, for all files together
TRIES = 3  # to begin an upload that the store forgets
ROUND = 100  # abandoned uploads of one round of the sweeper


@dataclass(frozen=True)
class Parts:
    """A large file that goes in parts, and where to send those that the store does not have yet.

    `urls` holds some of them only where there are many, and none where the answer is full: ask again then.
    """

    part_bytes: int
    urls: Mapping[int, str]  # by number, from 1
    held: int  # parts that the store has
    upload: UUID | None = None  # names it in messages; None: not begun


@dataclass(frozen=True)
class Target:
    """Where to send a file: whole, or in parts; neither if the store holds it."""

    url: str | None = None
    parts: Parts | None = None


def part_bytes_of(size: int) -> int:
    """Bytes of each part but the last of a file of `size` bytes."""
    return LEAF_BYTES * -(-size // (LEAF_BYTES * MOST_PARTS))


def request(session: Session, storage: Storage, workspace_id: UUID, files: Sequence[FileIn]) -> list[Target]:
    """For each file where to send it, to nowhere if the workspace has these bytes, whatever dataset they came with.

    Raises Invalid for a file that is known by its hash and has another size.
    """
    rows = objects.announce(session, workspace_id, [Content(file.sha256, file.bytes) for file in files])
    _check_sizes(rows, files)
    held = look_up(storage, rows)
    _doubt_lost(session, rows, held)
    targets: dict[str, Target] = {}
    left = URLS_AT_ONCE
    for file in files:
        there = held[file.sha256]
        if there is not None and there.bytes == file.bytes:
            targets[file.sha256] = Target()
        elif file.bytes <= LEAF_BYTES:
            targets[file.sha256] = Target(storage.upload_url(rows[file.sha256].key, seconds=UPLOAD_SECONDS))
        elif file.sha256 not in targets:
            parts = _go_on(session, storage, rows[file.sha256], file, most=min(left, URLS_PER_FILE))
            targets[file.sha256] = Target(parts=parts)
            left -= len(parts.urls)
    return [targets[file.sha256] for file in files]


def complete(session: Session, storage: Storage, workspace_id: UUID, sha256: str) -> Content:
    """Make the object of the parts that have arrived. Twice is as once, from whichever client.

    Raises NotFound for a file that nobody asked to upload, Conflict where parts are missing or the store has lost them:
    ask for the upload again then.
    """
    with session.begin():
        row = objects.find(session, workspace_id, [sha256]).get(sha256)
        upload = session.scalar(_uploads(workspace_id, sha256))
        if row is not None:
            objects.touch(session, [row.id])
    if row is None:
        raise NotFound(f"nobody asked to upload a file of sha256 {sha256}; ask for upload URLs first")
    if upload is not None:
        _assemble(session, storage, upload)
    there = storage.look(row.key)
    if there is None or (upload is not None and there.bytes != upload.bytes):
        raise Conflict(f"the object store lacks parts of the file of sha256 {sha256}; ask for the upload again")
    return Content(sha256, there.bytes)


def look_up(storage: Storage, rows: Mapping[str, StoredObject]) -> dict[str, Listed | None]:
    """What the store says of each object, by hash."""
    with ThreadPoolExecutor(LOOKUPS) as pool:
        found = pool.map(lambda row: storage.look(row.key), rows.values())
        return dict(zip(rows, found, strict=True))


def abort_abandoned(session: Session, storage: Storage, *, seconds: float) -> int:
    """Give up uploads in parts that nobody went on with for `seconds`; returns how many.

    Also those that the store knows and no row names: whoever began them was killed before it could note them.
    """

    def give_up(upload: Upload) -> bool:
        storage.abort_parts(upload.key, upload.store_upload)
        _forget(session, upload)
        return True

    def give_up_unknown(begun: Begun) -> bool:
        with session.begin():
            known = session.scalar(select(exists().where(Upload.store_upload == begun.upload, Upload.key == begun.key)))
        if not known:
            storage.abort_parts(begun.key, begun.upload)
        return not known

    abandoned = rounds.remove_each(_find_abandoned(session, seconds), give_up)
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    old = [begun for begun in storage.list_begun(OBJECTS) if begun.since < since]
    return abandoned + rounds.remove_each(old, give_up_unknown)


def _check_sizes(rows: Mapping[str, StoredObject], files: Sequence[FileIn]) -> None:
    """Bytes that were read whole have one size: who announces another one errs, and must not write over them."""
    for file in files:
        row = rows[file.sha256]
        if row.verified_at is not None and row.bytes != file.bytes:
            raise Invalid(
                f"{file.name}: the file of sha256 {file.sha256} has {row.bytes} bytes, and {file.bytes} are announced; "
                "hash the file again"
            )


def _doubt_lost(session: Session, rows: Mapping[str, StoredObject], held: Mapping[str, Listed | None]) -> None:
    """An object that was read whole once and is gone will be another when it comes again."""
    lost = [row.id for sha256, row in rows.items() if held[sha256] is None and row.verified_at is not None]
    if lost:
        with session.begin():
            objects.doubt(session, lost)


def _go_on(session: Session, storage: Storage, row: StoredObject, file: FileIn, *, most: int) -> Parts:
    """What the store lacks of a large file; begun anew if it has forgotten what it had."""
    size = part_bytes_of(file.bytes)
    if most == 0:
        return Parts(size, {}, 0)
    for _ in range(TRIES):
        upload = _find(session, storage, row, file) or _begin(session, storage, row, file)

        try:
            arrived = _sound(storage.list_parts(upload.key, upload.store_upload), upload)
        except NotFound:  # completed or given up a moment ago, or lost when the store was started again
            _forget(session, upload)
            continue
        lacking = [number for number in range(1, _count(upload) + 1) if number not in arrived][:most]
        urls = {
            number: storage.part_url(upload.key, upload.store_upload, number, seconds=UPLOAD_SECONDS)
            for number in lacking
        }
        return Parts(upload.part_bytes, urls, len(arrived), upload.id)
    raise Unavailable(f"the object store forgets the upload of {file.name} as soon as it has begun; try again later")


def _find(session: Session, storage: Storage, row: StoredObject, file: FileIn) -> Upload | None:
    with session.begin():
        upload = session.scalar(_uploads(row.workspace_id, file.sha256))
    if upload is not None and (upload.bytes, upload.key) != (file.bytes, row.key):  # of another size: one of them errs
        storage.abort_parts(upload.key, upload.store_upload)
        _forget(session, upload)
        return None
    return upload


def _begin(session: Session, storage: Storage, row: StoredObject, file: FileIn) -> Upload:
    """A new upload, or the one that somebody else began at the same moment."""
    name = storage.begin_parts(row.key)
    values = {
        "id": uuid4(),
        "workspace_id": row.workspace_id,
        "sha256": file.sha256,
        "bytes": file.bytes,
        "part_bytes": part_bytes_of(file.bytes),
        "key": row.key,
        "store_upload": name,
    }
    # Updated where there is one, to nothing new: that locks the row, so that nobody ends it before it is read.
    noted = insert(Upload).values(values)
    noted = noted.on_conflict_do_update(index_elements=["workspace_id", "sha256"], set_={"sha256": file.sha256})
    with session.begin():
        upload = session.scalars(noted.returning(Upload), execution_options={"populate_existing": True}).one()
    if upload.store_upload != name:
        storage.abort_parts(row.key, name)
    return upload


def _assemble(session: Session, storage: Storage, upload: Upload) -> None:
    try:
        arrived = _sound(storage.list_parts(upload.key, upload.store_upload), upload)
        if len(arrived) < _count(upload):
            raise Conflict(
                f"{_count(upload) - len(arrived)} of {_count(upload)} parts of the file of sha256 {upload.sha256} have "
                "not arrived; ask where to send them"
            )
        storage.complete_parts(upload.key, upload.store_upload, arrived)
    except NotFound:
        pass  # it is complete, or lost: the object itself will tell
    _forget(session, upload)


def _sound(parts: Mapping[int, Part], upload: Upload) -> dict[int, Part]:
    """Those parts that have the size they should have."""
    last = _count(upload)
    rest = upload.bytes - (last - 1) * upload.part_bytes
    return {
        number: part
        for number, part in parts.items()
        if number <= last and part.bytes == (rest if number == last else upload.part_bytes)
    }


def _count(upload: Upload) -> int:
    return -(-upload.bytes // upload.part_bytes)


def _forget(session: Session, upload: Upload) -> None:
    with session.begin():
        session.execute(delete(Upload).where(Upload.id == upload.id))


def _uploads(workspace_id: UUID, sha256: str) -> Select[Upload]:
    return select(Upload).where(Upload.workspace_id == workspace_id, Upload.sha256 == sha256)


def _find_abandoned(session: Session, seconds: float) -> Sequence[Upload]:
    """Every question for URLs wants the object anew."""
    since = func.now() - timedelta(seconds=seconds)
    wanted = exists().where(
        StoredObject.workspace_id == Upload.workspace_id,
        StoredObject.sha256 == Upload.sha256,
        StoredObject.wanted_at >= since,
    )
    with session.begin():
        abandoned = select(Upload).where(Upload.created_at < since, ~wanted)
        return session.scalars(abandoned.order_by(func.random()).limit(ROUND)).all()
