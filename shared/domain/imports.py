"""Imports: models that were trained elsewhere come in by their files, and are made ready as any other."""

from uuid import UUID, uuid4

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain import models, stages
from shared.domain.dispatch import Dispatcher
from shared.domain.model_files import ModelFiles
from shared.domain.models import NewModelVersion
from shared.errors import Conflict, Invalid
from shared.schemas.references import Alias
from shared.storage import Storage, model_key
from shared.tables import Job, Model, ModelVersion
from shared.tables.jobs import JobKind, JobState, Stage
from shared.tables.models import ModelState


def import_model(
    session: Session,
    storage: Storage,
    dispatcher: Dispatcher,
    workspace_id: UUID,
    package: ModelFiles,
    *,
    alias: str | None = None,
) -> ModelVersion:
    """Store and register a model; `alias` stands for it once it is ready. The same files again give the same version.

    The version's job (of kind `import`) lets a worker load it: nobody may call it ready before it gave its known
    answer. Raises Invalid for an alias that is none, Conflict if the same files are being loaded under another alias.
    """
    _check_alias(alias)
    model_id = models.ensure(session, workspace_id, package.name)
    with session.begin():
        # One at a time per model, also while the bytes are on their way: a twin finds the first one's version.
        session.execute(select(Model.id).where(Model.id == model_id).with_for_update())
        version = _find_same(session, model_id, package)
        if version is None:
            version = _add(session, storage, model_id, _make_job(workspace_id, model_id, package, alias), package)
        elif alias is not None:
            _take_alias(session, version, alias)
    dispatcher.ring_due(session)
    return version


def _check_alias(alias: str | None) -> None:
    try:
        TypeAdapter(Alias | None).validate_python(alias)
    except ValidationError as error:
        raise Invalid(f"{alias!r} is no alias: one begins with a letter, letters, digits and . _ - follow") from error


def _find_same(session: Session, model_id: UUID, package: ModelFiles) -> ModelVersion | None:
    """The newest version of these very files that is ready, or may still become so."""
    same = (
        select(ModelVersion)
        .outerjoin(Job, Job.id == ModelVersion.job_id)
        .where(ModelVersion.model_id == model_id, ModelVersion.files == package.hashes)
        .where((ModelVersion.state == ModelState.READY) | Job.state.in_((JobState.QUEUED, JobState.RUNNING)))
        .where(ModelVersion.state != ModelState.FAILED)
    )
    newest = same.order_by(ModelVersion.number.desc()).limit(1)
    return session.scalar(newest.execution_options(populate_existing=True))


def _make_job(workspace_id: UUID, model_id: UUID, package: ModelFiles, alias: str | None) -> Job:
    job_id = uuid4()  # the version's id too, as with a training
    model = {"id": str(model_id), "name": package.name, "version_id": str(job_id), "digest": package.digest}
    return Job(
        id=job_id,
        workspace_id=workspace_id,
        kind=JobKind.IMPORT,
        spec={"parameters": {}, "model": model, "alias": alias},
        idempotency_key=f"import {job_id}",
        order_digest=package.digest,
    )


def _add(session: Session, storage: Storage, model_id: UUID, job: Job, package: ModelFiles) -> ModelVersion:
    for file, body in package.files.items():
        storage.put(model_key(model_id, job.id, file), body)
    session.add(job)
    session.flush()
    stages.add_block(session, job, None, Stage.LOAD)
    new = NewModelVersion(model_id, package.digest, package.hashes, package.contract, package.card)
    return models.register(session, job, new)


def _take_alias(session: Session, version: ModelVersion, alias: str) -> None:
    if version.state is ModelState.READY:
        models.set_alias(session, version, alias)
        return
    job = session.get_one(Job, version.job_id)
    if job.spec.get("alias") != alias:
        raise Conflict(f"these files are being loaded already, by job {job.id}; promote the version once it is ready")
